/** The list of conversations: the room, groups and people, with the last line and unread counts of each, and the own profile below. */

import { fill, h, icon, iconButton } from "./dom.js";
import { memberCount, newGroup } from "./groups.js";
import { showInvite } from "./invite.js";
import { gist } from "./message.js";
import { writtenAt } from "./model.js";
import { fold } from "./names.js";
import { byPresence, firstOf, isHere, showProfile, statusText } from "./people.js";
import { Redraw, Rows } from "./rows.js";
import { disc, safeLine } from "./safe_text.js";
import { countText } from "./status.js";
import { briefly, whole } from "./times.js";

/** @typedef {import("./model.js").Talk} Talk */

const MAX_PEOPLE = 60; // shown at once; the search field finds the others

export class Sidebar {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout @param {() => void} signOut */
  constructor(chat, layout, signOut) {
    this._chat = chat;
    this._layout = layout;
    this._signOut = signOut;
    this.find = h("input", {
      type: "search", id: "find", placeholder: "Find or search", "aria-label": "Find people, groups and messages",
      autocomplete: "off", autocapitalize: "none", oninput: () => this._draw(), onkeydown: (/** @type {KeyboardEvent} */ event) => this._findKey(event),
    });
    this._searchRow = h("button", { type: "button", class: "side-row", hidden: true, onclick: () => this._search() }, icon("search"), h("span", { class: "side-name" }));
    this._room = this._list("Everyone");
    this._groups = this._list("Groups");
    this._people = this._list("People");
    this._more = h("p", { class: "hint" });
    this._noGroups = h("p", { class: "hint" });
    this._noPeople = h("p", { class: "hint" });
    this._all = h("button", { type: "button", class: "all", "aria-pressed": "false", title: "Show everyone known, also who is away and never talked with you", onclick: () => this._showAll() }, "All");
    const newOne = iconButton("plus", "New group", () => newGroup(this._chat, this._layout));
    this._talks = h("div", { class: "side-lists" },
      this._searchRow, this._room.list,
      h("section", {}, h("div", { class: "side-title" }, h("h2", {}, "Groups"), newOne), this._noGroups, this._groups.list),
      h("section", {}, h("div", { class: "side-title" }, h("h2", {}, "People"), this._all), this._noPeople, this._people.list, this._more),
    );
    this._invite = h("button", { type: "button", class: "invite-button", hidden: true, onclick: () => showInvite(chat) }, icon("invite"), "Invite people");
    this._me = h("button", { type: "button", class: "me", onclick: () => showProfile(chat, this._signOut) });
    this.element = h("nav", { class: "side", "aria-label": "Conversations and people" },
      h("div", { class: "side-head" },
        h("p", { class: "brand", "aria-hidden": "true" }, h("img", { src: "icon.svg", alt: "", width: 28, height: 28 }), "p2pchat"),
        iconButton("help", "Help and keyboard shortcuts", () => layout.help()),
      ),
      h("div", { class: "side-find" }, icon("search"), this.find),
      this._talks,
      h("div", { class: "side-foot" },
        this._invite,
        this._me,
      ),
    );
    const redraw = new Redraw(() => this._draw());
    for (const topic of ["talks", "people", "front", "state"]) chat.model.bus.on(topic, () => redraw.soon());
    this._draw();
  }

  /** Move the focus to the open conversation. */
  focusFront() {
    (this._talks.querySelector("[aria-current]") ?? this.find).focus();
  }

  /** @param {KeyboardEvent} event */
  _findKey(event) {
    if (event.key === "Enter" && this.find.value.trim()) {
      event.preventDefault();
      const first = this._talks.querySelector("button[data-to]");
      if (first instanceof HTMLElement) first.click();
      else this._search();
    } else if (event.key === "Escape" && this.find.value) {
      event.stopPropagation();
      this._clearFind();
    }
  }

  /** Empty the field above the list, once what was looked for is open. */
  _clearFind() {
    this.find.value = "";
    this._draw();
  }

  _search() {
    this._layout.showTalk();
    this._layout.search.open(this.find.value.trim(), true);
    this._clearFind();
  }

  _showAll() {
    this._all.setAttribute("aria-pressed", String(this._all.getAttribute("aria-pressed") !== "true"));
    this._draw();
  }

  // ---- drawing

  /** @param {string} label */
  _list(label) {
    return new Rows(h("ul", { class: "side-list", "aria-label": label }));
  }

  _draw() {
    const { model } = this._chat;
    const words = fold(this.find.value.trim().replace(/^[@#]/u, ""));
    const fits = (/** @type {string} */ name) => !words || fold(name).includes(words);
    const groups = [...model.talks.values()].filter((talk) => talk.kind === "group" && fits(talk.name) && (words || talk.member || talk.unread || talk.waiting.length || talk.id === model.frontId));
    groups.sort((one, other) => Number(other.member) - Number(one.member) || byNews(model, one, other));
    const talks = new Map([...model.talks.values()].map((talk) => [talk.userId, talk]));
    const everyone = words !== "" || this._all.getAttribute("aria-pressed") === "true";
    const known = model.others.filter((person) => fits(person.label));
    const people = everyone ? known : known.filter((person) => talks.has(person.id) || isHere(person));
    this._searchRow.hidden = !words;
    this._searchRow.lastElementChild.textContent = `Search messages for “${safeLine(this.find.value.trim())}”`;
    this._room.draw(model.room && fits("room") ? [this._row(model.room)] : []);
    this._groups.draw(groups.map((talk) => this._row(talk)));
    this._people.draw(this._firstPeople(people, talks).map((person) => this._person(person)));
    this._noGroups.textContent = groups.length || words ? "" : "Chat with a few people at once";
    this._noPeople.textContent = words ? (people.length ? "" : "No matches") : people.length ? "Choose someone to write privately" : known.length ? "No one else is here now" : model.mayInvite ? "No one else is here yet. Invite someone." : "No one else is here yet";
    const more = people.length - MAX_PEOPLE;
    this._more.textContent = more > 0 ? `${more} more; search by name above` : "";
    this._invite.hidden = !model.mayInvite;
    for (const hint of [this._noGroups, this._noPeople, this._more]) hint.hidden = !hint.textContent;
    this._drawMe();
  }

  /** @param {import("./model.js").Person[]} people @param {Map<string, Talk>} talks by user */
  _firstPeople(people, talks) {
    const { model } = this._chat;
    return firstOf(people, MAX_PEOPLE, (one, other) => Number(one.ignored) - Number(other.ignored) || byNews(model, talks.get(one.id), talks.get(other.id)) || byPresence(one, other));
  }

  /** @param {Talk} talk */
  _row(talk) {
    const { model } = this._chat;
    const name = talk.kind === "room" ? "Room" : `#${safeLine(talk.name)}`;
    const here = model.hereCount;
    const status = talk.begun?.isNew ? "new" : talk.muted ? "muted" : talk.kind !== "room" ? (talk.member ? memberCount(talk.memberCount) : "no longer a member") : here ? `${here} here now` : "everyone";
    const sign = () => h("span", { class: "disc place", "aria-hidden": "true" }, talk.kind === "room" ? icon("people") : "#");
    return this._button(talk.id, sign, name, status, talk, talk.id === model.frontId, () => this._layout.open(talk));
  }

  /** @param {import("./model.js").Person} person */
  _person(person) {
    const talk = this._chat.model.talkWith(person.id);
    const front = talk !== undefined && talk.id === this._chat.model.frontId;
    const about = this._chat.model.unplaced.has(person.id) ? "wrote, not taken: write to have it" : talk?.begun?.isNew ? "new" : "";
    const status = about || (talk?.muted ? "muted" : statusText(person));
    return this._button(person.id, () => disc(person.id, person.label, person.status), safeLine(person.label), status, talk, front, () => this._layout.openWith(person.id));
  }

  /**
   * @param {string} to @param {() => Node} sign @param {string} name @param {string} status
   * @param {Talk|undefined} talk @param {boolean} front @param {() => void} open
   * @returns {import("./rows.js").Item}
   */
  _button(to, sign, name, status, talk, front, open) {
    const { model } = this._chat;
    const last = model.lastOf(talk);
    const line = talk?.member && last ? lineOf(model, talk, last) : "";
    const at = last ? writtenAt(last) : "";
    const time = at && briefly(at);
    const unread = talk?.unread ?? 0;
    const waiting = talk?.waiting.length ?? 0;
    const mentioned = Boolean(talk?.mentions);
    const draw = () => h("li", {},
      h("button", { type: "button", class: "side-row", data: { to }, "aria-current": front ? "true" : null, onclick: () => (open(), this._clearFind()) },
        sign(),
        h("span", { class: "side-words" },
          h("span", { class: "side-line" },
            h("bdi", { class: "side-name" }, name), h("span", { class: "side-status" }, talk?.kind !== "group" && line && status), // the name of a group needs the room
            at && h("time", { datetime: at, title: whole(at) }, time)),
          h("span", { class: "side-line" },
            h("span", { class: "side-sub", dir: "auto" }, line || status),
            waiting > 0 && h("span", { class: "badge quiet", title: "waiting to be sent" }, `${waiting} ↑`),
            unread > 0 && h("span", { class: talk?.muted ? "badge quiet" : talk?.kind === "dm" || mentioned ? "badge" : "badge soft" },
              countText(unread), h("span", { class: "unseen" }, mentioned ? " unread, mentions you" : " unread"))),
        ),
      ),
    );
    const presence = model.people.get(to)?.status;
    return { key: to, drawn: JSON.stringify([name, status, line, time, unread, waiting, mentioned, front, presence, talk?.muted]), draw };
  }

  _drawMe() {
    const { me, people, state } = this._chat.model;
    const person = people.get(me.id);
    const how = state === "open" ? statusText(person) || "online" : "offline";
    const status = state === "open" ? (person?.status ?? "online") : "offline";
    const drawn = JSON.stringify([me, how, status]);
    if (this._meDrawn === drawn) return;
    this._meDrawn = drawn;
    fill(this._me, disc(me.id || "A", me.label || "…", status),
      h("span", { class: "side-words" }, h("bdi", { class: "side-name" }, safeLine(me.label || "…")), h("span", { class: "side-sub" }, how)),
      icon("settings"), h("span", { class: "unseen" }, ": your name, status and settings"));
  }
}

/**
 * Compare conversations: those with unread messages first, then the one with the newest message.
 * @param {import("./model.js").Model} model @param {Talk|undefined} one @param {Talk|undefined} other
 */
function byNews(model, one, other) {
  const at = (/** @type {Talk|undefined} */ talk) => model.lastOf(talk)?.sentAt ?? "";
  return Number(!one?.unread) - Number(!other?.unread) || (at(one) < at(other) ? 1 : at(one) > at(other) ? -1 : 0);
}

/**
 * Return a message as one line of the list.
 * @param {import("./model.js").Model} model @param {Talk} talk @param {import("./model.js").Message} message
 */
function lineOf(model, talk, message) {
  const name = message.mine ? "You" : safeLine(model.labelOf(message.senderId, message.sender));
  const said = message.deleted ? "deleted a message" : gist(message, 120);
  if (message.action || message.deleted) return `${name} ${said}`;
  return message.mine || talk.kind !== "dm" ? `${name}: ${said}` : said;
}
