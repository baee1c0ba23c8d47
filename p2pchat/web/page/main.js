/** Entry point. Opens the chat with the stored token, or shows the sign-in form. */

import { Chat } from "./chat.js";
import { closeDialogs } from "./dialog.js";
import { fill } from "./dom.js";
import { isOwn, urlOf } from "./http.js";
import { Layout } from "./layout.js";
import { forgetAddress } from "./navigation.js";
import { leaveKeysToInputMethods } from "./shortcuts.js";
import { confirmSignOut, newToken, signIn } from "./signin.js";
import { Announcer, showBadge } from "./status.js";
import { deleteNewName, deleteToken, loadNewName, loadToken, saveToken } from "./storage.js";

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
const region = /** @type {HTMLElement} */ (document.getElementById("announcer"));

/** @type {Record<string, string>} */
const REASONS = { unauthorized: isOwn() ? "You are not signed in. Sign in where this chat belongs to, then come back." : "Unknown token. Sign in again.", revoked: "This token was revoked by the operator of this gateway.", deleted: "This account was deleted.", expelled: "This account was expelled from the network. Only who expelled it can let it in again." };

/** @param {string} [why] the reason why a token was refused @param {string} [tried] that token */
function askWho(why = "", tried = "") {
  fill(app, signIn({ why, tried, entered: (found, forLong, newName) => (saveToken(found, forLong, newName), enter(found, newName)) }));
  (document.getElementById(why ? "token" : "name") ?? document.getElementById("token"))?.focus();
}

/** @param {string} token @param {string} newName the name if the user has yet to save the token, else "" */
function enter(token, newName) {
  if (!newName) return openChat(token);
  fill(app, newToken(newName, token, () => (deleteNewName(), openChat(token))));
  app.querySelector("h1")?.focus();
}

/** @param {string} token */
function openChat(token) {
  const chat = new Chat(token, (why) => leave(chat, why));
  new Announcer(region, chat.model);
  const signOut = async () => (await confirmSignOut(chat, token)) && chat.signOut();
  fill(app, new Layout(chat, signOut).element);
  chat.start();
}

/** @param {Chat} chat @param {string} why the reason of the gateway; "" for signed out by the user */
function leave(chat, why) {
  chat.stop();
  closeDialogs();
  region.replaceChildren(); // it holds what others wrote
  const isOver = !why || why === "deleted"; // whoever comes next starts afresh
  deleteToken(chat.token);
  if (isOver) forgetAddress();
  document.title = "p2pchat";
  showBadge(0);
  askWho(REASONS[why] ?? why, isOver ? "" : chat.token);
}

navigator.serviceWorker?.register(urlOf("worker.js")).catch(() => {}); // not allowed here: the page works without
leaveKeysToInputMethods();
const kept = isOwn() ? "own" : loadToken();
if (kept) enter(kept, loadNewName());
else askWho();
