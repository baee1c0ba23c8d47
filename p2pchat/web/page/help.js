/** What one can do here, and every key. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";

const KEYS = [
  ["Enter", "send"],
  ["Shift+Enter", "another line"],
  ["Arrow up, in an empty field", "edit what you wrote last"],
  ["Escape", "stop answering or editing; close; back to writing"],
  ["Ctrl+K", "find people, groups, messages"],
  ["Ctrl+Shift+F", "search in this conversation"],
  ["Alt+Arrow up, Alt+Arrow down", "the conversation before, the next one"],
  ["Alt+Shift+Arrow down", "the next conversation with something unread"],
  ["Ctrl+M", "go to the messages"],
  ["Arrow up, Arrow down", "from message to message"],
  ["R · + · E · Delete · I", "on a message: answer, react, edit, take back, who has it"],
  ["F1, or ? outside of a field", "this help"],
];

export function showHelp() {
  dialog("Help", [
    h("p", {}, "The room is for everybody. Choose somebody under People to write privately; make a group for a few. What others write while you are away waits for you."),
    h("h3", {}, "Ticks behind what you wrote"),
    h("dl", { class: "facts" },
      [["·", "kept: safe on this gateway's disk"], ["✓ 2/3", "delivered: on the disks of two of three"], ["✓✓ 1/3", "read by one of them: press it to see who"]].map(([term, said]) => [h("dt", {}, term), h("dd", {}, said)])),
    h("h3", {}, "Keys"),
    h("dl", { class: "facts keys" }, KEYS.map(([key, said]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, said)])),
    h("p", { class: "hint" }, h("code", {}, "/me waves"), " says what you do; a line that begins with ", h("code", {}, "//"), " starts with a slash."),
  ]);
}
