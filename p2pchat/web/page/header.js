/** The header of the open conversation: its name, status and buttons. */

import { fill, h, iconButton } from "./dom.js";
import { memberCount, showGroup } from "./groups.js";
import { showMembers } from "./members.js";
import { whoBegan } from "./message.js";
import { showPerson, statusText } from "./people.js";
import { Redraw } from "./rows.js";
import { disc, safeLine } from "./safe_text.js";
import { countText } from "./status.js";

export class Header {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    this.element = h("header", { class: "talk-head" });
    const redraw = new Redraw(() => this._draw());
    for (const topic of ["front", "talks", "people"]) chat.model.bus.on(topic, () => redraw.soon());
    this._draw();
  }

  _draw() {
    const { model } = this._chat;
    const talk = model.front;
    const person = model.people.get(talk?.userId ?? "");
    const elsewhere = model.unread - (talk && !talk.muted ? talk.unread : 0);
    const drawn = JSON.stringify([talk?.id, talk?.name, talk?.member, talk?.muted, person?.label, person?.status, talk && this._subtitle(talk, person), talk?.begun, elsewhere]);
    if (drawn === this._drawn) return;
    this._drawn = drawn;
    const focused = this.element.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null;
    const back = iconButton("back", elsewhere ? `Back to the list, ${countText(elsewhere)} unread elsewhere` : "Back to the list", () => this._layout.navigation.back(), { class: "icon-button only-narrow" });
    if (elsewhere) back.append(h("span", { class: "badge", "aria-hidden": "true" }, countText(elsewhere)));
    fill(this.element, back, talk ? this._title(talk) : h("h2", { id: "talk-name" }, "Connecting…"), talk && this._buttons(talk), talk?.begun && this._begun(talk, talk.begun));
    if (focused) this.element.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  }

  /** @param {import("./model.js").Talk} talk */
  _title(talk) {
    const person = this._chat.model.people.get(talk.userId);
    const sign = talk.kind === "dm" ? disc(talk.userId, talk.name, person?.status ?? "unknown") : null;
    const name = talk.kind === "room" ? "Room" : talk.kind === "group" ? `#${safeLine(talk.name)}` : safeLine(person?.label ?? talk.name);
    return [sign, h("div", { class: "talk-words" }, h("h2", { id: "talk-name" }, h("bdi", {}, name)), h("p", { class: "talk-sub", dir: "auto" }, this._subtitle(talk, person)))];
  }

  /** @param {import("./model.js").Talk} talk @param {import("./model.js").Person|undefined} person */
  _subtitle(talk, person) {
    if (talk.kind === "dm") return [statusText(person), "private"].filter(Boolean).join(" · ");
    if (talk.kind === "group") return talk.member ? memberCount(talk.memberCount) : "you are no longer a member";
    const here = this._chat.model.hereCount;
    return here ? `everyone can read this · ${here} here now` : "everyone can read this";
  }

  /** @param {import("./model.js").Talk} talk @param {import("./model.js").Begun} begun */
  _begun(talk, { userId, label }) {
    const block = () => this._layout.notifyFailure(this._chat.hide("block", userId));
    return h("div", { class: "begun" }, h("span", { dir: "auto" }, whoBegan(talk)), h("button", { type: "button", "aria-label": `Block ${safeLine(label)}`, onclick: block }, "Block"));
  }

  /** @param {import("./model.js").Talk} talk */
  _buttons(talk) {
    const layout = this._layout;
    return h("div", { class: "talk-buttons" },
      talk.kind === "room" && iconButton("people", "Members of this network", () => layout.notifyFailure(showMembers(this._chat))),
      talk.kind === "group" && iconButton("people", "Members of this group", () => layout.notifyFailure(showGroup(this._chat, layout, talk))),
      talk.kind === "dm" && iconButton("info", `About ${safeLine(talk.name)}`, () => layout.notifyFailure(showPerson(this._chat, layout, talk.userId))),
      iconButton(talk.muted ? "muted" : "bell", talk.muted ? "Ring here as usual" : "Mute: ring for nothing here", () => layout.notifyFailure(this._chat.mute(talk))),
      iconButton("search", "Search in this conversation", () => layout.search.open("", false)),
    );
  }
}
