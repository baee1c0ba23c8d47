/** Dialogs, one at a time. Escape, the button or a click outside closes one and returns the focus. */

import { h, iconButton } from "./dom.js";
import { focusAgain } from "./rows.js";

let made = 0;

/**
 * Show a dialog.
 * @param {string|Text} title
 * @param {any} content children
 * @param {{class?: string}} [how]
 * @returns {HTMLDialogElement} already open
 */
export function dialog(title, content, how = {}) {
  const id = `dialog-${(made += 1)}`;
  const element = h("dialog", { "aria-labelledby": id, class: how.class },
    h("div", { class: "dialog-head" }, h("h2", { id }, title), iconButton("close", "Close", () => element.close())),
    h("div", { class: "dialog-body" }, content),
  );
  closeDialogs();
  const before = document.activeElement;
  element.addEventListener("click", (/** @type {Event} */ event) => event.target === element && element.close());
  element.addEventListener("close", () => {
    element.remove();
    const isLost = document.activeElement === document.body; // else the browser gave it back, and it may be further by now
    if (isLost && before instanceof HTMLElement) focusAgain(before);
  });
  document.body.append(element);
  element.showModal();
  /** @type {HTMLElement|null} */ (element.querySelector(".dialog-body :is(input, button, a)"))?.focus(); // not the close button
  return element;
}

export function closeDialogs() {
  for (const one of document.querySelectorAll("dialog")) /** @type {HTMLDialogElement} */ (one).close();
}

/**
 * Ask for confirmation of an action that cannot be undone.
 * @param {string} title @param {any} said a sentence, or paragraphs @param {string} yes
 * @param {() => boolean} [isSaid] whether what is said holds; if not, the dialog stays
 * @returns {Promise<boolean>}
 */
export function confirm(title, said, yes, isSaid = () => true) {
  return new Promise((answer) => {
    let confirmed = false;
    const shown = dialog(title, [
      typeof said === "string" ? h("p", {}, said) : h("div", { class: "paragraphs" }, said),
      h("div", { class: "row end" },
        h("button", { type: "button", onclick: () => shown.close() }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => isSaid() && ((confirmed = true), shown.close()) }, yes),
      ),
    ]);
    shown.addEventListener("close", () => answer(confirmed));
  });
}
