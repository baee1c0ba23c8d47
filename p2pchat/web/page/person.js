/** The dialog about one person. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { disc, statusText } from "./people.js";
import { safeLine, safeText } from "./safe.js";
import { when } from "./times.js";

/** @param {import("./chat.js").Chat} chat @param {import("./shell.js").Shell} shell @param {string} id */
export async function showPerson(chat, shell, id) {
  const [row] = await chat.ask({ do: "whois", user: id });
  const facts = [
    ["Status", statusText(row)],
    ["About", safeText(row.about)],
    ["First seen", row.known_since ? when(row.known_since) : ""],
    ["Earlier names", row.names_before.map(safeLine).join(", ")],
    ["Key", `${row.user_id.slice(0, 8)}…`],
  ];
  const toggle = async () => {
    shown.close();
    await shell.notifyFailure(chat.ask({ do: row.ignored ? "unignore" : "ignore", user: id }));
    await shell.notifyFailure(chat.ask({ do: "who" }).then((rows) => chat.lines.setPeople(rows)));
  };
  const shown = dialog(safeLine(row.user), [
    h("div", { class: "person-head" }, disc(row.user_id, row.user, row.status)),
    h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([term, value]) => [h("dt", {}, term), h("dd", { dir: "auto" }, value)])),
    !row.me && h("div", { class: "row end" },
      h("button", { type: "button", onclick: toggle }, row.ignored ? "Stop ignoring" : "Ignore"),
      h("button", { type: "button", class: "primary", onclick: () => (shown.close(), shell.openWith(id)) }, "Write privately")),
  ], { class: "small" });
}
