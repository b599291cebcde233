(() => {
'use strict';
const root = document.documentElement, $ = id => document.getElementById(id), patience = 45e3, again = 20e3;
let id = root.dataset.id, skew = Date.now() - Date.parse(root.dataset.now), stream, heard, alarm, retry;

// How long ago, in one unit.
function ago(ms) {
  const s = Math.max(0, ms / 1e3);
  if (s < 5) return 'just now';
  for (const [unit, most, of] of [['s', 60, 1], ['min', 60, 60], ['h', 48, 3600]]) if (s < most * of) return Math.floor(s / of) + '\u00a0' + unit + '\u00a0ago';
  return Math.floor(s / 86400) + '\u00a0days\u00a0ago';
}

// Times in the reader's zone.
function times(part) {
  const now = Date.now() - skew;
  for (const t of part.querySelectorAll('time')) {
    const at = new Date(t.dateTime), age = now - at, hours = {hour: '2-digit', minute: '2-digit'};
    const day = {day: 'numeric', month: 'short'};
    if (age > 300 * 864e5) day.year = 'numeric';
    const at12 = age < 432e5 ? at.toLocaleTimeString([], hours) : at.toLocaleString([], {...day, ...hours});
    const text = age < 6e4 ? ago(age) : at12 + ' (' + ago(age) + ')';
    if (t.textContent != text) t.textContent = text;
    t.title = at.toLocaleString([], {dateStyle: 'full', timeStyle: 'long'});
  }
}

// What a step has taken so far goes on between two messages.
function clocks() {
  for (const c of document.querySelectorAll('[data-ms]')) {
    if (c.seen != c.dataset.ms) { c.seen = c.dataset.ms; c.began = performance.now() - c.seen; }
    const s = Math.max(1, Math.floor((performance.now() - c.began) / 1e3));
    const text = s < 60 ? s + '\u00a0s' : Math.floor(s / 60) + '\u00a0min\u00a0' + s % 60 + '\u00a0s';
    if (c.textContent != text) c.textContent = text;
  }
}

// Makes one element what another is, and leaves alone what is the same in both: focus, selection and open folds stay.
const alike = (a, b) => a.nodeType == b.nodeType && a.nodeName == b.nodeName && a.id == b.id && (a.nodeType != 1 || a.classList[0] == b.classList[0]);
function become(a, b) {
  if (a.nodeType != 1) { if (a.data != b.data) a.data = b.data; return; }
  for (const {name} of [...a.attributes]) if (name != 'open' && !b.hasAttribute(name)) a.removeAttribute(name);
  for (const {name, value} of b.attributes) if (name != 'open' && a.getAttribute(name) != value) a.setAttribute(name, value);
  let at = a.firstChild;
  for (const child of [...b.childNodes]) {
    let same = at;
    while (same && !alike(same, child)) same = child.nodeType == 1 ? same.nextSibling : null;
    if (!same) { a.insertBefore(child, at); continue; }
    while (at != same) { const gone = at; at = at.nextSibling; gone.remove(); }
    become(at, child);
    at = at.nextSibling;
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function take(part) {
  const old = $(part.id);
  if (!old || part.id == 'head' && part.dataset.apps != old.dataset.apps) { location.reload(); return; }
  times(part);
  if (part.dataset.done != old.dataset.done) {
    const p = document.createElement('p');
    p.textContent = part.dataset.say;
    $('said').replaceChildren(p);
  }
  become(old, part);
  clocks();
  if (part.id == 'head') face();
}

// The title and the icon say how things are; without a connection that nobody knows.
const grey = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='none' stroke='%23888' stroke-width='2'/%3E%3C/svg%3E";
let connected = true;
function face() {
  const head = $('head').dataset, icon = document.querySelector('link[rel=icon]');
  document.title = connected ? head.title : 'Not connected · ' + head.title;
  if (icon.href != (connected ? head.icon : grey)) icon.href = connected ? head.icon : grey;
}
function state(ok) {
  connected = ok;
  $('line').className = ok ? 'good' : 'warn';
  $('line').querySelector('span').textContent = ok ? 'Up to date by itself. ' : 'Not connected, trying again. What you see is as of ';
  const t = $('line').querySelector('time');
  t.hidden = ok;
  if (!ok && heard) t.dateTime = heard;
  times($('line'));
  face();
}
function heardOf(now) {
  heard = now;
  skew = Date.now() - Date.parse(now);
  clearTimeout(alarm);
  alarm = setTimeout(() => { state(false); start(); }, patience);
  if (!connected || $('line').className != 'good') state(true);
}

// Where streams do not come through, the page is asked for now and then, as long as somebody looks at it.
function ask() {
  if (document.hidden) return;
  fetch(location.pathname, {cache: 'no-store'}).then(r => r.ok ? r.text() : Promise.reject()).then(text => {
    const page = new DOMParser().parseFromString(text, 'text/html'), now = page.documentElement.dataset;
    if (!now.id) return;
    id = now.id;
    for (const part of page.querySelectorAll('#head, main > section')) take(document.importNode(part, true));
    heard = now.now;
    state(false);
  }).catch(() => {});
}

function start() {
  clearTimeout(retry);
  if (stream) stream.close();
  const s = stream = new EventSource('events?since=' + id);
  s.addEventListener('part', e => {
    const t = document.createElement('template');
    t.innerHTML = e.data;
    take(document.importNode(t.content.firstElementChild, true));
  });
  s.addEventListener('now', e => { id = e.lastEventId; heardOf(e.data); });
  s.onerror = () => {
    clearTimeout(alarm);
    if (document.hidden) s.close();
    else if (s.readyState == 2) { ask(); retry = setTimeout(start, again); }
    setTimeout(() => { if (s == stream && s.readyState != 1) state(false); }, 2500); // ends of streams are nothing to worry about
  };
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && (!stream || stream.readyState == 2)) start();
});
addEventListener('pagehide', () => stream && stream.close());
addEventListener('pageshow', e => e.persisted && start());
times(document);
clocks();
setInterval(clocks, 1e3);
setInterval(() => times(document), 15e3);
start();
})();
