/** Times in the reader's zone and language. */

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const SHORT_DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const SHORT_DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "short" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

let ahead = 0; // milliseconds by which the gateway's clock is ahead of the browser's

/** Note the gateway's time, as it has just said it. @param {string} iso */
export function setGatewayTime(iso) {
  ahead = Date.parse(iso) - Date.now();
}

/** @returns {number} the present by the gateway's clock, in milliseconds: that of the browser may be wrong */
export function gatewayNow() {
  return Date.now() + ahead;
}

/** @param {string} iso */
export function clock(iso) {
  return CLOCK.format(new Date(iso));
}

/** @param {string} iso */
export function whole(iso) {
  return WHOLE.format(new Date(iso));
}

/** @param {string} iso @returns {string} a key that is unique for each day in the local zone */
export function dayKey(iso) {
  return new Date(iso).toDateString();
}

/** @param {string} iso @param {Date} [now] */
export function day(iso, now = new Date()) {
  const then = new Date(iso);
  if (then.toDateString() === now.toDateString()) return "Today";
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  if (then.toDateString() === yesterday.toDateString()) return "Yesterday";
  return (then.getFullYear() === now.getFullYear() ? DAY : DAY_AND_YEAR).format(then);
}

/** @param {string} iso @param {Date} [now] @returns {string} as short as it can be told: the time, Yesterday, Mon, 3 Nov, 03/11/2025 */
export function briefly(iso, now = new Date()) {
  const then = new Date(iso);
  const name = day(iso, now);
  if (name === "Today") return clock(iso);
  if (name === "Yesterday") return name;
  const isRecent = then < now && then > new Date(now.getFullYear(), now.getMonth(), now.getDate() - 6);
  return (isRecent ? WEEKDAY : then.getFullYear() === now.getFullYear() ? SHORT_DAY : SHORT_DATE).format(then);
}

/** @param {string} iso @param {Date} [now] @returns {string} the time if it is today, else day and time */
export function when(iso, now = new Date()) {
  return new Date(iso).toDateString() === now.toDateString() ? clock(iso) : `${day(iso, now)}, ${clock(iso)}`;
}
