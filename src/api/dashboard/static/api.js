// Asking the proxy. The key is kept for this tab and this session only, and goes into one header, never into an address.

const KEY = 'vastproxy-admin-key';
const ROOT = 'v1/';
const PATIENCE_MS = 15_000;
let kept = null; // where the browser keeps nothing, the key lasts as long as the page

/** What the proxy, or the way to it, said no with. `status` is 0 where no answer came. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Must the reader bring a key, or another one? */
  get isAboutKey() {
    return this.status === 401 || (this.status === 403 && this.code === 'insufficient_permissions');
  }
}

export const key = {
  get() {
    try { return sessionStorage.getItem(KEY) || kept; } catch { return kept; }
  },
  /** Keeps it, or forgets it for null. */
  set(value) {
    kept = value;
    try {
      if (value === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, value);
    } catch { /* private mode */ }
  },
  /** Can this be sent in a header at all? */
  isPossible: (value) => /^[\x21-\x7e]+$/.test(value),
};

let denied = () => {};

/** Calls `listener(refused)` whenever the key is missing or not good enough, whoever asked. */
export function onDenied(listener) {
  denied = listener;
}

function headers(more) {
  const mine = key.get();
  return { ...more, ...(mine === null ? {} : { Authorization: `Bearer ${mine}` }) };
}

async function refusal(response) {
  let error = null;
  try { error = (await response.json()).error; } catch { /* a web server between us, perhaps */ }
  const message = error && typeof error.message === 'string' ? error.message : `HTTP ${response.status}`;
  return new Refused(response.status, error && typeof error.code === 'string' ? error.code : '', message);
}

/** The response to a request below /vastproxy/v1/. Rejects with `Refused`. */
export async function open(path, { method = 'GET', body, more = {}, signal } = {}) {
  const sent = body === undefined ? more : { ...more, 'Content-Type': 'application/json' };
  let response;
  try {
    response = await fetch(ROOT + path, {
      method,
      headers: headers(sent),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    });
  } catch (error) {
    throw new Refused(0, error.name === 'TimeoutError' ? 'timeout' : 'unreachable',
      error.name === 'TimeoutError' ? 'The proxy does not answer.' : 'The proxy cannot be reached.');
  }
  if (response.ok) return response;
  const refused = await refusal(response);
  if (refused.isAboutKey) denied(refused);
  throw refused;
}

/** The document at `path`. Rejects with `Refused`. */
export async function get(path) {
  return document_(await open(path, { signal: AbortSignal.timeout(PATIENCE_MS) }));
}

/** Changes something; the document of the answer. Destroying takes vast.ai its time, so this waits longer. */
export async function post(path, body = {}) {
  return document_(await open(path, { method: 'POST', body, signal: AbortSignal.timeout(4 * PATIENCE_MS) }));
}

async function document_(response) {
  try {
    return await response.json();
  } catch {
    throw new Refused(response.status, 'unreadable', 'The answer of the proxy broke off or is not JSON.');
  }
}
