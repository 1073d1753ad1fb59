// The charts of the last hour, of the fleet or of one backend, and what keeps them fresh.

import { get } from './api.js';
import { chart } from './charts.js';
import { empty, h, put } from './dom.js';
import { compact, dict, dollars, list, millis, num } from './format.js';

const SPAN_S = 3600;
const each = (name) => (point, step) => (num(point[name]) === null ? null : point[name] / step);
const plain = (name) => (point) => num(point[name]);
const per_s = (value) => `${compact(value)}/s`;
const of_100 = (value) => `${compact(value)} %`;

const CHARTS = [
  { title: 'Requests', format: per_s, axis: compact, series: [{ name: 'requests', value: each('requests') }, { name: 'errors', value: each('errors') }] },
  { title: 'Tokens', format: per_s, axis: compact, series: [{ name: 'out', value: each('tokens_out') }, { name: 'in', value: each('tokens_in') }] },
  { title: 'Time to first token', format: millis, series: [{ name: 'median', value: plain('ttft_p50_ms') }] },
  { title: 'Under way', format: compact, series: [{ name: 'in flight', value: plain('in_flight') }, { name: 'waiting', value: plain('waiting') }] },
  { title: 'GPUs', format: of_100, ceiling: 100, series: [{ name: 'busy', value: plain('gpu_percent') }, { name: 'memory', value: plain('gpu_memory_percent') }] },
  { title: 'Rent', format: (value) => `${dollars(value)}/h`, axis: (value) => dollars(value).replace(/\.00$/, ''), series: [{ name: 'now', value: plain('dollars_per_hour') }] },
];

/** The charts; `instance`: of this one alone. Call `close()` when they are seen no more. */
export function history(instance = null) {
  const charts = CHARTS.map(chart);
  const place = h('div', { class: 'charts' }, charts.map((one) => one.node));
  let points = [];
  let timer = 0;
  let closed = false;

  /** Minutes to ask for: what has come since the last point, with some to spare. */
  function missing() {
    const last = points.length ? points[points.length - 1].at_unix : 0;
    return Math.min(Math.max(Math.ceil((Date.now() / 1000 - last) / 60) + 2, 3), 60);
  }

  async function refresh() {
    clearTimeout(timer);
    let step = 10;
    if (!document.hidden) {
      try {
        const about = instance === null ? '' : `&instance=${encodeURIComponent(instance)}`;
        const told = await get(`history?minutes=${missing()}${about}`);
        if (closed) return;
        step = num(told.step_s) ?? step;
        take(list(told.points), step);
      } catch (error) {
        if (closed) return;
        if (error.status === 404 && !points.length) put(place, empty('No history', error.message));
      }
    }
    timer = setTimeout(refresh, Math.max(step, 2) * 1000);
  }

  function take(fresh, step) {
    const told = fresh.map(dict).filter((point) => num(point.at_unix) !== null).sort((one, other) => one.at_unix - other.at_unix);
    // The same step may be told at a moment a little beside that of the last time.
    const first = told.length ? told[0].at_unix - step / 2 : Infinity;
    const all = [...points.filter((point) => point.at_unix < first), ...told];
    const from = all.length ? all[all.length - 1].at_unix - SPAN_S : 0;
    points = all.filter((point) => point.at_unix >= from);
    for (const one of charts) one.update(points, step);
  }

  const onlooker = () => { if (!document.hidden) refresh(); };
  document.addEventListener('visibilitychange', onlooker);
  refresh();
  return {
    node: place,
    refresh,
    close() {
      closed = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onlooker);
    },
  };
}
