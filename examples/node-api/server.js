'use strict';

const path = require('node:path');
const { createApp } = require('./app');
const { Store } = require('./store');

const port = Number(process.env.PORT || 3000);
const host = process.env.HOST || '127.0.0.1';
// In a release `data` is a link to the shared directory, which outlives every deployment.
const dataDir = process.env.DATA_DIR || path.join(__dirname, 'data');

async function main() {
  const store = await Store.open(dataDir);
  const server = createApp(store, readVersion()).listen(port, host);

  server.on('listening', () => {
    const { address, port } = server.address();
    console.log(`listening on http://${address}:${port}, data in ${dataDir}`);
  });
  server.on('error', (err) => {
    console.error(`cannot listen on ${host}:${port}: ${err.message}`);
    process.exit(1);
  });

  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => {
      console.log(`${signal}: finishing the requests in flight`);
      server.close(() => process.exit(0));
      server.closeIdleConnections();
    });
  }
}

// version.js is written into the artifact by Towline; a working copy has none.
function readVersion() {
  try {
    return require('./version.js');
  } catch (err) {
    if (err.code !== 'MODULE_NOT_FOUND') throw err;
    return { hash: 'working copy', msg: '', date: '' };
  }
}

main().catch((err) => {
  console.error(`cannot start: ${err.message}`);
  process.exit(1);
});
