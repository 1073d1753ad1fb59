// What the states, figures and machines of a fleet are called, and how bad each is: "good", "warn", "bad" or "" (neither).

import { dict, dollars, duration, list, num, percent, spoken, text } from './format.js';
import { age } from './live.js';

const LEVELS = { healthy: 'good', unhealthy: 'bad', connecting: 'warn', discovered: 'warn', draining: 'warn', removing: '' };

export const level = (backend) => LEVELS[text(backend.state)] ?? '';

/** "healthy", or what else it is and what is about it. */
export function stateWord(backend) {
  return backend.draining === true && text(backend.state) !== 'draining' ? `${spoken(backend.state)}, draining` : spoken(backend.state) || 'unknown';
}

export const since = (backend) => (num(backend.since_s) === null ? '' : `for ${duration(backend.since_s + age())}`);

export function gpuName(backend) {
  const number = num(backend.num_gpus) ?? list(backend.gpus).length;
  const name = text(backend.gpu_name);
  return number || name ? `${number || '?'} × ${name || 'GPU'}` : '–';
}

/** The mean of what is known, or null. */
export function mean(values) {
  const known = values.map(num).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

export const memoryShare = (gpu) => {
  const [used, total] = [num(gpu.memory_used_mib), num(gpu.memory_total_mib)];
  return used === null || !total ? null : used / total;
};

const power = (watts) => (watts < 1000 ? `${Math.round(watts)} W` : `${(watts / 1000).toFixed(1)} kW`);

/** One line for all GPUs of a backend: busy, memory, the hottest. */
export function gpuLine(backend) {
  const gpus = list(backend.gpus).map(dict);
  if (!gpus.length) return text(backend.gpu_error);
  const busy = mean(gpus.map((gpu) => gpu.utilization_percent));
  const memory = mean(gpus.map(memoryShare));
  const hottest = gpus.map((gpu) => num(gpu.temperature_c)).filter((value) => value !== null);
  const watts = gpus.map((gpu) => num(gpu.power_w)).filter((value) => value !== null);
  return [
    busy === null ? '' : percent(busy / 100),
    memory === null ? '' : `${percent(memory)} memory`,
    hottest.length ? `${Math.round(Math.max(...hottest))} °C` : '',
    watts.length ? power(watts.reduce((sum, value) => sum + value, 0)) : '',
  ].filter(Boolean).join(' · ');
}

export const gpuLevel = (gpu) => {
  if (gpu.lost === true || gpu.unreadable === true || gpu.needs_reset === true) return 'bad';
  const heat = num(gpu.temperature_c);
  return heat === null || heat < 85 ? '' : heat < 92 ? 'warn' : 'bad';
};

/** What the time that is left depends on. */
export function timeLeft(backend) {
  const left = dict(backend.time_left);
  const seconds = num(left.left_s) !== null ? Math.max(left.left_s - age(), 0) : (num(backend.ends_unix) === null ? null : backend.ends_unix - Date.now() / 1000);
  const because = { contract: 'until the contract ends', credit: 'until the credit is used up' }[left.because] || '';
  const notes = [
    left.draining === true ? 'draining' : '',
    left.outbid_risk === 'high' ? 'may be outbid' : '',
    left.price_rise ? 'price rise' : '',
    num(left.drains_in_s) === null || left.drains_in_s > 3600 || left.draining === true ? '' : `drains in ${duration(left.drains_in_s)}`,
  ].filter(Boolean);
  const worried = left.outbid_risk === 'high' || Boolean(left.price_rise);
  return {
    seconds,
    short: seconds === null ? '–' : duration(seconds),
    because,
    first: notes[0] || '',
    notes: notes.join(', '),
    level: seconds === null ? (worried ? 'warn' : '') : seconds < 600 ? 'bad' : seconds < 3600 || worried ? 'warn' : '',
  };
}

/** A price rise in words. Nothing is promised of its fields. */
export function priceRise(rise) {
  const told = dict(rise);
  const parts = Object.entries(told).filter(([, value]) => typeof value !== 'object').slice(0, 6)
    .map(([name, value]) => `${spoken(name)} ${num(value) !== null && /price|dollar|dph|cost/.test(name) ? dollars(value) : text(value)}`);
  return parts.join(', ');
}

/** "rented before, score 0.93" */
export function machineWords(machine) {
  const told = dict(machine);
  const score = num(told.score);
  return [told.rented_before === true ? 'rented before' : '', score === null ? '' : `score ${score.toFixed(2)}`].filter(Boolean).join(', ');
}
