/**
 * Data stored in this browser: the token, for this tab or permanently as the user chooses, unsent messages, drafts, and
 * preferences. None of it is a cookie, so no other site can make the browser send it.
 */

const TOKEN = "p2pchat.token";
const NEW_NAME = "p2pchat.new";
const OUTBOX = "p2pchat.outbox.";
const DRAFTS = "p2pchat.drafts.";
const PREFERENCES = "p2pchat.choices";

/** @param {() => any} work @returns {any} null when the browser stores nothing */
function ifAllowed(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

/** @returns {string} the token, "" for none */
export function loadToken() {
  return ifAllowed(() => sessionStorage.getItem(TOKEN) ?? localStorage.getItem(TOKEN)) ?? "";
}

/**
 * @param {string} token @param {boolean} forLong keep it after this tab is closed
 * @param {string} newName the name it was made for just now; "" for a token that the user has
 */
export function saveToken(token, forLong, newName) {
  deleteToken();
  ifAllowed(() => (forLong ? localStorage : sessionStorage).setItem(TOKEN, token));
  if (newName) ifAllowed(() => sessionStorage.setItem(NEW_NAME, newName));
}

/** @returns {string} the name whose new token is still to be shown to the user, "" for none */
export function loadNewName() {
  return ifAllowed(() => sessionStorage.getItem(NEW_NAME)) ?? "";
}

export function deleteNewName() {
  ifAllowed(() => sessionStorage.removeItem(NEW_NAME));
}

export function deleteToken() {
  deleteNewName();
  ifAllowed(() => sessionStorage.removeItem(TOKEN));
  ifAllowed(() => localStorage.removeItem(TOKEN));
}

/** @param {string} userId @returns {any[]} messages this tab has not sent yet */
export function loadOutbox(userId) {
  const found = ifAllowed(() => JSON.parse(sessionStorage.getItem(OUTBOX + userId) ?? "[]"));
  return Array.isArray(found) ? found : [];
}

/** @param {string} userId @param {any[]} items */
export function saveOutbox(userId, items) {
  ifAllowed(() =>
    items.length ? sessionStorage.setItem(OUTBOX + userId, JSON.stringify(items)) : sessionStorage.removeItem(OUTBOX + userId),
  );
}

/**
 * @typedef {object} Target a message that is answered or edited, as it was when it was last loaded
 * @property {string} id @property {boolean} mine @property {string} sender @property {string} senderId @property {string} text @property {boolean} deleted @property {string} [names] of its files
 *
 * @typedef {object} Draft what was written in a conversation and not sent
 * @property {string} text @property {Target|null} reply what it answers
 * @property {Target|null} edit the message that is edited @property {string} edited its new text
 */

/** @param {string} userId @returns {Record<string, Draft>} the drafts of this tab, by conversation id */
export function loadDrafts(userId) {
  return ifAllowed(() => JSON.parse(sessionStorage.getItem(DRAFTS + userId) ?? "{}")) ?? {};
}

/** @param {string} userId @param {Record<string, Draft>} drafts */
export function saveDrafts(userId, drafts) {
  ifAllowed(() => sessionStorage.setItem(DRAFTS + userId, JSON.stringify(drafts)));
}

/** Forget unsent messages and drafts. @param {string} userId */
export function deleteOutbox(userId) {
  for (const key of [OUTBOX, DRAFTS]) ifAllowed(() => sessionStorage.removeItem(key + userId));
}

/** @returns {Record<string, any>} preferences set in this browser */
export function preferences() {
  return ifAllowed(() => JSON.parse(localStorage.getItem(PREFERENCES) ?? "{}")) ?? {};
}

/** @param {string} name @param {any} value */
export function setPreference(name, value) {
  ifAllowed(() => localStorage.setItem(PREFERENCES, JSON.stringify({ ...preferences(), [name]: value })));
}
