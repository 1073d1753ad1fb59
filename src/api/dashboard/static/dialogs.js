// Questions before something is changed, and what became of it.

import { h, setText } from './dom.js';

const TOAST_MS = 8000;

/** Tells in a corner, and to screen readers, what has happened. `level`: "good" or "bad". */
export function say(message, level = 'good') {
  const node = h('div', { class: 'toast', 'data-level': level }, h('span', {}, message),
    h('button', { type: 'button', class: 'quiet', 'aria-label': 'Dismiss', onclick: () => node.remove() }, '×'));
  document.getElementById('toasts').append(node);
  setTimeout(() => node.remove(), level === 'bad' ? 2 * TOAST_MS : TOAST_MS);
}

/** A modal window with these contents; it is gone from the page when it is closed. Returns the dialog element. */
export function modal(title, ...contents) {
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title', onclose: () => dialog.remove() },
    h('h2', { id: 'dialog-title' }, title), contents);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks before it is done. `act()` does it and resolves with what to say; where it is refused the window stays open and
 * says why. `more`: elements below the text; `typed`: what has to be typed
 * before the button works.
 */
export function confirm({ title, text, verb, act, more = null, danger = false, typed = null }) {
  const field = typed === null ? null
    : h('input', { id: 'typed', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', oninput: check });
  const why = h('p', { class: 'notice', role: 'alert', 'data-level': 'bad', hidden: true });
  const cancel = h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
  const go = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, verb);
  const form = h('form', { onsubmit: submit }, h('p', {}, text), more,
    field && h('label', { for: 'typed' }, 'Type ', h('code', {}, typed), ' to confirm'), field, why, h('div', { class: 'buttons' }, cancel, go));

  function check() {
    go.disabled = field !== null && field.value.trim() !== typed;
  }

  async function submit(event) {
    event.preventDefault();
    if (go.disabled) return;
    go.disabled = true;
    setText(go, 'Working …');
    try {
      const done = await act();
      dialog.close();
      say(done);
    } catch (error) {
      why.hidden = false;
      setText(why, error.message);
      setText(go, verb);
      check();
    }
  }

  const dialog = modal(title, form);
  check();
  (field || (danger ? cancel : go)).focus();
}

const SHORTCUTS = [
  ['/', 'Filter this page'],
  ['g then f, r, e, c', 'Go to fleet, requests, events, cost'],
  ['↑ ↓', 'From row to row, on a link of a table'],
  ['← → Home End', 'From point to point, on a chart'],
  ['t', 'Light or dark'],
  ['?', 'This list'],
  ['Esc', 'Close'],
];

/** The list of keys. */
export function help() {
  const close = h('button', { type: 'button', class: 'primary', onclick: () => dialog.close() }, 'Close');
  const dialog = modal('Keyboard', h('dl', { class: 'shortcuts' }, SHORTCUTS.map(([keys, words]) => h(
    'div', {}, h('dt', {}, h('kbd', {}, keys)), h('dd', {}, words)))), h('div', { class: 'buttons' }, close));
  close.focus();
}

/** A button that asks first, see `confirm`. `question()` may have to find out what to ask; null is nothing to ask. */
export function asking(label, question, extra = {}) {
  const button = h('button', { type: 'button', ...extra, onclick: ask }, label);
  let asks = false; // a button that is disabled meanwhile would lose the focus
  async function ask() {
    if (asks) return;
    asks = true;
    try {
      const asked = await question();
      if (asked && button.isConnected) confirm(asked);
    } catch (error) {
      say(error.message, 'bad');
    } finally {
      asks = false;
    }
  }
  return button;
}

/** Shows nothing any more: what somebody was about to confirm may be of another page or key. */
export function closeAll() {
  for (const dialog of document.querySelectorAll('dialog')) dialog.close();
}
