// What was paid, and what came of it: rent against tokens, and what is known of the machines.

import { get } from './api.js';
import { bar, empty, h, put, setAttr, setText } from './dom.js';
import { compact, count, date, dict, dollars, duration, list, millis, num, percent, text, word } from './format.js';
import { column, table, twofold } from './table.js';

const EVERY_MS = 15_000;
const BY = [['instance', 'Instance'], ['model', 'Model'], ['key', 'Key'], ['hour', 'Hour']];
const SINCE = [['1h', '1 hour'], ['24h', '24 hours'], ['7d', '7 days'], ['30d', '30 days']];

function shareColumn(total) {
  return {
    title: 'Share',
    class: 'share-cell',
    make() {
      const inside = bar();
      return {
        node: inside.node,
        update(row) {
          const all = total();
          inside.set(num(row.dollars) === null || !all ? null : row.dollars / all);
        },
      };
    },
  };
}

function nameOf(row, by) {
  const name = text(row.name);
  if (by === 'hour') {
    const unix = Date.parse(name) / 1000;
    return Number.isFinite(unix) ? date(unix).slice(0, 16) : name;
  }
  return by === 'instance' && /^\d+$/.test(name) ? `#${name}` : name || '(none)';
}

const idle = (row) => (num(row.idle_dollars) !== null && num(row.dollars) ? row.idle_dollars / row.dollars : null);

function machinesTable() {
  return table({
    caption: 'Machines',
    key: (row) => text(row.machine_id),
    nothing: () => ['No machine is known yet', 'What is learnt of each machine is kept here, for the next time you rent it.'],
    columns: [
      twofold('Machine', (row) => word(row.machine_id), (row) => [text(row.gpu), num(row.rentals) > 1 ? `rented ${count(row.rentals)} times` : ''].filter(Boolean).join(', '), { sort: (row) => num(row.machine_id) }),
      column('Score', (row) => (num(row.score) === null ? 'too little known' : row.score.toFixed(2)), { number: true, sort: (row) => num(row.score), level: (row) => (num(row.score) !== null && row.score < 0.5 ? 'bad' : '') }),
      column('Served', (row) => (num(row.hours) === null ? '–' : duration(row.hours * 3600)), { number: true, sort: (row) => num(row.hours) }),
      column('Requests', (row) => compact(row.requests), { number: true, sort: (row) => num(row.requests) }),
      column('Errors', (row) => compact(row.errors), { number: true, sort: (row) => num(row.errors) }),
      column('Tunnel drops', (row) => compact(row.tunnel_drops), { number: true, sort: (row) => num(row.tunnel_drops) }),
      column('First token', (row) => millis(row.ttft_p50_ms), { number: true, sort: (row) => num(row.ttft_p50_ms) }),
      column('Tok/s', (row) => compact(row.tokens_per_s), { number: true, sort: (row) => num(row.tokens_per_s) }),
      column('Last seen', (row) => date(row.last_seen_unix).slice(0, 16), { number: true, sort: (row) => num(row.last_seen_unix) }),
    ],
  });
}

/** The page at `#/cost`. */
export function costPage({ query }) {
  const known = (choices, name, usual) => (choices.some(([one]) => one === query.get(name)) ? query.get(name) : usual);
  let by = known(BY, 'by', 'instance');
  let since = known(SINCE, 'since', '24h');
  let timer = 0;
  let closed = false;
  let turn = 0;
  let total = 0;
  const choices = (all, label, pick) => h('div', { class: 'tabs', role: 'group', 'aria-label': label },
    all.map(([name, words]) => h('button', { type: 'button', 'data-name': name, onclick: () => { pick(name); press(); refresh(); } }, words)));
  const bys = choices(BY, 'By what', (name) => { by = name; });
  const sinces = choices(SINCE, 'Since when', (name) => { since = name; });
  const span = h('span', { class: 'quiet-text' });
  const figures = ['Rent', 'Idle', 'Tokens', 'Requests', 'Per 1M tokens'].map((name) => ({ name, value: h('dd', { class: 'figure-value' }), below: h('dd', { class: 'figure-below' }) }));
  const tiles = h('dl', { class: 'card figures' }, figures.map(({ name, value, below }) => h('div', { class: 'figure' }, h('dt', {}, name), value, below)));
  const rows = table({
    caption: 'Cost',
    key: (row) => text(row.name),
    nothing: () => ['Nothing was paid in this time', 'As soon as an instance is served, its rent is counted here.'],
    columns: [
      { ...column('Name', (row) => nameOf(row, by), { sort: (row) => text(row.name), class: 'name-cell' }) },
      column('Rent', (row) => dollars(row.dollars), { number: true, sort: (row) => num(row.dollars) }),
      shareColumn(() => total),
      column('Idle', (row) => dollars(row.idle_dollars), { number: true, sort: (row) => num(row.idle_dollars) }),
      column('Requests', (row) => compact(row.requests), { number: true, sort: (row) => num(row.requests) }),
      column('Tokens in', (row) => compact(row.tokens_in), { number: true, sort: (row) => num(row.tokens_in) }),
      column('Tokens out', (row) => compact(row.tokens_out), { number: true, sort: (row) => num(row.tokens_out), hint: (row) => (num(row.estimated_tokens) ? `${compact(row.estimated_tokens)} of them estimated` : '') }),
      column('$ per 1M', (row) => dollars(row.dollars_per_million_tokens), { number: true, sort: (row) => num(row.dollars_per_million_tokens) }),
    ],
  });
  const machines = machinesTable();
  const ledger = h('div', {}, tiles, h('div', { class: 'section-head' }, bys, sinces), h('div', { class: 'card' }, rows.node));
  const none = h('div', { class: 'card', hidden: true });
  const below = h('section', { 'aria-labelledby': 'machines-title', hidden: true }, h('h2', { id: 'machines-title' }, 'Machines'), h('div', { class: 'card' }, machines.node));
  const node = h('div', {}, h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, 'Cost'), span), none, ledger, below);

  function press() {
    for (const tab of bys.children) setAttr(tab, 'aria-pressed', String(tab.dataset.name === by));
    for (const tab of sinces.children) setAttr(tab, 'aria-pressed', String(tab.dataset.name === since));
    window.history.replaceState(null, '', `#/cost?by=${by}&since=${since}`);
  }

  function show(told) {
    const all = dict(told.total);
    total = num(all.dollars) ?? 0;
    const tokens = (num(all.tokens_in) ?? 0) + (num(all.tokens_out) ?? 0);
    const said = [
      [dollars(all.dollars), num(all.bandwidth_dollars) ? `${dollars(all.bandwidth_dollars)} of it for traffic` : ''],
      [dollars(all.idle_dollars), idle(all) === null ? '' : `${percent(idle(all))} of the rent`],
      [compact(tokens), [`${compact(all.tokens_in)} in, ${compact(all.tokens_out)} out`, num(all.estimated_tokens) ? `${compact(all.estimated_tokens)} estimated` : ''].filter(Boolean).join('; ')],
      [count(all.requests), ''],
      [dollars(all.dollars_per_million_tokens), ''],
    ];
    said.forEach(([value, more], place) => { setText(figures[place].value, value); setText(figures[place].below, more); });
    setText(span, `${date(told.since_unix)} to ${date(told.until_unix)}`);
    rows.update(list(told.rows).map(dict));
  }

  async function refresh() {
    clearTimeout(timer);
    const mine = turn += 1;
    if (!document.hidden) {
      const [cost, known_] = await Promise.allSettled([get(`cost?by=${by}&since=${since}`), get('machines')]);
      if (closed || mine !== turn) return;
      ledger.hidden = cost.status === 'rejected';
      none.hidden = !ledger.hidden;
      if (cost.status === 'fulfilled') show(dict(cost.value));
      else if (cost.reason.status === 404) put(none, empty('This proxy keeps no ledger', 'What was paid for what is only counted where it is turned on.'));
      else put(none, empty('The ledger cannot be shown', cost.reason.message));
      below.hidden = known_.status === 'rejected';
      if (known_.status === 'fulfilled') machines.update(list(dict(known_.value).machines).map(dict));
    }
    timer = setTimeout(refresh, EVERY_MS);
  }

  press();
  refresh();
  return { title: 'Cost', node, update() {}, refresh, close() { closed = true; clearTimeout(timer); } };
}
