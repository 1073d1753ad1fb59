// Events as a list, the newest first.

import { empty, h, keyed, put, setAttr, setText } from './dom.js';
import { clock, date, requestLink, spoken, text } from './format.js';

const LEVELS = { warning: 'warn', error: 'bad' };

/** A list that is given all events and shows the first `limit` of those that pass. Returns {node, update(events)}. */
export function eventList({ limit, nothing, withInstance = true }) {
  const rows = h('ol', { class: 'events' });
  const none = h('div');
  const node = h('div', {}, rows, none);
  const show = keyed(rows, (event) => `${text(event.seq)}/${text(event.at_unix)}`, (event) => {
    const time = h('time');
    const kind = h('span', { class: 'event-kind' });
    const link = h('a', { class: 'event-who' });
    const words = h('span', { class: 'event-text' });
    const request = text(event.request_id);
    const why = request ? h('a', { class: 'event-why', href: requestLink(request) }, 'Explain') : null;
    return {
      node: h('li', {}, time, kind, withInstance ? link : null, h('span', { class: 'event-said' }, words, why)),
      update() {
        setText(time, clock(event.at_unix));
        setAttr(time, 'title', date(event.at_unix));
        setText(kind, spoken(event.kind));
        setAttr(kind, 'data-level', LEVELS[event.level] || 'none');
        const id = text(event.instance);
        setText(link, id ? `#${id}` : '');
        setAttr(link, 'href', id ? `#/backend/${encodeURIComponent(id)}` : null);
        // The log begins lines with what the link says already.
        setText(words, text(event.text).replace(/^\[backend=\d+\] /, ''));
      },
    };
  });
  return {
    node,
    update(events) {
      show(events.slice(0, limit));
      const words = typeof nothing === 'function' ? nothing() : nothing;
      if (events.length) put(none);
      else if (none.textContent !== words.join('')) put(none, empty(...words));
    },
  };
}
