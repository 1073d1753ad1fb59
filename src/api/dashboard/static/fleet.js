// The first page: how the fleet is, all its backends, the last hour.

import { bar, empty, h, put, setAttr, setText } from './dom.js';
import { compact, count, dict, dollars, duration, list, millis, num, percent, text, word } from './format.js';
import { history } from './history.js';
import { age, state } from './live.js';
import { eventList } from './eventlist.js';
import { column, linked, table, twofold } from './table.js';
import { gpuLevel, gpuLine, gpuName, level, since, stateWord, timeLeft } from './words.js';

const NEWEST = 8;
const MAX_BARS = 16;

const FIGURES = [
  ['Backends', (fleet) => {
    const counts = dict(fleet.counts);
    return [`${count(counts.healthy)} / ${count(counts.total)}`, others(counts) || 'all healthy'];
  }],
  ['Requests', (fleet, totals) => [`${compact(totals.requests_per_s)}/s`,
    `${count(totals.in_flight)} in flight · ${count(totals.waiting)} waiting`]],
  ['Tokens out', (fleet, totals) => [`${compact(totals.tokens_out_per_s)}/s`, `${compact(totals.tokens_in_per_s)}/s in`]],
  ['First token', (fleet, totals) => [millis(totals.ttft_p50_ms), `99 %: ${millis(totals.ttft_p99_ms)}`]],
  ['Errors', (fleet, totals) => [`${compact(totals.errors_per_s)}/s`,
    `${compact(totals.errors)} of ${compact(totals.requests)} so far`, num(totals.errors_per_s) ? 'bad' : '']],
  ['Kept in place', (fleet, totals) => [percent(totals.sticky_share), 'of conversations, 5 min']],
  ['Rent', (fleet, totals) => [`${dollars(totals.dollars_per_hour)}/h`,
    num(totals.dollars_per_million_tokens) === null ? 'no tokens yet' : `${dollars(totals.dollars_per_million_tokens)} per 1M tokens`]],
  ['Today', (fleet, totals) => (num(totals.cost_today_dollars) === null ? null
    : [dollars(totals.cost_today_dollars), `${compact(totals.tokens_today)} tokens`])],
  ['Credit', (fleet) => {
    const account = dict(fleet.account);
    const left = num(account.hours_left);
    return [dollars(account.credit_dollars), left === null ? '' : `${duration(left * 3600)} left`,
      left !== null && left < 2 ? 'bad' : ''];
  }],
];

function others(counts) {
  return ['unhealthy', 'connecting', 'discovered', 'draining', 'removing']
    .filter((name) => num(counts[name])).map((name) => `${count(counts[name])} ${name}`).join(', ');
}

function figures() {
  const made = FIGURES.map(([name, read]) => {
    const value = h('dd', { class: 'figure-value' });
    const below = h('dd', { class: 'figure-below' });
    const node = h('div', { class: 'figure' }, h('dt', {}, name), value, below);
    return {
      node,
      update(fleet) {
        const told = read(fleet, dict(fleet.totals));
        node.hidden = told === null;
        if (told === null) return;
        setText(value, told[0].replace(/^–\/[sh]$/, '–'));
        setText(below, told[1]);
        setAttr(value, 'data-level', told[2] || null);
      },
    };
  });
  return {
    node: h('dl', { class: 'card figures' }, made.map((one) => one.node)),
    update: (fleet) => made.forEach((one) => one.update(fleet)),
  };
}

/** Thin columns, one for each GPU, and a line of words. */
function gpuColumn() {
  return {
    title: 'GPUs',
    class: 'gpu-cell',
    sort: (backend) => text(backend.gpu_name),
    make() {
      const name = h('span');
      const line = h('small');
      const bars = h('span', { class: 'gpu-bars', 'aria-hidden': 'true' });
      let made = [];
      return {
        node: [h('span', { class: 'gpu-name' }, name, bars), line],
        update(backend) {
          const gpus = list(backend.gpus).map(dict).slice(0, MAX_BARS);
          if (made.length !== gpus.length) {
            made = gpus.map(() => bar('upright'));
            put(bars, made.map((one) => one.node));
          }
          gpus.forEach((gpu, at) => {
            const busy = num(gpu.utilization_percent);
            made[at].set(busy === null ? null : busy / 100, gpuLevel(gpu));
          });
          setText(name, gpuName(backend));
          setText(line, gpuLine(backend));
        },
      };
    },
  };
}

function stateColumn() {
  return {
    title: 'State',
    sort: (backend) => text(backend.state),
    make() {
      const word_ = h('span', { class: 'state' });
      const below = h('small');
      return {
        node: [word_, below],
        update(backend) {
          setText(word_, stateWord(backend));
          setAttr(word_, 'data-level', level(backend) || 'none');
          setText(below, text(backend.error) || since(backend));
          setAttr(below, 'title', text(backend.error) || null);
          setAttr(below, 'class', backend.error ? 'clip' : null);
        },
      };
    },
  };
}

const COLUMNS = [
  linked('Backend', {
    href: (backend) => `#/backend/${encodeURIComponent(text(backend.id))}`,
    read: (backend) => `#${text(backend.id)}`,
    below: (backend) => text(backend.label),
    sort: (backend) => num(backend.id) ?? text(backend.id),
    class: 'name-cell',
  }),
  stateColumn(),
  twofold('Path', (backend) => word(backend.path), (backend) => text(backend.geolocation), {
    sort: (backend) => text(backend.path), level: (backend) => (backend.path === 'relay' ? 'warn' : ''), hint: (backend) => text(backend.address), class: 'path-cell',
  }),
  twofold('Model', (backend) => {
    const models = list(backend.models);
    return models.length > 1 ? `${word(models[0])} + ${models.length - 1}` : word(models[0]);
  }, (backend) => text(backend.engine), {
    sort: (backend) => text(list(backend.models)[0]), hint: (backend) => list(backend.models).slice(0, 20).map(text).join(', '), class: 'model-cell',
  }),
  gpuColumn(),
  column('In flight', (backend) => count(backend.in_flight), { number: true, sort: (backend) => num(backend.in_flight) }),
  column('Tok/s', (backend) => compact(backend.tokens_per_s), { number: true, sort: (backend) => num(backend.tokens_per_s) }),
  column('$/h', (backend) => dollars(backend.hourly_cost), { number: true, sort: (backend) => num(backend.hourly_cost) }),
  column('Errors', (backend) => compact(backend.errors ?? backend.failures), {
    number: true, sort: (backend) => num(backend.errors), level: (backend) => (num(backend.errors) ? 'bad' : ''),
  }),
  twofold('Time left', (backend) => timeLeft(backend).short, (backend) => timeLeft(backend).first, {
    number: true, sort: (backend) => timeLeft(backend).seconds, level: (backend) => timeLeft(backend).level, hint: (backend) => [timeLeft(backend).because, timeLeft(backend).notes].filter(Boolean).join('; '), class: 'left-cell',
  }),
];

const words = (backend) => [
  `#${text(backend.id)}`, backend.label, backend.state, backend.path, backend.engine, backend.gpu_name, backend.geolocation, backend.error,
  ...list(backend.models),
].map(text).join(' ').toLowerCase();

/** The whole page; see `main.js` for what a page is. */
export function fleetPage() {
  const top = figures();
  const notice = h('p', { class: 'notice', hidden: true });
  const filter = h('input', {
    type: 'search', id: 'filter', class: 'filter', placeholder: 'Filter: id, label, model, GPU, state …', 'aria-label': 'Filter backends',
    autocomplete: 'off', spellcheck: 'false', oninput: () => rows(),
  });
  const all = table({
    caption: 'Backends',
    columns: COLUMNS,
    key: (backend) => text(backend.id),
    nothing: () => (filter.value ? ['No backend matches', 'Clear the filter to see them all.']
      : ['No backends', 'The account has no running instance that the settings let in. Rent one, and it appears here by itself.']),
  });
  const charts = history();
  const newest = eventList({ limit: NEWEST, nothing: ['Nothing has happened yet'] });
  const body = h('div', {},
    h('section', { 'aria-labelledby': 'backends-title' },
      h('div', { class: 'section-head' }, h('h2', { id: 'backends-title' }, 'Backends'), filter),
      h('div', { class: 'card' }, all.node)),
    h('section', { 'aria-labelledby': 'hour-title' }, h('h2', { id: 'hour-title' }, 'The last hour'), charts.node),
    h('section', { 'aria-labelledby': 'newest-title' },
      h('div', { class: 'section-head' }, h('h2', { id: 'newest-title' }, 'What happened last'), h('a', { href: '#/events' }, 'All events')),
      h('div', { class: 'card' }, newest.node)));
  const base = h('code');
  const copy = h('button', { type: 'button', class: 'quiet', onclick: () => copyText(base.textContent, copy) }, 'Copy');
  const address = h('p', { class: 'address', hidden: true }, 'Clients use ', base, ' ', copy);
  const uptime = h('span', { class: 'quiet-text' });
  const waiting = h('div', { class: 'card' }, empty('Waiting for the first figures'));
  const node = h('div', {}, h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, 'Fleet'), uptime, address), notice, waiting);

  function rows() {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const backends = list(dict(state.fleet).backends).map(dict);
    all.update(wanted.length ? backends.filter((one) => wanted.every((part) => words(one).includes(part))) : backends);
  }

  function update(names) {
    if (names.has('events')) newest.update(state.events);
    if (!state.fleet) return;
    if (!body.isConnected) {
      waiting.replaceWith(top.node, body);
      newest.update(state.events);
    }
    if (!names.has('fleet')) return;
    const fleet = state.fleet;
    top.update(fleet);
    const api = dict(fleet.vast_api);
    const why = text(fleet.reason) || (api.status === 'unhealthy' ? `vast.ai does not answer: ${text(api.error)}` : '');
    setText(notice, why);
    notice.hidden = !why;
    setAttr(notice, 'data-level', fleet.status === 'unhealthy' ? 'bad' : 'warn');
    setText(base, text(fleet.url));
    address.hidden = !fleet.url;
    setText(uptime, [num(fleet.uptime_s) === null ? '' : `up ${duration(fleet.uptime_s + age())}`, fleet.version ? `version ${text(fleet.version)}` : '',
      num(api.latency_ms) === null ? '' : `vast.ai ${millis(api.latency_ms)}`].filter(Boolean).join(' · '));
    rows();
  }

  return { title: 'Fleet', node, update, filter, close: charts.close };
}

async function copyText(value, button) {
  try {
    await navigator.clipboard.writeText(value);
    setText(button, 'Copied');
    setTimeout(() => setText(button, 'Copy'), 1500);
  } catch {
    setText(button, 'Select it by hand');
  }
}
