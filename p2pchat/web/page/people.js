/** People: status in words, the dialog about one person, and the own profile. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { isOwn } from "./http.js";
import { canNotify, wantNotifications, wantedNotifications } from "./notifications.js";
import { disc, safeLine, safeText } from "./safe_text.js";
import { askToDelete } from "./signin.js";
import { preferences, setPreference } from "./storage.js";
import { when } from "./times.js";

const NOTIFY = { none: "never", mine: "of direct messages and mentions", all: "of all messages" };
const BLOCK = "Block hides this person and all that they write. You seem offline to them, and they are not told.";
const UNBLOCK = "You see nothing of this person. Unblock shows what they wrote meanwhile.";
const RANK = { online: 0, idle: 1, unreachable: 2, offline: 3, unknown: 4 };
const labels = new Intl.Collator(); // many times as fast as localeCompare

/** @typedef {import("./model.js").Person} Person */

/** @param {Person|undefined} person @returns {string} the status in words */
export function statusText(person) {
  if (!person) return "";
  const why = ["expelled", "blocked", "ignored"].find((one) => person[/** @type {"ignored"} */ (one)]);
  if (why) return why;
  if (person.status === "unreachable") return `cannot be reached from here; ${safeLine(person.text)} says it can`;
  const word = { online: "online", idle: "away", offline: "offline", unknown: "not seen yet" }[person.status] ?? "";
  return person.text ? `${word}: ${safeLine(person.text)}` : word;
}

/** Return whether a person may be here; while the connection is lost nobody knows. @param {Person} person */
export function isHere(person) {
  return !person.blocked && (person.status === "online" || person.status === "idle" || person.status === "");
}

/** Compare by presence, then by name. @param {Person} one @param {Person} other */
export function byPresence(one, other) {
  const rank = (/** @type {any} */ person) => RANK[/** @type {"online"} */ (person.status)] ?? 4;
  return rank(one) - rank(other) || labels.compare(one.label, other.label);
}

/**
 * Return the first people in an order. A member may have thousands of users: to sort them all takes longer than a frame.
 * @param {Person[]} people @param {number} most @param {(one: Person, other: Person) => number} compare
 */
export function firstOf(people, most, compare) {
  /** @type {Person[]} */
  const first = [];
  for (const person of people) {
    if (first.length === most && compare(person, first[most - 1]) >= 0) continue;
    let [low, high] = [0, first.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(person, first[middle]) < 0) high = middle;
      else low = middle + 1;
    }
    first.splice(low, 0, person);
    if (first.length > most) first.pop();
  }
  return first;
}

/** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout @param {string} id */
export async function showPerson(chat, layout, id) {
  const [row] = await chat.ask({ do: "whois", user: id });
  const facts = [
    ["Status", statusText(chat.model.people.get(row.user_id) ?? row)],
    ["About", safeText(row.about)],
    ["Known since", row.known_since ? when(row.known_since) : ""],
    ["Earlier names", row.names_before.map(safeLine).join(", ")],
    ["Machines", row.hosts.length > 1 ? `${row.hosts.length} linked` : ""],
    ["Key", `${row.user_id.slice(0, 8)}…`],
  ];
  const hide = async (/** @type {"ignore"|"unignore"|"block"|"unblock"} */ how) => {
    shown.close();
    await layout.notifyFailure(chat.hide(how, id));
  };
  const shown = dialog(safeLine(row.user), [
    h("div", { class: "person-head" }, disc(row.user_id, row.user, row.blocked ? "" : row.status)),
    h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([term, value]) => [h("dt", {}, term), h("dd", { dir: "auto" }, value)])),
    !row.me && h("p", { class: "hint apart" }, row.blocked ? UNBLOCK : BLOCK),
    !row.me && h("div", { class: "row end" },
      !row.blocked && !(row.expelled && row.ignored) && h("button", { type: "button", onclick: () => hide(row.ignored ? "unignore" : "ignore") }, row.ignored ? "Stop ignoring" : "Ignore"),
      h("button", { type: "button", onclick: () => hide(row.blocked ? "unblock" : "block") }, row.blocked ? "Unblock" : "Block"),
      h("button", { type: "button", class: "primary", onclick: () => (shown.close(), layout.openWith(id)) }, "Write privately")),
  ], { class: "small" });
}

/** @param {import("./chat.js").Chat} chat @param {() => void} signOut */
export function showProfile(chat, signOut) {
  const { model } = chat;
  const person = model.people.get(model.me.id);
  const isAway = model.state !== "open"; // then the status is not known; before the first connection nothing is
  const name = h("input", { id: "my-name", value: model.me.name, disabled: !person, maxlength: 32, autocomplete: "off", required: true, "aria-describedby": "my-name-trouble" });
  const about = h("input", { id: "my-about", value: person?.about ?? "", disabled: !person, maxlength: 512, autocomplete: "off" });
  const away = h("input", { id: "my-away", value: person?.status === "idle" ? person.text : "", disabled: isAway || !person, maxlength: 512, autocomplete: "off", placeholder: "for example lunch" });
  const receipts = h("input", { type: "checkbox", id: "my-receipts", disabled: true });
  const typing = h("input", { type: "checkbox", id: "my-typing", checked: preferences().typing !== "off" });
  const notify = h("select", { id: "my-notify", disabled: !canNotify() }, Object.entries(NOTIFY).map(([value, words]) => h("option", { value, selected: value === wantedNotifications() }, words)));
  const sound = h("input", { type: "checkbox", id: "my-sound", checked: preferences().sound === "on", disabled: !canNotify() });
  const said = h("p", { class: "trouble", role: "alert" });
  const nameSaid = h("p", { class: "trouble", id: "my-name-trouble", role: "alert" });
  const statusSaid = h("p", { class: "hint", role: "status" });
  const refresh = () => chat.ask({ do: "who" }).then((found) => chat.events.setPeople(found));
  /** Fill in what was not known, now or once the gateway is back. */
  const load = async () => {
    receipts.disabled = true;
    if (model.state !== "open") return;
    said.textContent = nameSaid.textContent = ""; // that the gateway was away
    const [[both]] = await Promise.all([chat.ask({ do: "set", name: "receipts" }), refresh()]);
    const me = model.people.get(model.me.id);
    const status = me?.status === "idle" ? me.text : "";
    for (const [field, value] of [[name, model.me.name], [about, me?.about ?? ""], [away, status]]) {
      if (field.disabled) Object.assign(field, { value, disabled: false });
    }
    Object.assign(receipts, { checked: both.value === "on", disabled: false });
  };
  /** Carry out a command; an error is shown where it belongs. @param {any} command @param {HTMLElement} trouble @returns {Promise<boolean>} */
  const done = async (command, trouble = said) => {
    trouble.textContent = "";
    try {
      await chat.ask(command);
      await refresh();
      return true;
    } catch (error) {
      trouble.textContent = /** @type {Error} */ (error).message;
      return false;
    }
  };
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    nameSaid.textContent = "";
    const named = name.value.trim() === model.me.name || (await done({ do: "nick", name: name.value.trim() }, nameSaid));
    if (!named) name.focus();
    else if (about.value === (model.people.get(model.me.id)?.about ?? "") || (await done({ do: "about", text: about.value }, nameSaid))) shown.close();
  };
  const setStatus = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const text = away.value.trim();
    statusSaid.textContent = "";
    if (await done(text ? { do: "away", text } : { do: "back" })) statusSaid.textContent = text ? `Others see you as away: ${safeLine(text)}` : "Others see you as online";
  };
  const shown = dialog("You", [
    h("form", { onsubmit: save },
      h("label", { for: "my-name" }, "Name"), name, nameSaid,
      h("label", { for: "my-about" }, "About me"), about,
      h("div", { class: "row end" }, h("button", { class: "primary" }, "Save"))),
    h("form", { onsubmit: setStatus },
      h("label", { for: "my-away" }, "Status message (leave empty when you're back)"),
      h("div", { class: "row" }, away, h("button", {}, "Set status")), statusSaid),
    said,
    h("label", { class: "check" }, receipts, " Send and receive read receipts"),
    h("label", { class: "check" }, typing, " Show when I'm typing"),
    h("label", { class: "check", for: "my-notify" }, h("span", {}, "Notify\u00a0me"), notify),
    h("label", { class: "check" }, sound, " Notify with a sound"),
    !canNotify() && h("p", { class: "hint" }, "Browsers show notifications only of pages with https, or of this computer."),
    h("p", { class: "hint" }, "Your key begins with ", h("code", {}, safeLine(model.me.id.slice(0, 8))), ".", !isOwn() && " Your token is the only way back to this name: \"Sign out\" shows it."),
    !isOwn() && h("div", { class: "row end" },
      h("button", { type: "button", onclick: () => (shown.close(), askToDelete(chat)) }, "Delete my account…"),
      h("button", { type: "button", class: "danger", onclick: () => (shown.close(), signOut()) }, "Sign out")),
  ]);
  shown.addEventListener("close", model.bus.on("state", () => load().catch(() => {})));
  load().catch(() => {});
  receipts.onchange = () => done({ do: "set", name: "receipts", value: receipts.checked ? "on" : "off" });
  sound.onchange = () => setPreference("sound", sound.checked ? "on" : "off");
  notify.onchange = async () => {
    said.textContent = (await wantNotifications(notify.value)) ? "" : "This browser does not allow notifications for this page. Allow them in its settings for this address.";
    notify.value = wantedNotifications();
  };
  typing.onchange = () => {
    setPreference("typing", typing.checked ? "on" : "off");
    done({ do: "set", name: "typing", value: typing.checked ? "on" : "off" });
  };
}
