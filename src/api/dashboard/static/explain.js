// What became of one request: who could have served it, who was chosen and why, and where its time went.

import { cancelRequest } from './actions.js';
import { get } from './api.js';
import { empty, facts, h, put } from './dom.js';
import { bytes, count, date, dict, list, millis, num, text, word } from './format.js';
import { verdict } from './requests.js';

const EVERY_MS = 1000;
const SHOWN = 12;

/** The parts of an attempt as [class, name, from, to], in ms since the request began. */
function parts(attempt, now) {
  const [begun, connected, first] = [num(attempt.started_ms), num(attempt.connected_ms), num(attempt.first_byte_ms)];
  if (begun === null) return [];
  const end = num(attempt.ended_ms) ?? now;
  const dials = connected === null && first === null && attempt.reused !== true;
  const ready = connected ?? (dials ? end : begun);
  return [
    ['connect', 'connecting', begun, ready],
    ['think', 'until the first byte', ready, first ?? end],
    ['answer', 'answering', first ?? end, end],
  ].filter(([, , from, to]) => to > from);
}

function track(rows, total) {
  return h('div', { class: 'waterfall' }, rows.map(([name, spans]) => h('div', { class: 'fall-row' },
    h('span', { class: 'fall-name' }, name),
    h('span', { class: 'fall-track', 'aria-hidden': 'true' }, spans.map(([kind, , from, to]) => {
      const piece = h('span', { class: `fall ${kind}` });
      piece.style.setProperty('--from', String(from / total));
      piece.style.setProperty('--to', String(to / total));
      return piece;
    })),
    h('span', { class: 'fall-words' }, spans.length ? spans.map(([, what, from, to]) => `${what} ${millis(to - from)}`).join(', ') : 'nothing yet'))),
  h('div', { class: 'fall-row fall-axis', 'aria-hidden': 'true' }, h('span'), h('span', { class: 'fall-ticks' }, [0, 0.25, 0.5, 0.75, 1].map((share) => h('span', {}, millis(share * total)))), h('span')));
}

/** Where it waited: told is only how long in all, so it is laid into the gaps before attempts, each time to their end. */
function queued(request, attempts, now) {
  let rest = num(request.queue_ms) ?? 0;
  const found = [];
  let free = 0;
  for (const next of [...attempts, { started_ms: now, ended_ms: null }]) {
    const start = num(next.started_ms) ?? free;
    const part = Math.min(rest, start - free);
    if (part > 0) found.push(['queue', 'waiting for a place', start - part, start]);
    rest -= Math.max(part, 0);
    free = num(next.ended_ms) ?? now;
  }
  return found;
}

function waterfall(request) {
  const now = num(request.total_ms) ?? 0;
  const attempts = list(request.attempts).map(dict);
  const waits = queued(request, attempts, now);
  const rows = waits.length ? [['Queue', waits]] : [];
  attempts.forEach((attempt, place) => rows.push([`${place + 1}. #${text(attempt.instance)}`, parts(attempt, now)]));
  const total = Math.max(now, ...rows.flatMap(([, spans]) => spans.map(([, , , to]) => to)), 0.001);
  return rows.length ? track(rows, total) : empty('No attempt was made', text(request.state) === 'waiting' ? 'It waits for a place.' : 'Nobody was asked to serve it.');
}

function candidates(attempt) {
  const rows = list(attempt.candidates).map(dict);
  if (!rows.length) return null;
  const mine = (row) => row.instance === attempt.instance && row.port === attempt.port;
  const sorted = [...rows].sort((one, other) => mine(other) - mine(one) || (num(one.score) ?? Infinity) - (num(other.score) ?? Infinity));
  const more = Math.max(num(attempt.candidates_total) ?? 0, rows.length) - Math.min(rows.length, SHOWN);
  return h('table', { class: 'small-table' },
    h('caption', {}, 'Candidates, the lowest score first after the chosen one'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Engine'), h('th', { scope: 'col', class: 'number' }, 'Score'))),
    h('tbody', {}, sorted.slice(0, SHOWN).map((row) => h('tr', { class: mine(row) ? 'chosen' : null },
      h('td', {}, h('a', { href: `#/backend/${encodeURIComponent(text(row.instance))}` }, `#${text(row.instance)}`), ` port ${text(row.port)}`, mine(row) ? h('span', { class: 'chip' }, 'chosen') : null),
      h('td', { class: 'number' }, num(row.score) === null ? 'none' : Number(row.score.toPrecision(4)).toString()))),
    more > 0 ? h('tr', {}, h('td', { colspan: '2' }, `and ${count(more)} more`)) : null));
}

const OUTCOMES = { answered: 'good', left: 'warn', failed: 'bad', refused: 'bad' };

function attemptCard(attempt, place) {
  const outcome = text(attempt.outcome);
  return h('section', { class: 'card attempt' },
    h('h3', {}, `Attempt ${place + 1}: `, h('a', { href: `#/backend/${encodeURIComponent(text(attempt.instance))}` }, `#${text(attempt.instance)}`),
      ` port ${text(attempt.port)} `, h('span', { class: 'state', 'data-level': OUTCOMES[outcome] || 'busy' }, outcome || 'under way')),
    attempt.error ? h('p', { class: 'notice', 'data-level': 'bad' }, text(attempt.error)) : null,
    facts([
      ['Chosen because', text(attempt.reason)],
      ['Path', text(attempt.path)],
      ['Connection', attempt.reused === true ? 'had served before' : attempt.connected_ms !== null && num(attempt.connected_ms) !== null ? 'new' : ''],
      ['First byte', millis((num(attempt.first_byte_ms) ?? NaN) - (num(attempt.started_ms) ?? NaN))],
      ['Took', millis((num(attempt.ended_ms) ?? NaN) - (num(attempt.started_ms) ?? NaN))],
    ]),
    candidates(attempt));
}

function story(request, changed) {
  const [words, level] = verdict(request);
  const over = text(request.state) === 'done';
  return [
    h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, 'Request ', h('code', {}, word(request.id))),
      h('span', { class: 'state', 'data-level': level || 'none' }, words), over ? null : cancelRequest(text(request.id), changed)),
    h('div', { class: 'card' }, facts([
      ['Asked', [text(request.method), text(request.path)].filter(Boolean).join(' ')],
      ['Model', text(request.model) || 'names no model'],
      ['Kind', request.stream === true ? 'stream' : request.stream === false ? 'in one piece' : ''],
      ['Began', date(request.began_unix)],
      [over ? 'Took' : 'So far', millis(request.total_ms)],
      ['First byte after', millis(request.first_byte_ms)],
      ['Waited for a place', num(request.queue_ms) ? millis(request.queue_ms) : ''],
      ['Received', bytes(request.received_bytes)],
      ['Sent', bytes(request.sent_bytes)],
      ['Key', text(request.key)],
      ['Priority', text(request.priority)],
      ['Tied to its place by', text(request.pin)],
    ])),
    h('section', { 'aria-labelledby': 'time-title' }, h('h2', { id: 'time-title' }, 'Where the time went'), h('div', { class: 'card' }, waterfall(request))),
    h('section', { 'aria-labelledby': 'attempts-title' }, h('h2', { id: 'attempts-title' }, 'Attempts'), list(request.attempts).map(dict).map(attemptCard),
      num(request.attempts_left_out) ? h('p', { class: 'quiet-text' }, `${count(request.attempts_left_out)} more attempts in the middle are not remembered.`) : null),
  ];
}

/** The page at `#/requests/ID`. While the request runs it is asked for again and again. */
export function explainPage({ id }) {
  let timer = 0;
  let closed = false;
  let drawn = '';
  const node = h('div', {}, h('h1', { tabindex: '-1' }, 'Request ', h('code', {}, text(id))));

  async function refresh() {
    clearTimeout(timer);
    try {
      const request = dict(await get(`requests/${encodeURIComponent(id)}`));
      if (closed) return;
      const now = JSON.stringify(request);
      // Whoever has a link in focus, or text selected, keeps it while nothing is new.
      if (now !== drawn) draw(request);
      drawn = now;
      if (text(request.state) !== 'done') timer = setTimeout(refresh, EVERY_MS);
    } catch (error) {
      if (closed) return;
      if (!drawn || error.status === 404) put(node, h('h1', { tabindex: '-1' }, 'Request ', h('code', {}, text(id))), h('div', { class: 'card' }, empty(error.status === 404 ? 'Not remembered' : 'Cannot be shown', error.message)));
      if (error.status !== 404) timer = setTimeout(refresh, 3 * EVERY_MS);
    }
  }

  function draw(request) {
    const focused = node.contains(document.activeElement) ? document.activeElement.textContent : null;
    put(node, h('p', { class: 'crumbs' }, h('a', { href: '#/requests' }, 'Requests')), story(request, refresh));
    if (focused !== null) ([...node.querySelectorAll('a, button, h1')].find((one) => one.textContent === focused) || node.querySelector('h1')).focus();
  }

  refresh();
  return {
    title: `Request ${text(id)}`,
    node,
    update() {},
    refresh,
    close() { closed = true; clearTimeout(timer); },
  };
}
