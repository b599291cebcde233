<?php

declare(strict_types=1);

namespace App;

/** The release that answers, as Towline writes it into version.json while it packs; a working copy has none. */
final class Version
{
    /** @return array{hash: string, msg: string, date: string} */
    public static function read(string $file): array
    {
        if (!is_file($file)) {
            return ['hash' => 'working copy', 'msg' => '', 'date' => ''];
        }
        return json_decode((string) file_get_contents($file), true, 4, JSON_THROW_ON_ERROR);
    }
}
