<?php

declare(strict_types=1);

require __DIR__ . '/../vendor/autoload.php';

use App\Version;

$path = parse_url($_SERVER['REQUEST_URI'] ?? '/', PHP_URL_PATH);

if ($path === '/version') {
    header('Content-Type: application/json');
    echo json_encode(Version::read(__DIR__ . '/../version.json'), JSON_THROW_ON_ERROR), "\n";
} elseif ($path === '/healthz') {
    header('Content-Type: text/plain');
    echo "ok\n";
} else {
    http_response_code(404);
    header('Content-Type: text/plain');
    echo "nothing here\n";
}
