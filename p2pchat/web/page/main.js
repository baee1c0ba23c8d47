/** The beginning: who is kept here goes on, everybody else signs in. */

import { Announcer } from "./announcer.js";
import { Chat } from "./chat.js";
import { fill } from "./dom.js";
import { forgetToken, keepToken, keptToken } from "./keep.js";
import { Shell } from "./shell.js";
import { signIn } from "./signin.js";

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
const region = /** @type {HTMLElement} */ (document.getElementById("announcer"));

/** @type {Record<string, string>} */
const REASONS = { unauthorized: "Nobody here has this token: sign in again.", revoked: "This token was ended by whoever runs this gateway." };

/** @param {string} [why] a sentence: why one has to sign in again */
function begin(why = "") {
  const token = keptToken();
  if (token) enter(token);
  else fill(app, signIn({ why, entered: (found, forLong) => (keepToken(found, forLong), enter(found)) }));
}

/** @param {string} token */
function enter(token) {
  const chat = new Chat(token, (why) => leave(chat, why || "This token is not valid here any more."));
  new Announcer(region, chat.model);
  fill(app, new Shell(chat, () => leave(chat, "")).element);
  chat.start();
}

/** @param {Chat} chat @param {string} why */
function leave(chat, why) {
  chat.stop();
  forgetToken();
  document.title = "p2pchat";
  begin(REASONS[why] ?? why);
}

begin();
