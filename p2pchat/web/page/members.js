/** The members of the network: who admitted them, and what happens to them. The operator decides about them in a terminal. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { disc, safeLine } from "./safe_text.js";
import { when } from "./times.js";

const MAX_SHOWN = 200; // a guess; `p2pchat` in a terminal lists all
const DECIDES = "A member is a person with all their devices, or a gateway with its accounts. The founder and the admins invite and expel others.";

/** @param {import("./chat.js").Chat} chat */
export async function showMembers(chat) {
  const rows = await chat.ask({ do: "members" });
  const out = rows.filter((/** @type {any} */ row) => row.role === "expelled");
  const members = rows.filter((/** @type {any} */ row) => row.role !== "expelled");
  const more = members.length - MAX_SHOWN;
  dialog("Members of this network", [
    h("p", { class: "hint" }, DECIDES),
    h("ul", { class: "plain", "aria-label": "Members" }, members.slice(0, MAX_SHOWN).map(memberRow)),
    more > 0 && h("p", { class: "hint" }, `${more} more`),
    out.length > 0 && h("h3", {}, "Expelled"),
    out.length > 0 && h("ul", { class: "plain", "aria-label": "Expelled" }, out.slice(0, MAX_SHOWN).map(memberRow)),
  ]);
}

/** @param {any} row of a member */
function memberRow(row) {
  const isOut = row.role === "expelled";
  const by = row.by ? `${isOut ? "" : "admitted "}by ${safeLine(row.by)}${row.since ? `, ${when(row.since)}` : ""}` : "";
  const role = row.role === "member" || isOut ? "" : row.role;
  const mine = row.me && (row.count > 1 ? "answers for you" : "you");
  const what = [mine, role, by].filter(Boolean).join(", ");
  const more = row.count > row.users.length ? ` and ${row.count - row.users.length} more` : "";
  const names = (row.users.length ? row.users : [row.user]).map(safeLine).join(", ") + more;
  return h("li", { class: "person-row" },
    disc(row.user_id, row.user, isOut ? "" : row.online ? "online" : "offline"),
    h("span", { class: "side-words" }, h("bdi", {}, names), h("span", { class: "side-sub" }, what)));
}
