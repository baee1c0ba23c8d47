/** People: an avatar with a letter, a status dot, and the status in words. */

import { h } from "./dom.js";
import { safeLine } from "./safe.js";

const HUES = 12; // avatar colours, chosen by id: a person has the same one everywhere

/** @typedef {import("./model.js").Person} Person */

/** @param {string} id @param {string} label @param {string} [status] with a dot */
export function disc(id, label, status) {
  const letter = Array.from(safeLine(label).replace(/^[\\"']+/u, ""))[0] ?? "?";
  const hue = [...id.slice(0, 8)].reduce((sum, character) => sum + character.charCodeAt(0), 0) % HUES;
  return h("span", { class: "disc", data: { hue }, "aria-hidden": "true" }, letter.toUpperCase(), status && dot(status));
}

/** @param {string} status */
export function dot(status) {
  return h("span", { class: "dot", data: { status } });
}

/** @param {Person|undefined} person @returns {string} the status in words */
export function statusText(person) {
  if (!person) return "";
  const word = { online: "online", idle: "away", offline: "offline", unknown: "not seen yet" }[person.status] ?? "";
  return person.text ? `${word}: ${safeLine(person.text)}` : word;
}

const RANK = { online: 0, idle: 1, offline: 2, unknown: 3 };

/** Compare by presence, then by name. @param {Person} one @param {Person} other */
export function byPresence(one, other) {
  const rank = (/** @type {any} */ person) => RANK[/** @type {"online"} */ (person.status)] ?? 3;
  return rank(one) - rank(other) || one.label.localeCompare(other.label);
}
