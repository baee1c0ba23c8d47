/** Sign-in form: register a name and get a token, or sign in with an existing token. */

import { copyButton, fill, h } from "./dom.js";
import { signUp } from "./http.js";

/**
 * @param {object} options
 * @param {string} options.why the sentence to show first; "" for none
 * @param {(token: string, forLong: boolean) => void} options.entered
 * @returns {HTMLElement}
 */
export function signIn({ why, entered }) {
  const card = h("div", { class: "card" });
  fill(card, signInForm(card, why, entered));
  return h("main", { class: "door" }, card);
}

/** @param {HTMLElement} card @param {string} why @param {(token: string, forLong: boolean) => void} entered */
function signInForm(card, why, entered) {
  const trouble = h("p", { class: "trouble", id: "trouble", role: "alert" }, why);
  const forLong = h("input", { type: "checkbox", id: "for-long" });
  const name = h("input", {
    id: "name", name: "name", autocomplete: "nickname", maxlength: 32, required: true, spellcheck: "false", "aria-describedby": "trouble",
  });
  const token = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const join = h("button", { class: "primary" }, "Join");

  const joining = async (/** @type {Event} */ event) => {
    event.preventDefault();
    join.disabled = true;
    trouble.textContent = "";
    try {
      const made = await signUp(name.value.trim());
      fill(card, tokenCard(made.name, made.token, () => entered(made.token, forLong.checked)));
      card.querySelector("h1")?.focus();
    } catch (error) {
      trouble.textContent = /** @type {Error} */ (error).message;
      join.disabled = false;
      name.focus();
    }
  };
  const entering = (/** @type {Event} */ event) => {
    event.preventDefault();
    entered(token.value.trim(), forLong.checked);
  };
  return [
    h("h1", { class: "brand" }, h("img", { src: "icon.svg", alt: "", width: 40, height: 40 }), "p2pchat"),
    h("p", { class: "lead" }, "Chat with everyone on this network, from your browser or a terminal."),
    h("form", { onsubmit: joining },
      h("label", { for: "name" }, "Choose a name"),
      h("div", { class: "row" }, name, join),
      trouble,
    ),
    h("details", { open: Boolean(why) },
      h("summary", {}, "I already have a token"),
      h("form", { onsubmit: entering },
        h("label", { for: "token" }, "Your token"),
        h("div", { class: "row" }, token, h("button", {}, "Sign in")),
      ),
    ),
    h("label", { class: "check" }, forLong, " Stay signed in on this device"),
  ];
}

/** Show a new token, which cannot be shown again. @param {string} name @param {string} token @param {() => void} go */
function tokenCard(name, token, go) {
  const shown = h("div", { class: "token", role: "group", "aria-label": "Your token" }, token);
  return [
    h("h1", { tabindex: -1 }, "Welcome, ", h("bdi", {}, name)),
    h("p", {}, "This is your token, the only way back to your name. You won't see it again: save it in your password manager."),
    shown,
    h("div", { class: "row" }, copyButton(() => token, "Copy token"), h("button", { class: "primary", type: "button", onclick: go }, "Start chatting")),
  ];
}
