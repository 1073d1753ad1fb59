// The admin key: asked for where one is needed, changed and forgotten. It is never shown again.

import { key } from './api.js';
import { modal, say } from './dialogs.js';
import { h, setText } from './dom.js';

function form(verb, done, more = []) {
  const field = h('input', {
    id: 'admin-key', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'key-why',
  });
  const why = h('p', { id: 'key-why', class: 'key-why', role: 'alert' });
  const node = h('form', { onsubmit: submit }, h('label', { for: 'admin-key' }, 'Admin key'), field, why,
    h('div', { class: 'buttons' }, more, h('button', { type: 'submit', class: 'primary' }, verb)));

  function submit(event) {
    event.preventDefault();
    const typed = field.value.trim();
    if (!key.isPossible(typed)) {
      setText(why, typed ? 'This has characters that no key has.' : 'Type or paste the key.');
      field.focus();
      return;
    }
    key.set(typed);
    field.value = '';
    done();
  }
  return { node, field };
}

const KEPT = 'It is kept for this tab until you close it, and sent to this proxy only, in a header.';

/** What stands instead of a page where a key is needed. `code`: "key" for none or a wrong one, "right" for one without it. */
export function keyPanel({ code, why }, done) {
  const lacks = code === 'right';
  const has = key.get() !== null;
  const title = lacks ? 'This key lacks the admin right' : has ? 'This key is not accepted' : 'This proxy asks for a key';
  const words = lacks
    ? ['The key is good for asking engines, but not for seeing or changing the proxy. A key with the admin right is made with ', h('code', {}, 'vastproxy keys create NAME --admin'), '.']
    : has ? ['It may have been revoked, or mistyped. ', why]
      : ['What this page shows is for holders of an admin key. One is made with ', h('code', {}, 'vastproxy keys create NAME --admin'), ' on the proxy\'s machine.'];
  const { node, field } = form('Use this key', done);
  return { node: h('div', { class: 'card key-panel' }, h('h1', { tabindex: '-1' }, title), h('p', {}, words), node, h('p', { class: 'quiet-text' }, KEPT)), field };
}

/** A window in which the key is changed or forgotten. */
export function keyDialog(done) {
  const forget = h('button', {
    type: 'button',
    onclick: () => {
      key.set(null);
      dialog.close();
      say('The key is forgotten.');
      done();
    },
  }, 'Forget it');
  const { node, field } = form('Use this key', () => { dialog.close(); done(); }, [h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), key.get() === null ? null : forget]);
  const dialog = modal('Admin key', h('p', {}, key.get() === null ? 'No key is in use.' : 'A key is in use.', ' ', KEPT), node);
  field.focus();
}
