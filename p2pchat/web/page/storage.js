/**
 * Data stored in this browser: tokens, for this tab or permanently as the user chooses, unsent messages, drafts, and
 * preferences. None of it is a cookie, so no other site can make the browser send it. Several gateways may share an origin,
 * and several users a browser: all is kept under the path of this gateway, and what is a user's under its id too.
 */

import { urlOf } from "./http.js";

const PLACE = urlOf("").pathname;
const TOKEN = `p2pchat.token ${PLACE}`;
const TOKENS = `p2pchat.tokens ${PLACE}`; // of all who stay signed in, the newest last
const NEW_NAME = `p2pchat.new ${PLACE}`;
const OUTBOX = "outbox";
const DRAFTS = "drafts";
const PREFERENCES = "choices";

/** The name of what the tabs of this gateway tell each other by. */
export const CHANNEL = `p2pchat ${PLACE}`;

let owner = ""; // the id of the user who is signed in

/** Keep from now on what this user writes and chooses. @param {string} userId */
export function keepFor(userId) {
  owner = userId;
}

/** @param {string} what @returns {string} */
function own(what) {
  return `p2pchat.${what} ${PLACE} ${owner}`;
}

/** @param {() => any} work @returns {any} null when the browser stores nothing */
function ifAllowed(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

/** @returns {string[]} */
function tokens() {
  const found = ifAllowed(() => JSON.parse(localStorage.getItem(TOKENS) ?? "[]"));
  return Array.isArray(found) ? found : [];
}

/** @param {string[]} kept */
function saveTokens(kept) {
  ifAllowed(() => (kept.length ? localStorage.setItem(TOKENS, JSON.stringify(kept)) : localStorage.removeItem(TOKENS)));
}

/** @returns {string} the token of this tab, or the newest that stays; "" for none. The tab stays with it */
export function loadToken() {
  const token = ifAllowed(() => sessionStorage.getItem(TOKEN)) ?? tokens().at(-1) ?? "";
  if (token) ifAllowed(() => sessionStorage.setItem(TOKEN, token));
  return token;
}

/**
 * @param {string} token @param {boolean} forLong keep it after this tab is closed
 * @param {string} newName the name it was made for just now; "" for a token that the user has
 */
export function saveToken(token, forLong, newName) {
  deleteNewName();
  ifAllowed(() => sessionStorage.setItem(TOKEN, token));
  if (forLong) saveTokens([...tokens().filter((one) => one !== token), token]);
  if (newName) ifAllowed(() => sessionStorage.setItem(NEW_NAME, newName));
}

/** @returns {string} the name whose new token is still to be shown to the user, "" for none */
export function loadNewName() {
  return ifAllowed(() => sessionStorage.getItem(NEW_NAME)) ?? "";
}

export function deleteNewName() {
  ifAllowed(() => sessionStorage.removeItem(NEW_NAME));
}

/** Forget the token of this tab, which is nobody's until somebody signs in, and no other. @param {string} token */
export function deleteToken(token) {
  deleteNewName();
  ifAllowed(() => sessionStorage.setItem(TOKEN, ""));
  saveTokens(tokens().filter((one) => one !== token));
}

/** @returns {any[]} messages this tab has not sent yet */
export function loadOutbox() {
  const found = ifAllowed(() => JSON.parse(sessionStorage.getItem(own(OUTBOX)) ?? "[]"));
  return Array.isArray(found) ? found : [];
}

/** @param {any[]} items */
export function saveOutbox(items) {
  ifAllowed(() => (items.length ? sessionStorage.setItem(own(OUTBOX), JSON.stringify(items)) : sessionStorage.removeItem(own(OUTBOX))));
}

/**
 * @typedef {object} Target a message that is answered or edited, as it was when it was last loaded
 * @property {string} id @property {boolean} mine @property {string} sender @property {string} senderId @property {string} text @property {boolean} deleted @property {string} [names] of its files
 *
 * @typedef {object} Draft what was written in a conversation and not sent
 * @property {string} text @property {Target|null} reply what it answers
 * @property {Target|null} edit the message that is edited @property {string} edited its new text
 */

/** @returns {Record<string, Draft>} the drafts of this tab, by conversation id */
export function loadDrafts() {
  return ifAllowed(() => JSON.parse(sessionStorage.getItem(own(DRAFTS)) ?? "{}")) ?? {};
}

/** @param {Record<string, Draft>} drafts */
export function saveDrafts(drafts) {
  ifAllowed(() => sessionStorage.setItem(own(DRAFTS), JSON.stringify(drafts)));
}

/** Forget unsent messages and drafts. */
export function deleteOutbox() {
  for (const what of [OUTBOX, DRAFTS]) ifAllowed(() => sessionStorage.removeItem(own(what)));
}

/** @returns {Record<string, any>} preferences set in this browser */
export function preferences() {
  return ifAllowed(() => JSON.parse(localStorage.getItem(own(PREFERENCES)) ?? "{}")) ?? {};
}

/** @param {string} name @param {any} value */
export function setPreference(name, value) {
  ifAllowed(() => localStorage.setItem(own(PREFERENCES), JSON.stringify({ ...preferences(), [name]: value })));
}
