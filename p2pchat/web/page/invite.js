/** The invite dialog: the address of this page for browsers, the network's invite for peers. */

import { dialog } from "./dialog.js";
import { copyButton, fill, h } from "./dom.js";
import { pageAddress } from "./http.js";
import { when } from "./times.js";

/** @param {import("./chat.js").Chat} chat */
export function showInvite(chat) {
  const address = pageAddress();
  dialog("Invite people", [
    h("section", { class: "invite" },
      h("h3", {}, "With a browser"),
      h("p", {}, "Send them the address of this page. They choose a name and join."),
      h("div", { class: "invite-words" }, h("div", { class: "token", role: "group", "aria-label": "Address of this page" }, address), copyButton(() => address, "Copy address")),
      isLocal(address) && h("p", { class: "hint" }, "This address works on this computer only."),
    ),
    peerInvite(chat),
  ], { class: "wide" });
}

/**
 * Return the section for peers. An invite is made when it is asked for: each lets somebody in for a week.
 * @param {import("./chat.js").Chat} chat
 */
function peerInvite(chat) {
  const invite = h("div", {}, h("button", { type: "button", onclick: () => make().catch((error) => fill(invite, h("p", { role: "alert" }, error.message))) }, "Make an invite"));
  const make = async () => {
    const [row] = await chat.ask({ do: "invite" });
    fill(invite,
      row.only_this_machine && h("p", { class: "hint" }, "Only this computer can connect. To let others in, restart the gateway with --host 0.0.0.0."),
      h("p", {}, "Run ", h("code", {}, "p2pchat --invite -"), " and paste this invite. ", termsOf(row), " Send it over a channel you trust: whoever joins can read the whole room."),
      h("div", { class: "invite-words" }, h("div", { class: "token", role: "group", "aria-label": "Invite" }, row.invite), copyButton(() => row.invite, "Copy invite")),
    );
    invite.querySelector("button")?.focus();
  };
  return h("section", { class: "invite" }, h("h3", {}, "With p2pchat in a terminal"), invite);
}

/** Return whom an invite admits, as a sentence. @param {any} row of `invite` */
function termsOf({ uses, until }) {
  return `It admits ${uses === 1 ? "one person" : `${uses} people`} until ${when(until)}, while this gateway runs.`;
}

/** @param {string} address */
function isLocal(address) {
  return ["localhost", "127.0.0.1", "[::1]"].includes(new URL(address).hostname);
}
