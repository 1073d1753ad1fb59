// What is known of the fleet now, and the connection that tells it: server-sent events, read with fetch because an
// EventSource cannot send a key.

import { Refused, onDenied, open } from './api.js';
import { dict, list, num, text } from './format.js';

const EVENTS_KEPT = 500;
/** A stream says something every few seconds, if only that nothing is new. Silence means a dead connection. */
const SILENCE_MS = 20_000;
/** How often ages are shown anew. */
const TICK_MS = 5_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/**
 * `connection`: "connecting", "live", "lost", "paused" (nobody looks) or "denied" (a key is needed); since when, in ms of
 * the wall clock; why; and for "lost" when it is tried again.
 */
export const state = {
  fleet: null,
  fleetAt: 0,
  events: [],
  lost: 0,
  connection: { is: 'connecting', since: Date.now(), why: '', code: '' },
};

const listeners = new Set();
const seen = new Set();
let lastId = null;
let current = null; // the AbortController of the stream that counts
let pause = FIRST_PAUSE_MS;
let timer = 0;
let every = 1;
let announced = new Set();
let frame = 0;

/** Calls `listener(names)` with what has changed ("fleet", "events", "connection"), at most once a frame. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function changed(name) {
  announced.add(name);
  if (frame) return;
  const tell = () => {
    clearTimeout(frame);
    frame = 0;
    const names = announced;
    announced = new Set();
    for (const listener of listeners) {
      try { listener(names); } catch (error) { console.error(error); }
    }
  };
  frame = setTimeout(tell, 16);
}

function become(is, why = '', code = '') {
  const before = state.connection;
  // Trying again does not end being lost: people want to know since when they see old figures.
  const since = before.is === is || (before.is === 'lost' && is === 'connecting') ? before.since : Date.now();
  state.connection = { is, why, code, since };
  changed('connection');
}

/** Ends the stream that counts, if there is one. Whatever still comes of it counts no more. */
function drop() {
  clearTimeout(timer);
  const old = current;
  current = null;
  if (old) old.abort();
}

/** Connects, or connects anew: with another key, or because somebody looks again. */
export function connect() {
  drop();
  if (document.hidden) {
    become('paused');
    return;
  }
  const mine = new AbortController();
  current = mine;
  if (state.connection.is !== 'lost') become('connecting');
  follow(mine).then(
    () => { if (current === mine) again('The proxy ended the connection.'); },
    (error) => { if (current === mine) refused(error); },
  );
}

function denied(error) {
  drop();
  become('denied', error.message, error.status === 401 ? 'key' : 'right');
}

function refused(error) {
  if (error instanceof Refused && error.isAboutKey) return; // told by `onDenied` already
  if (!(error instanceof Refused)) console.warn('the live connection:', error.message);
  again(error instanceof Refused ? error.message : 'The connection broke off.');
}

function again(why) {
  become('lost', why);
  timer = setTimeout(connect, pause * (0.5 + Math.random() / 2));
  pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
}

async function follow(mine) {
  let watch = 0;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => mine.abort(), SILENCE_MS);
  };
  mine.signal.addEventListener('abort', () => {
    clearTimeout(watch);
    if (current !== mine) return;
    current = null;
    again('The proxy has gone silent.');
  });
  alive();
  try {
    const more = { Accept: 'text/event-stream', ...(lastId === null ? {} : { 'Last-Event-ID': lastId }) };
    const response = await open(`live?every_s=${every}`, { more, signal: mine.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const feed = parser((event) => {
      if (current === mine) take(event);
    });
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      feed(value);
      if (state.connection.is !== 'live') {
        pause = FIRST_PAUSE_MS;
        become('live');
      }
    }
  } finally {
    clearTimeout(watch);
  }
}

/** Cuts a stream of text/event-stream into {event, data, id}. */
export function parser(emit) {
  let buffer = '';
  return (chunk) => {
    let from = Math.max(buffer.length - 1, 0);
    buffer += chunk.replaceAll('\r', '');
    for (let end = buffer.indexOf('\n\n', from); end >= 0; end = buffer.indexOf('\n\n', from)) {
      const event = { event: 'message', data: [], id: null };
      for (const line of buffer.slice(0, end).split('\n')) {
        const colon = line.indexOf(':');
        if (colon === 0) continue;
        const name = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (name === 'data') event.data.push(value);
        else if (name === 'event') event.event = value;
        else if (name === 'id') event.id = value;
      }
      buffer = buffer.slice(end + 2);
      from = 0;
      if (event.data.length) emit({ ...event, data: event.data.join('\n') });
    }
  };
}

function take({ event, data, id }) {
  let value;
  try { value = dict(JSON.parse(data)); } catch { return; }
  if (id !== null && /^\d+$/.test(id)) lastId = id;
  if (event === 'fleet') {
    state.fleet = value;
    state.fleetAt = Date.now();
    changed('fleet');
    slowDown(list(value.backends).length);
  } else if (event === 'happened') {
    happened(value);
  } else if (event === 'lost') {
    state.lost += num(value.events) ?? 1;
    changed('events');
  }
}

const nameOf = (event) => `${text(event.seq)}/${text(event.at_unix)}`;

function happened(value) {
  // A proxy that has started anew counts from the beginning again: numbers alone do not tell events apart.
  const name = nameOf(value);
  if (seen.has(name)) return;
  seen.add(name);
  state.events.unshift(value);
  for (const gone of state.events.splice(EVENTS_KEPT)) seen.delete(nameOf(gone));
  changed('events');
}

/** A thousand backends are a megabyte; nobody reads that every second. */
function slowDown(backends) {
  const wanted = backends > 400 ? 3 : backends > 150 ? 2 : 1;
  if (wanted === every) return;
  every = wanted;
  connect();
}

/** Seconds since the fleet was told. While nothing but the time has changed it is not told again. */
export const age = () => (state.fleetAt ? (Date.now() - state.fleetAt) / 1000 : 0);

/** One backend of the overview, or null. */
export function backendOf(id) {
  return list(dict(state.fleet).backends).find((one) => text(dict(one).id) === text(id)) || null;
}

/** Begins, and from then on follows whether anybody looks. */
export function start() {
  setInterval(() => { if (state.connection.is === 'live') changed('fleet'); }, TICK_MS);
  onDenied(denied);
  document.addEventListener('visibilitychange', () => {
    // Whoever fetches the key from elsewhere and comes back must not find the field emptied.
    if (state.connection.is === 'denied') return;
    if (document.hidden) {
      drop();
      become('paused');
    } else {
      connect();
    }
  });
  addEventListener('online', () => { if (state.connection.is === 'lost') connect(); });
  connect();
}
