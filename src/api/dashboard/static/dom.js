// Elements out of plain values. What comes from outside becomes text, never markup: nothing on this page reads HTML.

const SVG = 'http://www.w3.org/2000/svg';
const FORBIDDEN = /^(on|style$|srcdoc$)/i;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function' && name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (FORBIDDEN.test(name)) throw new Error(`no attribute ${name} here`);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. `attributes` named on… with a function listen; true is an empty attribute, null and false none. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Writes only what has changed, so that a selection, a focus or a screen reader is not disturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute, or removes it for null and false. */
export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Replaces all children. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/**
 * Keeps the children of `parent` in step with `items`: each has one made by `make(item)` → {node, update(item)}, found
 * again by `key(item)`, and is moved only where the order has changed. Returns what to call with the next items.
 */
export function keyed(parent, key, make) {
  let rows = new Map();
  return (items) => {
    const next = new Map();
    const active = document.activeElement;
    let place = parent.firstChild;
    for (const item of items) {
      const id = key(item);
      if (next.has(id)) continue;
      const row = rows.get(id) || make(item);
      next.set(id, row);
      row.update(item);
      if (row.node === place) place = place.nextSibling;
      else parent.insertBefore(row.node, place);
    }
    for (const [id, row] of rows) if (!next.has(id)) row.node.remove();
    rows = next;
    // What is moved loses the focus.
    if (active && active !== document.activeElement && parent.contains(active)) active.focus({ preventScroll: true });
  };
}

/** A bar filled to `share` (0..1); null is unknown. Its text alternative stands beside it. */
export function bar(extra = '') {
  const inside = h('span', { class: 'bar-fill' });
  const node = h('span', { class: `bar ${extra}`, 'aria-hidden': 'true' }, inside);
  return {
    node,
    set(share, level = '') {
      const known = typeof share === 'number';
      inside.style.setProperty('--share', known ? Math.min(Math.max(share, 0), 1).toFixed(3) : '0');
      setAttr(node, 'data-level', known ? level || null : 'unknown');
    },
  };
}

/** A list of names and values; those without a value are left out. */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== '–')
    .map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}

/** What stands where there is nothing to show. */
export function empty(title, text = '') {
  return h('div', { class: 'empty' }, h('p', { class: 'empty-title' }, title), text ? h('p', {}, text) : null);
}
