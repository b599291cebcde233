'use strict';
// An app whose port stays open while its releases change: systemd listens and hands the socket over, and the old release
// answers what it has accepted before it ends. GET / tells which release answers.

const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');

const hash = release();
let ending = false;

const server = http.createServer((req, res) => res.end(`${hash}\n`));
server.prependListener('request', (req, res) => {
  if (ending) res.setHeader('Connection', 'close'); // the next request comes on another one, to the next release
});
// The socket that systemd holds for us, descriptor 3; or one of our own where there is none.
server.listen(process.env.LISTEN_FDS ? { fd: 3 } : { port: Number(process.env.PORT || 3000), host: '127.0.0.1' });

process.once('SIGTERM', () => {
  ending = true;
  // Who connects from now on waits in the socket for the next release. The server's own close would not do: it closes
  // connections on which nothing has arrived yet, and the next request may be on its way.
  net.Server.prototype.close.call(server, () => process.exit(0));
  // Connections in use are gone after one more answer. Idle ones, as browsers keep them, are not waited for.
  setTimeout(() => server.closeIdleConnections(), 1000).unref();
  setTimeout(() => process.exit(1), 10000).unref();
});

// release is the hash in version.txt beside the program.
function release() {
  try {
    return fs.readFileSync(path.join(__dirname, 'version.txt'), 'utf8').trim();
  } catch {
    return 'working copy';
  }
}
