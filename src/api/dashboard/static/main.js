// The frame: which page is shown, the connection's state, keys of the keyboard, light and dark.
//
// A page is {title, node, update(names), close(), filter?, refresh?}: `update` is called with what has changed in
// `live.state`, `close` when another one is shown.

import { key } from './api.js';
import { backendPage } from './backend.js';
import { costPage } from './cost.js';
import { closeAll, help } from './dialogs.js';
import { empty, h, put, setAttr, setText } from './dom.js';
import { eventsPage } from './events.js';
import { explainPage } from './explain.js';
import { fleetPage } from './fleet.js';
import { clock, compact, dict, num } from './format.js';
import { keyDialog, keyPanel } from './keys.js';
import { connect, start, state, subscribe } from './live.js';
import { requestsPage } from './requests.js';

const byId = (id) => document.getElementById(id);
const main = byId('main');
const theme = window.vastproxyTheme;
let page = null;
let denied = false;

function lostPage() {
  return { title: 'Not found', node: h('div', {}, h('h1', { tabindex: '-1' }, 'There is no such page'), h('div', { class: 'card' }, empty('Nothing here', 'The pages are named above.'))), update() {}, close() {} };
}

/** The page for what stands behind # in the address, and the name of its tab. */
function pageFor(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [name, ...rest] = path.split('/');
  const about = { query: new URLSearchParams(query) };
  let id = '';
  try { id = decodeURIComponent(rest.join('/')); } catch { return ['', lostPage]; }
  if (name === '' && !rest.length) return ['fleet', fleetPage];
  if (name === 'backend' && id) return ['fleet', () => backendPage({ id })];
  if (name === 'requests') return ['requests', id ? () => explainPage({ id }) : () => requestsPage(about)];
  if (name === 'events' && !id) return ['events', () => eventsPage(about)];
  if (name === 'cost' && !id) return ['cost', () => costPage(about)];
  return ['', lostPage];
}

function show(focus) {
  if (page) page.close();
  page = null;
  closeAll();
  const [tab, make] = pageFor(location.hash);
  for (const link of byId('nav').children) setAttr(link, 'aria-current', link.dataset.page === tab ? 'page' : null);
  if (denied) return;
  page = make();
  put(main, page.node);
  document.title = `${page.title} – vastproxy`;
  page.update(new Set(['fleet', 'events', 'connection']));
  if (focus) {
    scrollTo(0, 0);
    main.querySelector('h1')?.focus({ preventScroll: true });
  }
}

function askForKey() {
  const first = !denied;
  denied = true;
  if (page) page.close();
  page = null;
  if (first) closeAll();
  const panel = keyPanel({ code: state.connection.code, why: state.connection.why }, () => connect());
  put(main, panel.node);
  document.title = 'Key needed – vastproxy';
  panel.field.focus();
}

const CHIPS = {
  connecting: ['connecting …', 'warn'], live: ['live', 'good'], paused: ['paused', ''], denied: ['key needed', 'warn'], lost: ['not connected', 'bad'],
};

function connection() {
  const { is, since, why } = state.connection;
  const chip = byId('connection');
  setText(chip, CHIPS[is][0]);
  setAttr(chip, 'data-level', CHIPS[is][1] || null);
  const trouble = byId('trouble');
  const words = is === 'lost' ? `Not connected since ${clock(since / 1000)}. ${why} It is tried again and again; what you see may be old.` : '';
  if (is !== 'connecting') {
    if (!words) put(trouble);
    else if (trouble.textContent !== words) put(trouble, h('p', { class: 'wide notice', 'data-level': 'bad' }, words));
  }
  setAttr(document.body, 'data-connection', is);
  byId('key').hidden = key.get() === null;
  if (is === 'denied') {
    askForKey();
  } else if (denied && is === 'live') {
    denied = false;
    show(true);
  }
}

function titled() {
  const counts = dict(dict(state.fleet).counts);
  if (page && page.title === 'Fleet' && num(counts.total) !== null) document.title = `${compact(counts.healthy)}/${compact(counts.total)} healthy – vastproxy`;
}

subscribe((names) => {
  if (names.has('connection')) connection();
  if (page) page.update(names);
  if (names.has('fleet')) titled();
});

function themed(now) {
  const other = now === 'dark' ? 'light' : 'dark';
  setText(byId('theme'), other === 'dark' ? 'Dark' : 'Light');
  setAttr(byId('theme'), 'aria-label', `Use ${other} colours`);
}

let leader = 0;
const GO = { f: '#/', r: '#/requests', e: '#/events', c: '#/cost' };
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const typing = event.target.matches('input, textarea, select');
  if (typing) {
    if (event.key === 'Escape' && event.target.type === 'search') {
      event.target.value = '';
      event.target.dispatchEvent(new Event('input'));
      event.target.blur();
    }
    return;
  }
  const waits = Date.now() - leader < 1500;
  leader = 0;
  if (waits && GO[event.key]) location.hash = GO[event.key];
  else if (event.key === 'g') leader = Date.now();
  else if (event.key === '?') help();
  else if (event.key === 't') themed(theme.toggle());
  else if (event.key === '/' && page && page.filter) {
    event.preventDefault();
    page.filter.focus();
  }
}

byId('theme').addEventListener('click', () => themed(theme.toggle()));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => themed(theme.seen()));
byId('key').addEventListener('click', () => keyDialog(() => connect()));
byId('help').addEventListener('click', help);
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener('hashchange', () => show(true));
addEventListener('keydown', pressed);
themed(theme.seen());
show(false);
connection();
start();
