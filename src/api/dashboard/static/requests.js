// The request explorer: the last requests, live, and what became of each.

import { abortAll } from './actions.js';
import { get } from './api.js';
import { h, setAttr, setText } from './dom.js';
import { bytes, clock, count, dict, list, millis, num, requestLink, text, word } from './format.js';
import { column, linked, table, twofold } from './table.js';

const EVERY_MS = 2000;
const LIMIT = 200;

const STATES = [['', 'All'], ['running', 'Running'], ['waiting', 'Waiting'], ['done', 'Done'], ['failed', 'Failed']];

/** How it stands with a request, and how bad that is. */
export function verdict(request) {
  const status = num(request.status);
  const is = text(request.state);
  if (is === 'running' || is === 'waiting') return [is, is === 'waiting' ? 'warn' : 'busy'];
  if (status === 499) return ['client left', 'warn'];
  if (status === null) return [is || 'unknown', ''];
  return [String(status), status < 400 ? 'good' : status < 500 ? 'warn' : 'bad'];
}

const attempts = (request) => list(request.attempts).map(dict);
const last = (request) => attempts(request).at(-1) || {};
const failed = (request) => (num(request.status) ?? 0) >= 400;

function where(request) {
  const ids = [...new Set(attempts(request).map((one) => text(one.instance)))].filter(Boolean);
  return ids.length ? ids.map((id) => `#${id}`).join(' → ') : '–';
}

const COLUMNS = [
  linked('Request', {
    href: (request) => requestLink(text(request.id)), read: (request) => text(request.id) || '?',
    below: (request) => `${clock(request.began_unix)} ${text(request.method)} ${text(request.path)}`,
    sort: (request) => num(request.began_unix), class: 'name-cell request-cell',
  }),
  twofold('Result', (request) => verdict(request)[0], (request) => text(last(request).error) || (request.stream === true ? 'stream' : ''), {
    sort: (request) => num(request.status) ?? text(request.state), level: (request) => verdict(request)[1], hint: (request) => text(last(request).error), class: 'clip-cell',
  }),
  twofold('Model', (request) => word(request.model), (request) => (request.key ? `key ${text(request.key)}` : ''), { sort: (request) => text(request.model), class: 'model-cell' }),
  twofold('Backend', where, (request) => {
    const number = attempts(request).length + (num(request.attempts_left_out) ?? 0);
    return [number > 1 ? `${number} attempts` : '', text(last(request).reason)].filter(Boolean).join(' · ');
  }, { sort: where, class: 'clip-cell' }),
  column('Waited', (request) => millis(request.queue_ms), { number: true, sort: (request) => num(request.queue_ms) }),
  column('First byte', (request) => millis(request.first_byte_ms), { number: true, sort: (request) => num(request.first_byte_ms) }),
  column('Total', (request) => millis(request.total_ms), { number: true, sort: (request) => num(request.total_ms) }),
  column('Sent', (request) => bytes(request.sent_bytes), { number: true, sort: (request) => num(request.sent_bytes) }),
];

/** The page at `#/requests`; `query`: what stands behind its question mark. */
export function requestsPage({ query }) {
  let rows = [];
  let timer = 0;
  let closed = false;
  let paused = false;
  let asked = 0;

  const filter = h('input', {
    type: 'search', class: 'filter', placeholder: 'Filter: id, model, backend, key, error …', 'aria-label': 'Filter requests', value: query.get('text') || '',
    autocomplete: 'off', spellcheck: 'false', oninput: () => { remember(); show(); },
  });
  let wanted = STATES.some(([name]) => name === query.get('state')) ? query.get('state') : '';
  const tabs = STATES.map(([name, label]) => h('button', {
    type: 'button', 'data-state': name, onclick: () => { wanted = name; remember(); press(); refresh(); },
  }, label));
  const pause = h('button', { type: 'button', onclick: () => { paused = !paused; stand(); if (!paused) refresh(); } }, 'Pause');
  const status = h('span', { class: 'quiet-text' });
  const grid = table({
    caption: 'Requests, the newest first',
    columns: COLUMNS,
    key: (request) => `${text(request.id)}/${text(request.began_unix)}`,
    nothing: () => (rows.length ? ['No request matches', `Of the last ${count(rows.length)}, none fits this filter.`]
      : wanted ? ['None', 'No request is in this state.'] : ['No requests yet', 'Each request that a client sends appears here, with everything that became of it.']),
  });
  const node = h('div', {},
    h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, 'Requests'), status, abortAll(() => refresh())),
    h('div', { class: 'section-head' }, h('div', { class: 'tabs', role: 'group', 'aria-label': 'Which requests' }, tabs), pause, filter),
    h('div', { class: 'card' }, grid.node));

  function press() {
    for (const tab of tabs) setAttr(tab, 'aria-pressed', String(tab.dataset.state === wanted));
  }

  function stand(why = '') {
    setText(pause, paused ? 'Resume' : 'Pause');
    setAttr(pause, 'aria-pressed', String(paused));
    setText(status, why || (paused ? 'paused' : 'the newest first, live'));
  }

  function remember() {
    const said = new URLSearchParams();
    if (wanted) said.set('state', wanted);
    if (filter.value) said.set('text', filter.value);
    window.history.replaceState(null, '', `#/requests${said.size ? `?${said}` : ''}`);
  }

  function show() {
    const parts = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    grid.update(rows.filter((request) => {
      if (wanted === 'failed' ? !failed(request) : wanted && text(request.state) !== wanted) return false;
      const words = [request.id, request.model, request.key, request.path, request.status, ...attempts(request).flatMap((one) => [one.error, one.outcome, one.reason])];
      const all = `${words.map(text).join(' ')} ${where(request)}`.toLowerCase();
      return parts.every((part) => all.includes(part));
    }));
  }

  async function refresh() {
    clearTimeout(timer);
    const turn = asked += 1;
    if (!document.hidden) {
      try {
        const state = wanted === 'failed' ? 'done' : wanted;
        const told = await get(`requests?limit=${LIMIT}${state ? `&state=${state}` : ''}`);
        if (closed || turn !== asked) return;
        rows = list(told.requests).map(dict);
        stand();
        show();
      } catch (error) {
        if (closed || turn !== asked) return;
        stand(error.message);
      }
    }
    if (!paused) timer = setTimeout(refresh, EVERY_MS);
  }

  press();
  stand();
  refresh();
  const onlooker = () => { if (!document.hidden && !paused) refresh(); };
  document.addEventListener('visibilitychange', onlooker);
  return {
    title: 'Requests',
    node,
    filter,
    update() {},
    refresh,
    close() {
      closed = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onlooker);
    },
  };
}
