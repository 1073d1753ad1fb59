// The GPUs of one backend, each with what it does.

import { bar, empty, h, keyed, put, setAttr, setText } from './dom.js';
import { dict, list, num, percent, text, word } from './format.js';
import { gpuLevel, memoryShare } from './words.js';

const gib = (mib) => (num(mib) === null ? '–' : (mib / 1024).toFixed(1));

function gauge(name) {
  const inside = bar();
  const words = h('b');
  return {
    node: h('div', { class: 'gauge' }, h('span', { class: 'gauge-name' }, name), inside.node, words),
    set(share, said, level) {
      inside.set(share, level);
      setText(words, said);
    },
  };
}

function row() {
  const name = h('b');
  const more = h('small');
  const busy = gauge('Busy');
  const memory = gauge('Memory');
  const power = gauge('Power');
  const heat = h('span', { class: 'gpu-heat' });
  return {
    node: h('li', { class: 'gpu-row' }, h('div', { class: 'gpu-title' }, name, more), busy.node, memory.node, power.node, heat),
    update(gpu) {
      setText(name, `GPU ${word(gpu.index)}`);
      const clocks = [text(gpu.name), num(gpu.sm_clock_mhz) === null ? '' : `${Math.round(gpu.sm_clock_mhz)} MHz`,
        num(gpu.fan_percent) === null ? '' : `fan ${Math.round(gpu.fan_percent)} %`,
        list(gpu.throttle).length ? `held down: ${list(gpu.throttle).map(text).join(', ').replaceAll('_', ' ')}` : '',
        gpu.lost === true ? 'lost' : '', gpu.needs_reset === true ? 'needs a reset' : ''];
      setText(more, clocks.filter(Boolean).join(' · '));
      const use = num(gpu.utilization_percent);
      busy.set(use === null ? null : use / 100, use === null ? '–' : percent(use / 100), '');
      const share = memoryShare(gpu);
      memory.set(share, num(gpu.memory_total_mib) === null ? '–' : `${gib(gpu.memory_used_mib)} of ${gib(gpu.memory_total_mib)} GiB`, '');
      const [watts, limit] = [num(gpu.power_w), num(gpu.power_limit_w)];
      power.set(watts === null || !limit ? null : watts / limit, watts === null ? '–' : `${Math.round(watts)} W${limit ? ` of ${Math.round(limit)}` : ''}`, '');
      setText(heat, num(gpu.temperature_c) === null ? '–' : `${Math.round(gpu.temperature_c)} °C`);
      setAttr(heat, 'data-level', gpuLevel(gpu) || null);
    },
  };
}

/** A panel; `update(backend)` shows its GPUs, what is wrong with them, and why none is known. */
export function gpuPanel() {
  const rows = h('ul', { class: 'gpus' });
  const show = keyed(rows, (gpu) => text(gpu.index), row);
  const signs = h('ul', { class: 'signs' });
  const none = h('div');
  return {
    node: h('div', {}, signs, rows, none),
    update(backend) {
      const gpus = list(backend.gpus).map(dict);
      show(gpus);
      const wrong = [...list(backend.gpu_signs).map(dict).map((sign) => [text(sign.text), sign.fault === true ? 'bad' : 'warn'])];
      if (backend.gpu_error && gpus.length) wrong.push([text(backend.gpu_error), 'warn']);
      put(signs, wrong.map(([words, level]) => h('li', { 'data-level': level }, words)));
      if (gpus.length) put(none);
      else put(none, empty('No GPU has been read', text(backend.gpu_error)));
    },
  };
}
