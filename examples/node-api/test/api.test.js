'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { spawn } = require('node:child_process');
const { test } = require('node:test');
const { createApp } = require('../app');
const { Store } = require('../store');

const version = { hash: 'e02371ab', msg: 'Count views', date: '2026-11-23T13:06:43Z' };

// start serves a store in dir on a free port until the test ends.
async function start(t, dir) {
  const server = createApp(await Store.open(dir), version).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const base = `http://127.0.0.1:${server.address().port}`;
  return async (method, target) => {
    const res = await fetch(base + target, { method, headers: { connection: 'close' } });
    const text = await res.text();
    return { status: res.status, body: text.startsWith('{') ? JSON.parse(text) : text };
  };
}

async function tempDir(t) {
  const dir = await fs.mkdtemp(path.join(os.tmpdir(), 'node-api-'));
  t.after(() => fs.rm(dir, { recursive: true }));
  return dir;
}

test('views are counted by page and by day', async (t) => {
  const call = await start(t, await tempDir(t));
  assert.deepEqual((await call('POST', '/view?page=/')).body, { page: '/', views: 1 });
  assert.deepEqual((await call('GET', '/view?page=/about')).body, { page: '/about', views: 1 });
  assert.deepEqual((await call('POST', '/view?page=/about')).body, { page: '/about', views: 2 });
  const { total, pages, days } = (await call('GET', '/stats')).body;
  assert.equal(total, 3);
  assert.deepEqual(Object.entries(pages), [['/about', 2], ['/', 1]]);
  assert.deepEqual(Object.values(days).reduce((a, b) => a + b), 3);
});

test('many views at once are all counted and all on disk', async (t) => {
  const dir = await tempDir(t);
  const call = await start(t, dir);
  await Promise.all(Array.from({ length: 50 }, (_, i) => call('POST', `/view?page=/${i % 5}`)));
  const again = await Store.open(dir);
  assert.equal(again.stats().total, 50);
  assert.deepEqual(await fs.readdir(dir), ['views.json']);
});

test('a page that is missing or too long is refused', async (t) => {
  const call = await start(t, await tempDir(t));
  for (const target of ['/view', '/view?page=', '/view?page=a&page=b', `/view?page=${'x'.repeat(201)}`]) {
    assert.equal((await call('POST', target)).status, 400, target);
  }
  assert.equal((await call('GET', '/stats')).body.total, 0);
});

test('page names mean nothing to JavaScript', async (t) => {
  const dir = await tempDir(t);
  const call = await start(t, dir);
  assert.equal((await call('POST', '/view?page=__proto__')).body.views, 1);
  assert.equal((await call('POST', '/view?page=constructor')).body.views, 1);
  assert.equal((await Store.open(dir)).stats().total, 2);
});

test('version, health and unknown paths', async (t) => {
  const call = await start(t, await tempDir(t));
  assert.deepEqual((await call('GET', '/version')).body, version);
  assert.equal((await call('GET', '/healthz')).body, 'ok\n');
  assert.equal((await call('GET', '/nowhere')).status, 404);
});

test('a damaged data file stops the start instead of being overwritten', async (t) => {
  const dir = await tempDir(t);
  await fs.writeFile(path.join(dir, 'views.json'), '{"pages":');
  await assert.rejects(Store.open(dir), /read .*views\.json/);
});

test('SIGTERM ends the server in order, and the next one has the data', async (t) => {
  const dir = await tempDir(t);
  const run = async () => {
    const child = spawn(process.execPath, ['server.js'], {
      cwd: path.join(__dirname, '..'),
      env: { ...process.env, PORT: '0', DATA_DIR: dir },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    const [line] = await once(child.stdout.setEncoding('utf8'), 'data');
    return { child, base: line.match(/http:\S+?(?=,)/)[0] };
  };
  const first = await run();
  await fetch(`${first.base}/view?page=/`, { method: 'POST' });
  const ended = once(first.child, 'exit');
  first.child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);

  const second = await run();
  const stats = await (await fetch(`${second.base}/stats`)).json();
  assert.deepEqual(stats.pages, { '/': 1 });
});
