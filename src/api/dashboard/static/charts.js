// Line charts of the last hour: axes, hover, and the same by keyboard. A chart is a slider over its points for whoever
// does not see it: arrows move by one point, Page Up and Down by ten, Home and End to the ends, Escape back to now.

import { h, put, setAttr, setText, svg } from './dom.js';
import { clock, num } from './format.js';

const HEIGHT = 132;
const LEFT = 46;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;
const SHORTEST_S = 300;

/** 1, 2, 2.5 or 5 times a power of ten, at least `value`. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.999999);
}

/** Times for the axis: full multiples of 1, 5 or 15 minutes. */
function moments(from, to, width) {
  const most = Math.max(Math.floor(width / 90), 2);
  const step = [60, 120, 300, 600, 900, 1800, 3600].find((one) => (to - from) / one <= most) || 3600;
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) found.push(at);
  return found;
}

/**
 * A chart. `series`: [{name, value(point) → number or null}], the first in the accent colour; `format(value)` for the
 * readout, `axis(value)` for the axis, which has less room; `ceiling`: the top of the axis where that is fixed. Returns {node, update(points, step_s)}.
 */
export function chart({ title, series, format, axis = format, ceiling = null }) {
  let points = [];
  let step = 10;
  let at = null; // the point that is looked at, null: the last one
  let width = 0;
  const time = h('span', { class: 'chart-time' });
  const values = series.map(() => h('b'));
  const readout = h('div', { class: 'chart-now', 'aria-hidden': 'true' }, time, series.map((one, place) => h(
    'span', { class: `key key-${place}` }, `${one.name} `, values[place])));
  const picture = svg('svg', { class: 'chart', height: HEIGHT, 'aria-hidden': 'true', focusable: 'false' });
  const none = h('p', { class: 'chart-none' }, 'Nothing yet');
  const field = h('div', {
    class: 'chart-field', role: 'slider', tabindex: '0', 'aria-label': title, 'aria-valuemin': '0',
    onkeydown: move, onpointermove: hover, onpointerleave: () => look(null), onblur: () => look(null),
  }, picture, none);
  const node = h('figure', { class: 'card chart-card' }, h('figcaption', {}, h('h3', {}, title), readout), field);

  const x = (unix, [from, to]) => LEFT + ((unix - from) / (to - from)) * (width - LEFT - RIGHT);
  const range = () => {
    const to = points.length ? points[points.length - 1].at_unix : 0;
    return [Math.min(to - SHORTEST_S, points.length ? points[0].at_unix : 0), to];
  };

  function move(event) {
    const last = points.length - 1;
    const here = at ?? last;
    const to = {
      ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1,
      PageUp: here - 10, PageDown: here + 10, Home: 0, End: last,
    }[event.key];
    if (event.key === 'Escape' && at !== null) {
      event.stopPropagation();
      look(null);
    } else if (to !== undefined && last >= 0) {
      event.preventDefault();
      look(Math.min(Math.max(to, 0), last));
    }
  }

  function hover(event) {
    if (!points.length) return;
    const [from, to] = range();
    const share = (event.clientX - picture.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT);
    const wanted = from + share * (to - from);
    let best = 0;
    points.forEach((point, place) => {
      if (Math.abs(point.at_unix - wanted) < Math.abs(points[best].at_unix - wanted)) best = place;
    });
    look(best);
  }

  function look(place) {
    at = place;
    tell();
    mark();
  }

  function tell() {
    const point = points[at ?? points.length - 1];
    setText(time, point && at !== null ? clock(point.at_unix) : '');
    const said = series.map((one, place) => {
      const value = point ? one.value(point, step) : null;
      setText(values[place], num(value) === null ? '–' : format(value));
      return `${one.name} ${num(value) === null ? 'unknown' : format(value)}`;
    });
    setAttr(field, 'aria-valuemax', Math.max(points.length - 1, 0));
    setAttr(field, 'aria-valuenow', Math.max(at ?? points.length - 1, 0));
    setAttr(field, 'aria-valuetext', point ? `${clock(point.at_unix)}: ${said.join(', ')}` : 'nothing yet');
  }

  const pointer = svg('g', { class: 'chart-pointer' });
  let top = 1;
  const y = (value) => TOP + (1 - Math.min(value / top, 1)) * (HEIGHT - TOP - BOTTOM);

  function mark() {
    const point = at === null ? null : points[at];
    if (!point || !width) {
      put(pointer);
      return;
    }
    const place = x(point.at_unix, range());
    put(pointer, svg('line', { x1: place, x2: place, y1: TOP, y2: HEIGHT - BOTTOM }), series.map((one, number) => {
      const value = num(one.value(point, step));
      return value === null ? null : svg('circle', { class: `dot-${number}`, cx: place, cy: y(value), r: 3.5 });
    }));
  }

  /** Lines break where points or values are missing: a proxy that was not there served nothing, and cost nothing. */
  function lines(one, span) {
    const parts = [];
    let last = null;
    for (const point of points) {
      const value = num(one.value(point, step));
      if (value === null) { last = null; continue; }
      const joined = last !== null && point.at_unix - last <= step * 2.5;
      if (!joined) parts.push([]);
      parts[parts.length - 1].push([x(point.at_unix, span).toFixed(1), y(value).toFixed(1)]);
      last = point.at_unix;
    }
    return parts;
  }

  function draw() {
    setAttr(picture, 'width', width);
    setAttr(picture, 'viewBox', `0 0 ${width} ${HEIGHT}`);
    const known = points.flatMap((point) => series.map((one) => num(one.value(point, step))).filter((v) => v !== null));
    none.hidden = known.length > 0;
    const highest = Math.max(0, ...known);
    top = ceiling ?? (highest > 0 ? nice(highest * 1.05) : 1);
    const span = range();
    const base = HEIGHT - BOTTOM;
    const grid = (known.length ? [0, top / 2, top] : [0]).map((value) => [
      svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      known.length ? svg('text', { x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, axis(value)) : null,
    ]);
    const times = known.length ? moments(...span, width).map((unix) => {
      const place = x(unix, span);
      return place < LEFT + 14 || place > width - RIGHT - 14 ? null
        : svg('text', { x: place, y: HEIGHT - 4, 'text-anchor': 'middle' }, clock(unix, false));
    }) : [];
    const drawn = series.map((one, number) => lines(one, span).map((part) => {
      const path = `M${part.map((pair) => pair.join(' ')).join('L')}`;
      const ends = [part[0][0], part[part.length - 1][0]];
      return [
        number === 0 ? svg('path', { class: 'area', d: `${path}L${ends[1]} ${base}L${ends[0]} ${base}Z` }) : null,
        svg('path', { class: `line line-${number}`, d: part.length > 1 ? path : `${path}h0.1` }),
      ];
    }).flat()).reverse();
    put(picture, grid, times, drawn, pointer);
    mark();
  }

  new ResizeObserver(([entry]) => {
    const next = Math.floor(entry.contentRect.width);
    if (next && next !== width) {
      width = next;
      draw();
    }
  }).observe(field);

  return {
    node,
    update(next, seconds) {
      const looked = at === null ? null : points[at];
      points = next;
      step = seconds;
      if (looked) at = Math.max(points.findIndex((point) => point.at_unix >= looked.at_unix), 0);
      tell();
      if (width) draw();
    },
  };
}
