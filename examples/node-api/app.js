'use strict';

const express = require('express');

const MAX_PAGE = 200; // characters

// createApp returns the HTTP interface over a store. version is what GET /version answers.
function createApp(store, version) {
  const app = express();
  app.disable('x-powered-by');

  // GET counts too, so that a page can count itself with an <img>.
  const view = async (req, res, next) => {
    const page = req.query.page;
    if (typeof page !== 'string' || page === '' || page.length > MAX_PAGE) {
      res.status(400).json({ error: `page: want 1 to ${MAX_PAGE} characters` });
      return;
    }
    try {
      const views = await store.add(page);
      res.set('Cache-Control', 'no-store').json({ page, views });
    } catch (err) {
      next(err);
    }
  };
  app.post('/view', view);
  app.get('/view', view);

  app.get('/stats', (req, res) => res.json(store.stats()));
  app.get('/version', (req, res) => res.json(version));
  app.get('/healthz', (req, res) => res.type('text').send('ok\n'));

  app.use((req, res) => res.status(404).json({ error: `nothing at ${req.path}` }));
  app.use((err, req, res, next) => {
    console.error(err);
    if (res.headersSent) {
      next(err);
      return;
    }
    res.status(500).json({ error: 'internal error' });
  });
  return app;
}

module.exports = { createApp };
