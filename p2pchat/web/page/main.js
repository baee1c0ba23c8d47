/** Entry point. Opens the chat with the stored token, or shows the sign-in form. */

import { Chat } from "./chat.js";
import { fill } from "./dom.js";
import { Layout } from "./layout.js";
import { forgetAddress } from "./navigation.js";
import { signIn } from "./signin.js";
import { Announcer, showBadge } from "./status.js";
import { deleteToken, loadToken, saveToken } from "./storage.js";

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
const region = /** @type {HTMLElement} */ (document.getElementById("announcer"));

/** @type {Record<string, string>} */
const REASONS = { unauthorized: "Unknown token. Sign in again.", revoked: "This token was revoked by the operator of this gateway." };

/** @param {string} [why] the sentence to show above the form */
function start(why = "") {
  const token = loadToken();
  if (token) openChat(token);
  else fill(app, signIn({ why, entered: (found, forLong) => (saveToken(found, forLong), openChat(found)) }));
}

/** @param {string} token */
function openChat(token) {
  const chat = new Chat(token, (why) => leave(chat, why || "This token is no longer valid."));
  new Announcer(region, chat.model);
  fill(app, new Layout(chat, () => leave(chat, "")).element);
  chat.start();
}

/** @param {Chat} chat @param {string} why */
function leave(chat, why) {
  chat.stop();
  deleteToken();
  if (!why) forgetAddress(); // signed out: whoever comes next starts afresh
  document.title = "p2pchat";
  showBadge(0);
  start(REASONS[why] ?? why);
}

start();
