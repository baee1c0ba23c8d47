/** A button that copies a text to the clipboard and confirms it. */

import { h } from "./dom.js";

const SHOWN_FOR = 2000; // milliseconds

/** @param {() => string} text @param {string} label @returns {HTMLElement} */
export function copyButton(text, label) {
  const button = h("button", { type: "button", onclick: async () => showBriefly(button, (await copy(text())) ? "Copied" : "Select it and copy", label) }, label);
  return button;
}

/** @param {HTMLElement} button @param {string} word @param {string} label */
function showBriefly(button, word, label) {
  button.textContent = word;
  setTimeout(() => (button.textContent = label), SHOWN_FOR);
}

/** @param {string} text @returns {Promise<boolean>} false when the browser does not allow it, for example without https */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
