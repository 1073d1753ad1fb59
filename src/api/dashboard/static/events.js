// Everything that happened, live, filtered by level and words.

import { h, setAttr, setText } from './dom.js';
import { eventList } from './eventlist.js';
import { count, spoken, text } from './format.js';
import { state } from './live.js';

const LEVELS = [['', 'All'], ['warning', 'Warnings'], ['error', 'Errors']];
const SHOWN = 300;

/** The page at `#/events`. */
export function eventsPage({ query }) {
  let wanted = LEVELS.some(([name]) => name === query.get('level')) ? query.get('level') : '';
  const filter = h('input', {
    type: 'search', class: 'filter', placeholder: 'Filter: kind, backend, words …', 'aria-label': 'Filter events', value: query.get('text') || '', autocomplete: 'off', spellcheck: 'false',
    oninput: () => { remember(); show(); },
  });
  const tabs = LEVELS.map(([name, label]) => h('button', { type: 'button', 'data-level-name': name, onclick: () => { wanted = name; remember(); show(); } }, label));
  const status = h('span', { class: 'quiet-text' });
  const rows = eventList({ limit: SHOWN, nothing: () => (state.events.length ? ['No event matches'] : ['Nothing has happened yet', 'Backends that come and go, paths that change, engines that fail: all of it appears here.']) });
  const node = h('div', {},
    h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, 'Events'), status),
    h('div', { class: 'section-head' }, h('div', { class: 'tabs', role: 'group', 'aria-label': 'Which events' }, tabs), filter),
    h('div', { class: 'card' }, rows.node));

  function remember() {
    const said = new URLSearchParams();
    if (wanted) said.set('level', wanted);
    if (filter.value) said.set('text', filter.value);
    window.history.replaceState(null, '', `#/events${said.size ? `?${said}` : ''}`);
  }

  function show() {
    for (const tab of tabs) setAttr(tab, 'aria-pressed', String(tab.dataset.levelName === wanted));
    const parts = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const found = state.events.filter((event) => (!wanted || event.level === wanted || (wanted === 'warning' && event.level === 'error'))
      && parts.every((part) => `${spoken(event.kind)} #${text(event.instance)} ${text(event.text)}`.toLowerCase().includes(part)));
    setText(status, `${found.length > SHOWN ? `${count(SHOWN)} of ` : ''}${count(found.length)} shown${state.lost ? `, ${count(state.lost)} were missed` : ''}`);
    rows.update(found);
  }

  show();
  return { title: 'Events', node, filter, update(names) { if (names.has('events')) show(); }, close() {} };
}
