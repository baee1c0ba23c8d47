/** Global keyboard shortcuts, and the help dialog that lists them. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";

/**
 * Leave all keys to an input method while it composes a text: Enter chooses a word there, and sends nothing. In Safari the
 * composition ends before its last key, which has the code 229.
 */
export function leaveKeysToInputMethods() {
  window.addEventListener("keydown", (event) => (event.isComposing || event.keyCode === 229) && event.stopImmediatePropagation(), true);
}

/**
 * Return the key in lower case. On a layout without Latin letters, as the Russian one, a letter goes by its place.
 * @param {KeyboardEvent} event
 */
export function keyOf(event) {
  const key = event.key.toLowerCase();
  const placed = /^Key([A-Z])$/.exec(event.code);
  return placed && key.length === 1 && key > "\x7f" ? placed[1].toLowerCase() : key;
}

/** @param {import("./layout.js").Layout} layout */
export function installShortcuts(layout) {
  document.addEventListener("keydown", (event) => {
    if (!layout.element.isConnected || document.querySelector("dialog[open]")) return;
    const action = actionOf(layout, event);
    if (!action && isText(event)) layout.compose.focus(); // no other element takes this key
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** @param {import("./layout.js").Layout} layout @param {KeyboardEvent} event @returns {(() => void)|null} */
function actionOf(layout, event) {
  const control = event.ctrlKey || event.metaKey;
  const key = keyOf(event);
  if (control && !event.shiftKey && key === "k") return () => (layout.isWide || layout.showList(), layout.sidebar.find.focus(), layout.sidebar.find.select());
  if (control && event.shiftKey && key === "f") return () => layout.search.open("", false);
  if (control && !event.shiftKey && key === "m") return () => layout.timeline.focusNewest();
  if (event.altKey && event.shiftKey && key === "arrowdown") return () => step(layout, 1, true);
  if (event.altKey && key === "arrowdown") return () => step(layout, 1, false);
  if (event.altKey && key === "arrowup") return () => step(layout, -1, false);
  if (key === "f1" || (key === "?" && !isField(event.target))) return () => layout.help();
  if (key === "escape" && !isField(event.target)) return () => layout.compose.focus();
  return null;
}

/**
 * Return whether a key starts a message: a character, typed while nothing that uses characters has the focus.
 * @param {KeyboardEvent} event
 */
function isText(event) {
  if (event.key.length !== 1 || event.key === " " || event.ctrlKey || event.altKey || event.metaKey) return false;
  const target = event.target;
  return !isField(target) && !(target instanceof Element && target.closest(".message, summary"));
}

/** @param {EventTarget|null} target */
export function isField(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

/** Open the previous or next conversation of the list. @param {import("./layout.js").Layout} layout @param {number} by @param {boolean} unread */
function step(layout, by, unread) {
  const rows = /** @type {HTMLElement[]} */ ([...layout.sidebar.element.querySelectorAll("button[data-to]")]);
  const at = rows.findIndex((row) => row.hasAttribute("aria-current"));
  for (let count = 1; count <= rows.length; count += 1) {
    const row = rows[(at + by * count + rows.length * count) % rows.length];
    if (row && (!unread || row.querySelector(".badge:not(.quiet)"))) {
      row.click();
      return;
    }
  }
}

const KEYS = [
  ["Enter", "send"],
  ["Shift+Enter", "new line"],
  ["Arrow up, in an empty field", "edit your last message"],
  ["Escape", "cancel a reply or an edit, close, return to writing"],
  ["Ctrl+K", "find people, groups and messages"],
  ["Ctrl+Shift+F", "search this conversation"],
  ["Alt+Arrow up, Alt+Arrow down", "previous conversation, next conversation"],
  ["Alt+Shift+Arrow down", "next conversation with unread messages"],
  ["Ctrl+M", "go to the messages"],
  ["Arrow up, Arrow down", "previous message, next message"],
  ["R · + · E · Delete · I", "on a message: reply, react, edit, delete, delivery status"],
  ["F1, or ? outside a text field", "this help"],
];

export function showHelp() {
  dialog("Help", [
    h("p", {}, "Everyone on the network reads the room. Choose someone under People to write privately, or create a group. Messages sent while you are away wait for you. Whoever runs this gateway holds your key and can read your messages."),
    h("h3", {}, "Ticks on your messages"),
    h("dl", { class: "facts" },
      [["·", "saved on this gateway's disk"], ["✓ 2/3", "delivered to two of three people"], ["✓✓ 1/3", "read by one of three; press it to see who"]].map(([term, said]) => [h("dt", {}, term), h("dd", {}, said)])),
    h("h3", {}, "Keys"),
    h("dl", { class: "facts keys" }, KEYS.map(([key, said]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, said)])),
    h("p", { class: "hint" }, h("code", {}, "/me waves"), " shows an action, ", h("code", {}, '/poll "Lunch?" pizza soup'), " asks all who read it to vote. Start a line with ", h("code", {}, "//"), " to send a text that begins with a slash. ", h("code", {}, ":tada:"), " becomes 🎉."),
    h("p", { class: "hint" }, "Some Markdown is shown: ", ["**bold**", "*italic*", "`code`", "```", "- list", "1. list", "[name](https://…)"].map((mark) => [h("code", {}, mark), " "])),
  ]);
}
