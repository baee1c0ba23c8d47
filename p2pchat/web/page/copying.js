/** A button that copies a text, and says that it did. */

import { h } from "./dom.js";

const SAID_FOR = 2000; // milliseconds

/** @param {() => string} text @param {string} label @returns {HTMLElement} */
export function copyButton(text, label) {
  const button = h("button", { type: "button", onclick: async () => say(button, (await copy(text())) ? "Copied" : "Select it and copy", label) }, label);
  return button;
}

/** @param {HTMLElement} button @param {string} word @param {string} label */
function say(button, word, label) {
  button.textContent = word;
  setTimeout(() => (button.textContent = label), SAID_FOR);
}

/** @param {string} text @returns {Promise<boolean>} false where the browser does not allow it: without https, for one */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
