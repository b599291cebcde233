'use strict';

const fs = require('node:fs/promises');
const path = require('node:path');
const writeFileAtomic = require('write-file-atomic');

const MAX_PAGES = 10000; // the rest is counted together, so that a crawler cannot fill the disk
const OTHER = '(other)';

// Store counts page views by page and by day. Every view is on disk before add() resolves: the whole file is written
// beside the old one, synced and renamed over it, so a crash leaves one or the other.
class Store {
  static async open(dir) {
    await fs.mkdir(dir, { recursive: true });
    const file = path.join(dir, 'views.json');
    let state = { pages: {}, days: {} };
    try {
      state = JSON.parse(await fs.readFile(file, 'utf8'));
    } catch (err) {
      if (err.code !== 'ENOENT') throw new Error(`read ${file}: ${err.message}`);
    }
    return new Store(file, state);
  }

  constructor(file, state) {
    this.file = file;
    this.pages = new Map(Object.entries(state.pages));
    this.days = new Map(Object.entries(state.days));
    this.waiting = null; // the write that has not begun yet: it will hold all that is counted until then
    this.writing = Promise.resolve();
  }

  // add counts one view and resolves to the page's views.
  async add(page, now = new Date()) {
    const known = this.pages.has(page) || this.pages.size < MAX_PAGES;
    const name = known ? page : OTHER;
    const day = now.toISOString().slice(0, 10);
    const views = (this.pages.get(name) || 0) + 1;
    this.pages.set(name, views);
    this.days.set(day, (this.days.get(day) || 0) + 1);
    await this.save();
    return views;
  }

  // stats adds the views up: pages by views, most first; days in order.
  stats() {
    const pages = [...this.pages].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
    const days = [...this.days].sort(([a], [b]) => (a < b ? -1 : 1));
    const total = pages.reduce((sum, [, views]) => sum + views, 0);
    return { total, pages: Object.fromEntries(pages), days: Object.fromEntries(days) };
  }

  // save writes once for all views that come while another write is under way.
  save() {
    if (!this.waiting) {
      this.waiting = this.writing.then(() => {
        this.waiting = null;
        const state = { pages: Object.fromEntries(this.pages), days: Object.fromEntries(this.days) };
        return writeFileAtomic(this.file, JSON.stringify(state) + '\n');
      });
      this.writing = this.waiting.catch(() => {}); // one failed write must not fail the next ones
    }
    return this.waiting;
  }
}

module.exports = { Store };
