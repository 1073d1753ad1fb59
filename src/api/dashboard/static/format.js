// Values as people read them. Whatever is missing or of another kind than expected is "–": the page shows what it gets.

const NOTHING = '–';
const MAX_CHARS = 400;
// Controls, and marks that turn the direction of writing: a name must not rearrange what stands beside it.
const ODD = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A finite number, or null. */
export const num = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : null);
/** An array, whatever came. */
export const list = (value) => (Array.isArray(value) ? value : []);
/** An object, whatever came. */
export const dict = (value) => (value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {});

/** A text of somebody else's, printable and bounded; '' for what is none. */
export function text(value) {
  if (value === null || value === undefined || typeof value === 'object') return '';
  const all = String(value).replace(ODD, '\ufffd');
  return all.length > MAX_CHARS ? `${all.slice(0, MAX_CHARS)}…` : all;
}

/** The same where something has to stand. */
export const word = (value) => text(value) || NOTHING;

const formats = new Map();
function digits(value, most, least = 0) {
  const name = `${most}/${least}`;
  if (!formats.has(name)) {
    formats.set(name, new Intl.NumberFormat('en-US', { maximumFractionDigits: most, minimumFractionDigits: least }));
  }
  return formats.get(name).format(value);
}

/** 12,345 */
export function count(value) {
  const number = num(value);
  return number === null ? NOTHING : digits(number, 0);
}

/** 12.3k, 4.56M */
export function compact(value) {
  const number = num(value);
  if (number === null) return NOTHING;
  const size = Math.abs(number);
  if (size >= 999.5e6) return `${digits(number / 1e9, 2)}G`;
  if (size >= 999.5e3) return `${digits(number / 1e6, size >= 1e7 ? 1 : 2)}M`;
  if (size >= 9999.5) return `${digits(number / 1e3, 1)}k`;
  return digits(number, size < 10 && !Number.isInteger(number) ? 1 : 0);
}

/** $1.25, or more digits where there is little. */
export function dollars(value) {
  const number = num(value);
  if (number === null) return NOTHING;
  const size = Math.abs(number);
  const least = size === 0 || size >= 0.095 ? 2 : 3;
  return `${number < 0 ? '−' : ''}$${digits(size, size >= 1000 ? 0 : least, size >= 1000 ? 0 : least)}`;
}

/** A share of 1 as 87 %. */
export function percent(share, most = 0) {
  const number = num(share);
  return number === null ? NOTHING : `${digits(number * 100, most)} %`;
}

/** Milliseconds: 0.4 ms, 312 ms, 1.24 s, 2 min 5 s */
export function millis(value) {
  const number = num(value);
  if (number === null) return NOTHING;
  if (Math.abs(number) < 999.5) return `${digits(number, Math.abs(number) < 9.95 ? 1 : 0)} ms`;
  if (number < 59_950) return `${digits(number / 1000, 2)} s`;
  return duration(number / 1000);
}

/** Seconds: 12 s, 3 min, 2 h 5 min, 3 d 4 h */
export function duration(value) {
  const number = num(value);
  if (number === null) return NOTHING;
  const s = Math.max(Math.round(number), 0);
  if (s < 60) return `${s} s`;
  const two = (big, unit, small, name) => (small ? `${big} ${unit} ${small} ${name}` : `${big} ${unit}`);
  if (s < 600) return two(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return two(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  if (s < 86_400 * 1000) return two(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
  return `${count(s / 86_400)} d`;
}

/** Bytes: 312 B, 4.1 KB, 2.3 MB */
export function bytes(value) {
  const number = num(value);
  if (number === null) return NOTHING;
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let size = number;
  let at = 0;
  while (size >= 999.5 && at < units.length - 1) { size /= 1000; at += 1; }
  return `${digits(size, at && size < 99.5 ? 1 : 0)} ${units[at]}`;
}

const two = (value) => String(value).padStart(2, '0');

function moment(unix) {
  const number = num(unix);
  const date = number === null ? null : new Date(number * 1000);
  return date === null || Number.isNaN(date.getTime()) ? null : date;
}

/** The time of day here: 14:05:09, or 14:05 */
export function clock(unix, seconds = true) {
  const date = moment(unix);
  if (date === null) return NOTHING;
  return `${two(date.getHours())}:${two(date.getMinutes())}${seconds ? `:${two(date.getSeconds())}` : ''}`;
}

/** Date and time here: 2026-08-01 14:05:09 */
export function date(unix) {
  const at = moment(unix);
  return at === null ? NOTHING
    : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(unix)}`;
}

/** Where a request is explained. */
export const requestLink = (id) => `#/requests/${encodeURIComponent(id)}`;

/** "state_changed" as "state changed". */
export const spoken = (name) => text(name).replaceAll('_', ' ');
