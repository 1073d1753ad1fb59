// What can be changed from here. Each asks first, and says what became of it.

import { post } from './api.js';
import { asking } from './dialogs.js';
import { count, dict, num, text } from './format.js';

const at = (id) => `backends/${encodeURIComponent(id)}`;
const requests = (number) => (number === 1 ? '1 request' : `${count(number)} requests`);

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
    trust: asking('Trust host key', () => ({
      title: `Trust a new host key of ${name}?`, verb: 'Trust', danger: true,
      text: 'The pinned key is forgotten, and the next one that this instance shows is believed. Do this only where you know why it '
        + 'has changed, for example after the instance was made anew.',
      act: act(`${at(id)}/trust`, {}, (told) => (num(told.forgotten) === 0 ? `No key of #${id} was pinned.` : `The pinned key of #${id} is forgotten; it is dialled again.`)),
    })),
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
