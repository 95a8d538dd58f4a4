// Times and sizes in words, in the operator's zone.

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

// The receiver's clock minus this machine's, in seconds: ages are told by the receiver's.
let offset = 0;
export const calibrate = (now) => { offset = now - Date.now() / 1000; };
export const now = () => Date.now() / 1000 + offset;

export const timeOf = (seconds) => {
  const date = new Date(seconds * 1000);
  return now() - seconds < 72000 ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
};
export const exactTime = (seconds) => `${exact.format(new Date(seconds * 1000))} (${seconds.toFixed(3)})`;

export function age(seconds) {
  const passed = Math.max(0, now() - seconds);
  if (passed < 5) return "now";
  if (passed < 60) return `${Math.floor(passed)} s`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min`;
  if (passed < 172800) return `${Math.floor(passed / 3600)} h`;
  return `${Math.floor(passed / 86400)} d`;
}

export function duration(seconds) {
  if (Math.abs(seconds) < 1) return `${Math.round(seconds * 1000)} ms`;
  if (Math.abs(seconds) < 90) return `${seconds.toFixed(1)} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function rate(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B/s`;
  if (bytes < 1e6) return `${Math.round(bytes / 1000)} kB/s`;
  return `${(bytes / 1e6).toFixed(1)} MB/s`;
}

export const many = (count, one, more = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : more}`;
