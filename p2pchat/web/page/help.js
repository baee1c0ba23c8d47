/** The help dialog, with every keyboard shortcut. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";

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
    h("p", {}, "Everyone on the network reads the room. Choose someone under People to write privately, or create a group. Messages sent while you are away wait for you."),
    h("h3", {}, "Ticks on your messages"),
    h("dl", { class: "facts" },
      [["·", "saved on this gateway's disk"], ["✓ 2/3", "delivered to two of three people"], ["✓✓ 1/3", "read by one of three; press it to see who"]].map(([term, said]) => [h("dt", {}, term), h("dd", {}, said)])),
    h("h3", {}, "Keys"),
    h("dl", { class: "facts keys" }, KEYS.map(([key, said]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, said)])),
    h("p", { class: "hint" }, h("code", {}, "/me waves"), " shows an action. Start a line with ", h("code", {}, "//"), " to send a text that begins with a slash."),
  ]);
}
