/**
 * What this browser keeps: the token, for this tab or for longer, as its owner chooses; and what waits to be sent.
 * Nothing of it is a cookie, so no other site can make this browser use it.
 */

const TOKEN = "p2pchat.token";
const OUTBOX = "p2pchat.outbox.";
const CHOICES = "p2pchat.choices";

/** @param {() => any} work @returns {any} null where the browser keeps nothing */
function quietly(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

/** @returns {string} the token, "" when none is kept */
export function keptToken() {
  return quietly(() => sessionStorage.getItem(TOKEN) ?? localStorage.getItem(TOKEN)) ?? "";
}

/** @param {string} token @param {boolean} forLong also after this tab is closed */
export function keepToken(token, forLong) {
  forgetToken();
  quietly(() => (forLong ? localStorage : sessionStorage).setItem(TOKEN, token));
}

export function forgetToken() {
  quietly(() => sessionStorage.removeItem(TOKEN));
  quietly(() => localStorage.removeItem(TOKEN));
}

/** @param {string} userId @returns {any[]} what this tab has still to send */
export function keptOutbox(userId) {
  const found = quietly(() => JSON.parse(sessionStorage.getItem(OUTBOX + userId) ?? "[]"));
  return Array.isArray(found) ? found : [];
}

/** @param {string} userId @param {any[]} items */
export function keepOutbox(userId, items) {
  quietly(() =>
    items.length ? sessionStorage.setItem(OUTBOX + userId, JSON.stringify(items)) : sessionStorage.removeItem(OUTBOX + userId),
  );
}

/** @param {string} userId */
export function forgetOutbox(userId) {
  quietly(() => sessionStorage.removeItem(OUTBOX + userId));
}

/** @returns {Record<string, any>} small choices of whoever uses this browser */
export function choices() {
  return quietly(() => JSON.parse(localStorage.getItem(CHOICES) ?? "{}")) ?? {};
}

/** @param {string} name @param {any} value */
export function choose(name, value) {
  quietly(() => localStorage.setItem(CHOICES, JSON.stringify({ ...choices(), [name]: value })));
}
