/** Inviting: the address of this page for whoever has a browser, the network's invite for whoever runs a peer. */

import { at, pageAddress } from "./base.js";
import { copyButton } from "./copying.js";
import { dialog } from "./dialog.js";
import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

/** @param {import("./chat.js").Chat} chat */
export async function showInvite(chat) {
  const [row] = await chat.ask({ do: "invite" });
  const address = pageAddress();
  const [pageCode, inviteCode] = await Promise.all([code(chat.token, address, "of the address of this page"), code(chat.token, row.invite, "of the invite")]);
  dialog("Invite people", [
    h("section", { class: "invite" },
      h("h3", {}, "With a browser"),
      h("p", {}, "Give them the address of this page. They choose a name and are in."),
      h("div", { class: "invite-row" }, pageCode, h("div", { class: "invite-words" }, h("div", { class: "token", role: "group", "aria-label": "Address of this page" }, address), copyButton(() => address, "Copy the address"))),
      isLocal(address) && h("p", { class: "hint" }, "This address leads to this machine only: from elsewhere it is another one."),
    ),
    h("section", { class: "invite" },
      h("h3", {}, "With p2pchat in a terminal"),
      h("p", {}, "Run ", h("code", {}, "p2pchat --invite -"), " and paste this. Whoever has it can join, read the room, and invite others: send it in a way you trust."),
      h("div", { class: "invite-row" }, inviteCode, h("div", { class: "invite-words" }, h("div", { class: "token", role: "group", "aria-label": "Invite" }, row.invite), copyButton(() => row.invite, "Copy the invite"))),
      row.only_this_machine && h("p", { class: "hint" }, "Now only this machine reaches that peer: whoever runs the gateway starts it with --host 0.0.0.0 for others."),
    ),
  ], { class: "wide" });
}

/** @param {string} address */
function isLocal(address) {
  return ["localhost", "127.0.0.1", "[::1]"].includes(new URL(address).hostname);
}

/**
 * A QR code, drawn by the gateway: of its answer two attributes are taken, and nothing as markup.
 * @param {string} token @param {string} text @param {string} what
 */
async function code(token, text, what) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(at("qr"), { method: "POST", headers, body: JSON.stringify({ text }), credentials: "omit" }).catch(() => null);
  const drawn = response?.ok ? await response.text() : "";
  const box = /viewBox="([\d .]+)"/u.exec(drawn)?.[1];
  const lines = [...drawn.matchAll(/<path[^>]* d="([^"]+)"/gu)].at(-1)?.[1];
  if (!box || !lines) return null;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", box);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `QR code ${what}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", lines);
  path.setAttribute("stroke", "#000");
  path.setAttribute("transform", /transform="([^"]+)"/u.exec(drawn)?.[1] ?? "");
  svg.append(path);
  return svg;
}
