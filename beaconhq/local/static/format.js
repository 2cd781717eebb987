// Numbers, times and foreign text, as the page shows them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (number) => whole.format(number);

export function rate(perSecond) {
  return perSecond >= 100 ? whole.format(Math.round(perSecond)) : short.format(perSecond);
}

export function share(part, all) {
  if (!all) return "–";
  const percent = (100 * part) / all;
  if (part === 0) return "0 %";
  if (percent < 0.1) return "< 0.1 %";
  return percent < 99.95 ? `${percent.toFixed(1)} %` : "100 %";
}

/** A duration in milliseconds; seconds from ten thousand on. */
export function duration(ms) {
  if (ms === null) return "–";
  if (ms < 10_000) return `${whole.format(ms)} ms`;
  if (ms < 600_000) return `${short.format(ms / 1000)} s`;
  return ms < 8.64e8 ? `${whole.format(Math.round(ms / 60_000))} min` : "> 10 days";
}

/** How long ago, in words; `now` comes from the server: the two clocks may differ. */
export function ago(iso, now) {
  const seconds = Math.round((now - Date.parse(iso)) / 1000);
  if (Number.isNaN(seconds)) return iso;
  if (seconds < -60) return "in the future";
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return iso.slice(0, 10);
}

const two = (number) => String(number).padStart(2, "0");

/** Time of day where this browser is. */
export function clock(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Local date and time as plotly.js reads it: it knows no time zones. */
export function chartTime(ms) {
  const at = new Date(ms);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${clock(at)}`;
}

// Control, format (bidi, zero width), private and unassigned characters, separators: as `printable` in Python.
const invisible = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

/** Foreign text with every character visible: an override would show another text than the one stored. */
export function visible(text, limit = 400) {
  const shown = text.replace(invisible, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
  return shown.length > limit ? `${shown.slice(0, limit)}…` : shown;
}
