// A table that lives: sorted, filtered, in pages, rows kept while their values change. On a phone each row is a card.

import { empty, h, keyed, put, setAttr, setText } from './dom.js';
import { count } from './format.js';

const PAGE = 25;

function compare(one, other) {
  // What is unknown comes last, whichever way.
  if (one === null || one === undefined || one === '') return other === null || other === undefined || other === '' ? 0 : 2;
  if (other === null || other === undefined || other === '') return -2;
  return typeof one === 'number' && typeof other === 'number' ? one - other
    : String(one).localeCompare(String(other), 'en', { numeric: true });
}

/**
 * A table. `columns`: [{title, make() → {node(s), update(item)}, sort(item) → value, number: aligned right?, wide: …}];
 * `key(item)` names a row; `nothing`: [title, text] for none. Returns {node, update(items)}.
 */
export function table({ caption, columns, key, nothing, label = null, page = PAGE }) {
  let items = [];
  let first = 0;
  let by = null;
  let down = false;

  const heads = columns.map((column) => {
    if (!column.sort) return h('th', { scope: 'col', role: 'columnheader', class: column.number ? 'number' : null }, column.title);
    const button = h('button', { type: 'button', class: 'sort', onclick: () => order(column) }, column.title);
    return h('th', { scope: 'col', role: 'columnheader', class: column.number ? 'number' : null }, button);
  });
  const body = h('tbody', { role: 'rowgroup', onkeydown: walk });
  const rows = keyed(body, key, makeRow);
  // Roles are written out: shown as cards, a table is none for screen readers otherwise.
  const grid = h('table', { role: 'table' }, h('caption', { class: 'unseen' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)), body);
  const where = h('span', { 'aria-live': 'polite' });
  const back = h('button', { type: 'button', onclick: () => turn(-1) }, '‹ Previous');
  const on = h('button', { type: 'button', onclick: () => turn(1) }, 'Next ›');
  const pages = h('div', { class: 'pages' }, where, back, on);
  const none = h('div');
  const node = h('div', { class: 'table' }, grid, none, pages);

  function makeRow(item) {
    const cells = columns.map((column) => {
      const made = column.make(item);
      const cell = h('td', {
        role: 'cell', 'data-label': column.title, class: [column.number && 'number', column.class].filter(Boolean).join(' ') || null,
      }, made.node);
      return { cell, made };
    });
    return {
      node: h('tr', { role: 'row' }, cells.map(({ cell }) => cell)),
      update(next) {
        for (const { made } of cells) made.update(next);
        if (label) label(this.node, next);
      },
    };
  }

  function order(column) {
    if (by === column && down) by = null;
    else if (by === column) down = true;
    else { by = column; down = false; }
    first = 0;
    draw();
  }

  function turn(by_) {
    first += by_ * page;
    draw();
    grid.scrollIntoView({ block: 'nearest' });
  }

  function walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest('tr');
    if (!step || !row || !event.target.matches('a')) return;
    const place = [...row.querySelectorAll('a')].indexOf(event.target);
    const next = step > 0 ? row.nextElementSibling : row.previousElementSibling;
    const links = next ? [...next.querySelectorAll('a')] : [];
    if (links.length) {
      event.preventDefault();
      links[Math.min(place, links.length - 1)].focus();
    }
  }

  function draw() {
    const sorted = by === null ? items : items
      .map((item) => [by.sort(item), item])
      .sort(([one], [other]) => {
        const result = compare(one, other);
        return Math.abs(result) === 2 || !down ? result : -result;
      })
      .map(([, item]) => item);
    first = Math.min(Math.max(first, 0), Math.max(Math.ceil(sorted.length / page) - 1, 0) * page);
    const shown = sorted.slice(first, first + page);
    rows(shown);
    heads.forEach((head, place) => {
      setAttr(head, 'aria-sort', by === columns[place] ? (down ? 'descending' : 'ascending') : null);
    });
    setAttr(grid, 'aria-rowcount', sorted.length + 1);
    grid.hidden = sorted.length === 0;
    pages.hidden = sorted.length <= page;
    setText(where, `${count(first + 1)}–${count(first + shown.length)} of ${count(sorted.length)}`);
    back.disabled = first === 0;
    on.disabled = first + page >= sorted.length;
    if (sorted.length) put(none);
    else if (!none.firstChild || none.textContent !== nothing().join('')) put(none, empty(...nothing()));
  }

  draw();
  return {
    node,
    update(next) {
      items = next;
      draw();
    },
  };
}

/** A column of text. `read(item)` → text; `title(item)`: what is shown on hovering. */
export function column(title, read, more = {}) {
  return {
    title,
    ...more,
    make() {
      const node = h('span');
      return {
        node,
        update(item) {
          setText(node, read(item));
          if (more.hint) setAttr(node, 'title', more.hint(item) || null);
          if (more.level) setAttr(node, 'data-level', more.level(item) || null);
        },
      };
    },
  };
}

/** A column with a link and a second, quieter line. */
export function linked(title, { href, read, below = () => '', ...more }) {
  return {
    title,
    ...more,
    make() {
      const link = h('a');
      const second = h('small');
      return {
        node: [link, second],
        update(item) {
          const to = href(item);
          setAttr(link, 'href', to);
          setText(link, read(item));
          setText(second, below(item));
        },
      };
    },
  };
}

/** A column with a second, quieter line below. */
export function twofold(title, read, below, more = {}) {
  return {
    title,
    ...more,
    make() {
      const line = h('span');
      const second = h('small');
      return {
        node: [line, second],
        update(item) {
          setText(line, read(item));
          setText(second, below(item));
          if (more.level) setAttr(line, 'data-level', more.level(item) || null);
          if (more.hint) setAttr(line, 'title', more.hint(item) || null);
        },
      };
    },
  };
}
