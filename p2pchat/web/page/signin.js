/** Signing in: register a name and get a token, or use an existing token. And signing out, which asks first. */

import { confirm, dialog } from "./dialog.js";
import { copyButton, h } from "./dom.js";
import { isOwn, signUp } from "./http.js";
import { safeLine } from "./safe_text.js";

const IS_CLOSED = document.documentElement.dataset.signUp === "closed"; // the gateway gives nobody who asks a name
const NOTICED_AFTER = 1500; // milliseconds after which a sentence that has changed was seen; a guess

/**
 * @param {object} options
 * @param {string} options.why the reason why a token was refused; "" for none
 * @param {string} options.tried that token
 * @param {(token: string, forLong: boolean, newName: string) => void} options.entered the name if it was registered now, else ""
 * @returns {HTMLElement}
 */
export function signIn({ why, tried, entered }) {
  const trouble = h("p", { class: "trouble", id: "trouble", role: "alert" });
  const forLong = h("input", { type: "checkbox", id: "for-long" });
  const name = h("input", {
    id: "name", name: "name", autocomplete: "nickname", maxlength: 32, required: true, spellcheck: "false", "aria-describedby": "trouble",
    oninput: () => (trouble.textContent = ""), // of another name
  });
  const tokenTrouble = h("p", { class: "trouble", id: "token-trouble", role: "alert" }, why);
  const token = h("input", {
    id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false", value: tried, "aria-describedby": "token-trouble",
    oninput: () => (tokenTrouble.textContent = ""),
  });
  const join = h("button", { class: "primary" }, "Join");

  const joining = async (/** @type {Event} */ event) => {
    event.preventDefault();
    join.disabled = true;
    trouble.textContent = "";
    try {
      const made = await signUp(name.value.trim());
      entered(made.token, forLong.checked, made.name);
    } catch (error) {
      trouble.textContent = /** @type {Error} */ (error).message;
      join.disabled = false;
      name.focus();
    }
  };
  const entering = (/** @type {Event} */ event) => {
    event.preventDefault();
    entered(token.value.replace(/\s/gu, ""), forLong.checked, "");
  };
  const withToken = h("form", { onsubmit: entering },
    h("label", { for: "token" }, "Your token"),
    h("div", { class: "row" }, token, h("button", { class: IS_CLOSED && "primary" }, "Sign in")),
    tokenTrouble,
  );
  const brand = h("h1", { class: "brand" }, h("img", { src: "icon.svg", alt: "", width: 40, height: 40 }), "p2pchat");
  if (isOwn()) {
    const again = h("button", { class: "primary", type: "button", onclick: () => location.reload() }, "Try again");
    return h("main", { class: "door" }, h("div", { class: "card" }, brand, h("p", { class: "lead" }, why), again));
  }
  return h("main", { class: "door" }, h("div", { class: "card" },
    brand,
    h("p", { class: "lead" }, "Chat with everyone on this network, from your browser or a terminal."),
    IS_CLOSED ? [withToken, h("p", { class: "hint" }, "Nobody can sign up here. If you have no token, ask whoever runs this gateway for one.")] : [
      h("form", { onsubmit: joining },
        h("label", { for: "name" }, "Choose a name"),
        h("div", { class: "row" }, name, join),
        trouble,
      ),
      h("details", { open: Boolean(why) }, h("summary", {}, "I already have a token"), withToken),
    ],
    h("label", { class: "check" }, forLong, " Stay signed in on this device"),
  ));
}

/** The page that shows a new token. @param {string} name @param {string} token @param {() => void} go @returns {HTMLElement} */
export function newToken(name, token, go) {
  return h("main", { class: "door" }, h("div", { class: "card" },
    h("h1", { tabindex: -1 }, "Welcome, ", h("bdi", {}, name)),
    h("p", {}, "This is your token, the only way back to your name from another device or after signing out. Save it in your password manager."),
    tokenBox(token),
    h("div", { class: "row" }, copyButton(() => token, "Copy token"), h("button", { class: "primary", type: "button", onclick: go }, "Start chatting")),
  ));
}

/**
 * Ask before this browser forgets a token. What will be lost is counted as long as the dialog is open; a message written
 * in another tab while the button is pressed is said first.
 * @param {import("./chat.js").Chat} chat @param {string} token @returns {Promise<boolean>}
 */
export async function confirmSignOut(chat, token) {
  const lost = h("p", { class: "trouble", role: "alert" });
  let shown = 0;
  let grownAt = -Infinity;
  const ended = chat.model.bus.on("waiting", (count) => {
    if (count > shown) grownAt = Date.now();
    shown = count;
    lost.textContent = lossOf(count);
  });
  chat.countWaiting();
  const isSaid = () => {
    if (!shown || Date.now() - grownAt >= NOTICED_AFTER) return true;
    grownAt = -Infinity;
    lost.textContent = `${lossOf(shown)} Sign out anyway?`;
    return false;
  };
  const confirmed = await confirm("Sign out?", [
    h("p", {}, "This is your token, the only way back to the name ", h("bdi", {}, safeLine(chat.model.me.name)), " and its messages. Save it in your password manager first: without it, only whoever runs this gateway can let you in again."),
    tokenBox(token),
    copyButton(() => token, "Copy token"),
    lost,
  ], "Sign out", isSaid);
  ended();
  return confirmed;
}

/**
 * Say what deleting the account does, ask for the name, and delete it.
 * @param {import("./chat.js").Chat} chat
 */
export function askToDelete(chat) {
  const trouble = h("p", { class: "trouble", id: "delete-trouble", role: "alert" });
  const name = h("input", { id: "delete-name", autocomplete: "off", required: true, spellcheck: "false", "aria-describedby": "delete-trouble", oninput: () => (trouble.textContent = "") });
  const button = h("button", { class: "danger" }, "Delete my account");
  const deleting = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (name.value.trim() !== chat.model.me.name) {
      trouble.textContent = "That is not your name.";
      return;
    }
    button.disabled = true;
    trouble.textContent = await chat.deleteAccount().then(() => "", (error) => /** @type {Error} */ (error).message);
    button.disabled = false;
  };
  const shown = dialog("Delete your account?", h("form", { onsubmit: deleting },
    h("div", { class: "paragraphs" }, h("p", {}, "The name ", h("bdi", {}, safeLine(chat.model.me.name)), ", its key and its token are deleted, and you are signed out everywhere. Nobody can undo that, not even whoever runs this gateway."),
    h("p", {}, "What you wrote stays with everyone who has it, under your name, and so does your place in groups. Messages that were not sent yet are lost. For 90 days nobody gets the name; after that anyone may take it, with another key.")),
    h("label", { for: "delete-name" }, "Type your name to confirm"), name, trouble,
    h("div", { class: "row end" }, h("button", { type: "button", onclick: () => shown.close() }, "Cancel"), button),
  ));
}

/** @param {number} count of messages that were not sent yet @returns {string} what becomes of them; "" for none */
function lossOf(count) {
  return count > 1 ? `${count} messages were not sent yet and will be lost.` : count ? "1 message was not sent yet and will be lost." : "";
}

/** @param {string} token */
function tokenBox(token) {
  return h("div", { class: "token", role: "group", "aria-label": "Your token" }, token);
}
