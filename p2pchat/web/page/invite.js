/** The invite dialog: the address of this page for browsers, the network's invite for peers. */

import { dialog } from "./dialog.js";
import { copyButton, fill, h } from "./dom.js";
import { COOKIES, pageAddress, proofOf, urlOf } from "./http.js";
import { when } from "./times.js";

const SVG = "http://www.w3.org/2000/svg";

/** @param {import("./chat.js").Chat} chat */
export async function showInvite(chat) {
  const address = pageAddress();
  const pageCode = await qrCode(chat.token, address);
  dialog("Invite people", [
    h("section", { class: "invite" },
      h("h3", {}, "With a browser"),
      h("p", {}, "Send them the address of this page. They choose a name and join."),
      h("div", { class: "invite-row" }, pageCode, h("div", { class: "invite-words" }, h("div", { class: "token", role: "group", "aria-label": "Address of this page" }, address), copyButton(() => address, "Copy address"))),
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
      h("div", { class: "invite-row invite-words" }, h("div", { class: "token", role: "group", "aria-label": "Invite" }, row.invite), copyButton(() => row.invite, "Copy invite")),
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

/**
 * Return a QR code drawn by the gateway. Two attributes of its answer are used, never its markup.
 * @param {string} token @param {string} text
 */
async function qrCode(token, text) {
  const headers = { ...proofOf(token), "Content-Type": "application/json" };
  const response = await fetch(urlOf("qr"), { method: "POST", headers, body: JSON.stringify({ text }), credentials: COOKIES }).catch(() => null);
  const drawn = response?.ok ? await response.text() : "";
  const box = /viewBox="([\d .]+)"/u.exec(drawn)?.[1];
  const lines = [...drawn.matchAll(/<path[^>]* d="([^"]+)"/gu)].at(-1)?.[1];
  if (!box || !lines) return null;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", box);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "QR code of the address of this page");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", lines);
  path.setAttribute("stroke", "#000");
  path.setAttribute("transform", /transform="([^"]+)"/u.exec(drawn)?.[1] ?? "");
  svg.append(path);
  return svg;
}
