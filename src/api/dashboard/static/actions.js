// What can be changed from here. Each asks first, and says what became of it.

import { get, post } from './api.js';
import { asking, say } from './dialogs.js';
import { facts, h } from './dom.js';
import { count, date, dict, list, num, text } from './format.js';

const at = (id) => `backends/${encodeURIComponent(id)}`;
const requests = (number) => (number === 1 ? '1 request' : `${count(number)} requests`);

/** The pinned and the refused key of one path, side by side. */
function change(one) {
  const [pinned, refused] = [dict(one.pinned), dict(one.refused)];
  return facts([
    ['Path', [text(one.path), text(one.address)].filter(Boolean).join(' ')],
    ['Pinned', h('code', {}, text(pinned.shown))],
    ['Since', date(pinned.since_unix)],
    ['Shown now', h('code', {}, text(refused.shown))],
    ['Last seen', date(refused.seen_unix)],
  ]);
}

/** Buttons for one backend, by name; which of drain and undrain is seen is the page's business. */
export function backendActions(id, label, changed) {
  const name = label ? `#${id} (${label})` : `#${id}`;
  const act = (path, body, words) => async () => {
    const told = dict(await post(path, body));
    changed();
    return words(told);
  };
  return {
    drain: asking('Drain', () => ({
      title: `Drain ${name}?`, verb: 'Drain', text: 'It gets no new requests; those that run go on to their end.',
      act: act(`${at(id)}/drain`, {}, () => `#${id} gets no new requests.`),
    })),
    undrain: asking('Undrain', () => ({
      title: `Undrain ${name}?`, verb: 'Undrain', text: 'It may be given requests again.',
      act: act(`${at(id)}/undrain`, {}, () => `#${id} may be given requests again.`),
    })),
    trust: asking('Trust host key', async () => {
      const changes = list(dict(await get(`${at(id)}/trust`)).changes).map(dict);
      if (!changes.length) {
        say(`No changed host key of #${id} was seen: there is nothing to trust.`);
        return null;
      }
      return {
        title: `Trust the new host key of ${name}?`, verb: 'Trust it', danger: true,
        text: 'Another key than the pinned one was shown, and refused. Trust it only where you know why it has changed, for example after '
          + 'the instance was made anew: else somebody may stand between.',
        more: changes.map(change),
        act: act(`${at(id)}/trust`, { keys: changes.map((one) => dict(one.refused).key) },
          () => `The new key of #${id} is pinned; it is dialled again.`),
      };
    }),
    abort: asking('Abort requests', () => ({
      title: `Abort all requests at ${name}?`, verb: 'Abort them', danger: true,
      text: 'Every request that runs there ends now, with an error for its client.',
      act: act('abort', { instance: num(Number(id)) ?? id }, (told) => `${requests(num(told.cancelled) ?? 0)} aborted at #${id}.`),
    }), { class: 'danger-text' }),
    destroy: asking('Destroy', () => ({
      title: `Destroy ${name}?`, verb: 'Destroy it', danger: true, typed: String(id),
      text: 'vast.ai deletes the instance and everything on its disk, and you pay for it no more. Requests that run there fail. This '
        + 'cannot be undone.',
      act: act(`${at(id)}/destroy`, { confirm: String(id) }, () => `#${id} is destroyed.`),
    }), { class: 'danger-text' }),
  };
}

/** Ends every request, running or waiting. */
export function abortAll(changed) {
  return asking('Abort all', () => ({
    title: 'Abort all requests?', verb: 'Abort all', danger: true,
    text: 'Every request that runs or waits, for all clients and models, ends now with an error.',
    act: async () => {
      const told = dict(await post('abort', { instance: null }));
      changed();
      return `${requests(num(told.cancelled) ?? 0)} aborted.`;
    },
  }), { class: 'danger-text' });
}

/** Ends one request. */
export function cancelRequest(id, changed) {
  return asking('Cancel request', () => ({
    title: 'Cancel this request?', verb: 'Cancel it', danger: true,
    text: `Request ${text(id)} ends now, with an error for its client, and the engine is told to stop.`,
    act: async () => {
      await post(`requests/${encodeURIComponent(id)}/cancel`);
      changed();
      return `Request ${text(id)} is cancelled.`;
    },
  }), { class: 'danger-text' });
}
