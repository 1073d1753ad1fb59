// One backend: what it does now, the ways to it, its engines and GPUs, its hour, its instance, its events, and what can
// be done about it.

import { backendActions } from './actions.js';
import { get } from './api.js';
import { empty, facts, h, put, setAttr, setText } from './dom.js';
import { eventList } from './eventlist.js';
import { compact, count, date, dict, dollars, duration, list, num, spoken, text, word } from './format.js';
import { gpuPanel } from './gpus.js';
import { history } from './history.js';
import { backendOf, connect, state } from './live.js';
import { column, table, twofold } from './table.js';
import { level, machineWords, priceRise, since, stateWord, timeLeft } from './words.js';

const EVERY_MS = 10_000;

const PATHS = [
  column('Path', (path) => word(path.path)),
  twofold('State', (path) => word(path.state), (path) => text(path.error), {
    class: 'wrap-cell', level: (path) => ({ up: 'good', down: 'bad', doubted: 'warn', dialing: 'warn' }[path.state] || ''),
  }),
  column('Address', (path) => word(path.address), { class: 'wrap-cell' }),
  column('Connections', (path) => count(path.connections), { number: true }),
  column('Streams', (path) => count(path.streams), { number: true }),
];

const ENGINES = [
  column('Engine', (engine) => [text(engine.kind), text(engine.version)].filter(Boolean).join(' ') || '–'),
  column('Port', (engine) => word(engine.port), { number: true }),
  twofold('State', (engine) => (engine.healthy === true ? 'healthy' : 'not healthy'), (engine) => text(engine.error), {
    class: 'wrap-cell', level: (engine) => (engine.healthy === true ? 'good' : 'bad'),
  }),
  column('Models', (engine) => list(engine.models).slice(0, 20).map(text).join(', ') || '–', { class: 'wrap-cell' }),
  column('Ours', (engine) => count(engine.in_flight), { number: true }),
  column('Running', (engine) => count(engine.running), { number: true }),
  column('Waiting', (engine) => count(engine.waiting), { number: true }),
  column('Capacity', (engine) => count(engine.capacity), { number: true }),
  column('Cache', (engine) => (num(engine.cache_used) === null ? '–' : `${Math.round(engine.cache_used * 100)} %`), { number: true }),
];

const FIGURES = [
  ['In flight', (one) => [count(one.in_flight), `${compact(one.requests)} requests so far`]],
  ['Requests', (one) => [num(one.requests_per_s) === null ? '–' : `${compact(one.requests_per_s)}/s`, '']],
  ['Tokens', (one) => [num(one.tokens_per_s) === null ? '–' : `${compact(one.tokens_per_s)}/s`, '']],
  ['Errors', (one) => [compact(one.errors ?? one.failures), num(one.errors) === null ? 'so far' : `last 5 min, ${compact(one.failures)} so far`, num(one.errors) ? 'bad' : '']],
  ['Rent', (one) => [num(one.hourly_cost) === null ? '–' : `${dollars(one.hourly_cost)}/h`, '']],
  ['Time left', (one) => {
    const left = timeLeft(one);
    return [left.short, [left.because, left.notes].filter(Boolean).join('; '), left.level];
  }],
  ['Machine', (one) => [word(one.machine_id), [machineWords(one.machine), text(one.geolocation)].filter(Boolean).join(' · ')]],
];

function figures() {
  const made = FIGURES.map(([name, read]) => ({ name, read, value: h('dd', { class: 'figure-value' }), below: h('dd', { class: 'figure-below' }) }));
  return {
    node: h('dl', { class: 'card figures' }, made.map(({ name, value, below }) => h('div', { class: 'figure' }, h('dt', {}, name), value, below))),
    update(backend) {
      for (const { read, value, below } of made) {
        const [first, second, how] = read(backend);
        setText(value, first);
        setText(below, second);
        setAttr(value, 'data-level', how || null);
      }
    },
  };
}

/** What of an instance people look for; all the rest stands below, as the API told it. */
function instanceFacts(instance, backend) {
  const left = dict(backend.time_left);
  return facts([
    ['Status', [text(instance.actual_status), text(instance.status_msg)].filter(Boolean).join(': ')],
    ['Image', text(instance.image)],
    ['Template', text(instance.template_name)],
    ['Machine', text(instance.machine_id)],
    ['Host', text(instance.host_id)],
    ['Place', text(instance.geolocation)],
    ['CPU', [text(instance.cpu_name), num(instance.cpu_cores_effective) === null ? '' : `${compact(instance.cpu_cores_effective)} cores`].filter(Boolean).join(', ')],
    ['Reliability', num(instance.reliability) === null ? '' : `${(instance.reliability * 100).toFixed(2)} %`],
    ['Contract ends', num(backend.ends_unix) === null ? '' : date(backend.ends_unix)],
    ['Credit lasts', num(left.credit_s) === null ? '' : duration(left.credit_s)],
    ['May be outbid', left.outbid_risk && left.outbid_risk !== 'none' ? `risk ${text(left.outbid_risk)}` : ''],
    ['Price rise', left.price_rise ? priceRise(left.price_rise) : ''],
    ['Label', text(instance.label ?? backend.label)],
  ]);
}

function block(title, id, ...contents) {
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, title), contents);
}

/** The page at `#/backend/ID`. */
export function backendPage({ id }) {
  let timer = 0;
  let closed = false;
  let detail = null;
  let actions = null;
  const refresh = () => { connect(); look(); };
  const title = h('h1', { tabindex: '-1' }, `#${text(id)}`);
  const label = h('span', { class: 'quiet-text clip' });
  const where = h('span', { class: 'state' });
  const notice = h('p', { class: 'notice', 'data-level': 'bad', hidden: true });
  const buttons = h('div', { class: 'buttons', role: 'group', 'aria-label': 'Actions' });
  const top = figures();
  const gpus = gpuPanel();
  const paths = table({ caption: 'Paths', columns: PATHS, key: (path) => text(path.path), nothing: () => ['No path is known yet'] });
  const engines = table({ caption: 'Engines', columns: ENGINES, key: (engine) => text(engine.port), nothing: () => ['No engine was found yet', 'It is asked again and again what runs inside.'] });
  const charts = history(id);
  const instance = h('div', { class: 'card' }, empty('Not told yet'));
  const events = eventList({ limit: 100, withInstance: false, nothing: ['Nothing has happened here of late'] });
  const body = h('div', {}, top.node,
    block('GPUs', 'gpus-title', h('div', { class: 'card' }, gpus.node)),
    block('Engines', 'engines-title', h('div', { class: 'card' }, engines.node)),
    block('Paths', 'paths-title', h('div', { class: 'card' }, paths.node)),
    block('The last hour', 'hour-title', charts.node),
    block('Instance', 'instance-title', instance),
    block('Events', 'events-title', h('div', { class: 'card' }, events.node)));
  const gone = h('div', { class: 'card' });
  const node = h('div', {}, h('p', { class: 'crumbs' }, h('a', { href: '#/' }, 'Fleet')),
    h('div', { class: 'page-head' }, title, where, label, buttons), notice, gone, body);
  body.hidden = true;

  function show(backend) {
    body.hidden = false;
    gone.hidden = true;
    const named = text(backend.label);
    if (!actions || actions.label !== named) {
      actions = { label: named, ...backendActions(text(id), named, refresh) };
      // A live label must not take away the button that somebody is about to press.
      const held = buttons.contains(document.activeElement) ? [...buttons.children].indexOf(document.activeElement) : -1;
      put(buttons, actions.drain, actions.undrain, actions.trust, actions.abort, actions.destroy);
      if (held >= 0) buttons.children[held].focus();
    }
    const drains = text(backend.state) === 'draining' || backend.draining === true;
    actions.drain.hidden = drains;
    actions.undrain.hidden = !drains;
    setText(where, stateWord(backend));
    setAttr(where, 'data-level', level(backend) || 'none');
    setText(label, [named, since(backend)].filter(Boolean).join(' · '));
    setText(notice, text(backend.error));
    notice.hidden = !backend.error;
    top.update(backend);
    gpus.update(backend);
    paths.update(list(backend.paths).map(dict));
    engines.update(list(backend.engines).map(dict));
    happened();
  }

  function happened() {
    const mine = (event) => text(dict(event).instance) === text(id);
    const live = state.events.filter(mine);
    const known = new Set(live.map((event) => event.seq));
    const older = list(dict(detail).events).map(dict).filter((event) => !known.has(event.seq));
    events.update([...live, ...older].sort((one, other) => (num(other.at_unix) ?? 0) - (num(one.at_unix) ?? 0)));
  }

  async function look() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        detail = dict(await get(`backends/${encodeURIComponent(id)}`));
        if (closed) return;
        drawInstance();
        show(backendOf(id) || detail);
      } catch (error) {
        if (closed) return;
        lost(error);
      }
    }
    timer = setTimeout(look, EVERY_MS);
  }

  let drawn = '';
  function drawInstance() {
    const told = dict(detail.instance);
    const whole = JSON.stringify(told, null, 2);
    if (whole === drawn || whole === '{}') return;
    drawn = whole;
    const open = instance.querySelector('details')?.open === true;
    put(instance, instanceFacts(told, detail), h('details', { open }, h('summary', {}, 'Everything that vast.ai tells, secrets masked'),
      h('pre', { tabindex: '0', 'aria-label': 'The instance as JSON' }, whole)));
  }

  /** Gone from the fleet, or only not told in this detail. */
  function lost(error) {
    if (backendOf(id)) {
      if (!drawn) put(instance, empty('No details', error.message));
      return;
    }
    if (error.status !== 404) return;
    body.hidden = true;
    gone.hidden = false;
    put(buttons);
    actions = null;
    setText(where, 'not served');
    put(gone, empty(`No instance ${spoken(id)} is served here`, 'It has been stopped or destroyed, or the settings leave it out.'));
  }

  look();
  return {
    title: `#${text(id)}`,
    node,
    update(names) {
      const backend = backendOf(id);
      if (backend && (names.has('fleet') || body.hidden)) show(dict(backend));
      else if (names.has('events')) happened();
      if (names.has('fleet') && !backend && !body.hidden) look();
    },
    close() {
      closed = true;
      clearTimeout(timer);
      charts.close();
    },
  };
}
