/**
 * Text of others, made safe to show: no character can hide text, reverse a line, or imitate something else.
 *
 * Names and other text within a line follow the same rules as the terminal (p2pchat/safe_text.py), character for
 * character. Message texts, which have their own box, keep tabs and the joiners used by Persian, Indian languages and
 * emoji.
 */

import { h } from "./dom.js";

const MAX_MARKS = 4; // on one letter; no script needs more (UTS 39, section 5.4)

const HARMFUL =
  "\\u0000-\\u0009\\u000b-\\u001f\\u007f-\\u009f" + // C0 but newline, DEL, C1
  "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\u206a-\\u206f" + // bidi controls
  "\\u00ad\\u034f\\u180b-\\u180f\\u200b-\\u200d\\u2060-\\u2065\\ufeff" + // zero-width; the soft hyphen
  "\\u115f\\u1160\\u17b4\\u17b5\\u3164\\uffa0" + // letters that are blank
  "\\u2028\\u2029\\ufff0-\\ufffb" + // separators, interlinear annotation
  "\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}" + // shorthand and musical controls
  "\\ud800-\\udfff" + // lone surrogates
  "\\u{e0000}-\\u{e00ff}\\u{e01f0}-\\u{e0fff}"; // tags and other invisible characters

const IN_A_LINE = new RegExp(`[\\n${HARMFUL}]`, "gu");
const IN_A_TEXT = new RegExp(`[${HARMFUL}]`, "gu");
const JOINERS = "\u200c\u200d"; // harmless between non-ASCII letters or emoji
const MARK = /[\p{Mn}\p{Me}\u1160-\u11ff\ud7b0-\ud7ff]/u;
const TOO_MANY_MARKS = new RegExp(`(?:${MARK.source}){${MAX_MARKS + 1},}`, "gu");

/** @param {string} character @returns {string} */
function escaped(character) {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/** @param {string} marks on one letter @returns {string} */
function fewMarks(marks) {
  return Array.from(marks, (mark, index) => (index < MAX_MARKS ? mark : escaped(mark))).join("");
}

/**
 * Return a text safe within one line: a name, a reason.
 * @param {string} text @returns {string}
 */
export function safeLine(text) {
  return text.replace(IN_A_LINE, escaped).replace(TOO_MANY_MARKS, fewMarks);
}

/**
 * Return a text safe in its own box; it keeps its lines.
 * @param {string} text @returns {string}
 */
export function safeText(text) {
  return text
    .replace(IN_A_TEXT, (found, at) => (found === "\t" || joins(text, found, at) ? found : escaped(found)))
    .replace(TOO_MANY_MARKS, fewMarks);
}

/** @param {string} text @param {string} found @param {number} at */
function joins(text, found, at) {
  return JOINERS.includes(found) && text.charCodeAt(at - 1) > 0x7f && text.charCodeAt(at + 1) > 0x7f && !JOINERS.includes(text[at + 1]);
}

/**
 * Return the beginning of a text on one line, to identify a message.
 * @param {string} text @param {number} [most]
 */
export function beginning(text, most = 80) {
  const line = Array.from(text.replace(/\s+/gu, " ").trim());
  return safeLine(line.length > most ? line.slice(0, most - 1).join("") + "…" : line.join(""));
}

const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\\]{3,2000}/giu;
const BEHIND = /[.,:;!?)\]}]+$/u; // punctuation that ends a sentence, not the address

/** @param {string} text @returns {(string|HTMLElement)[]} */
export function linkify(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = match[0].replace(BEHIND, "");
    if (safeText(address) !== address || !URL.canParse(address)) continue;
    parts.push(safeText(text.slice(at, match.index)));
    parts.push(h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, address));
    at = match.index + address.length;
  }
  return [...parts, safeText(text.slice(at))];
}

/**
 * Return a text with its search matches highlighted.
 * @param {string} text @param {[number, number][]} places start and end, in characters
 * @returns {(string|HTMLElement)[]}
 */
export function highlight(text, places) {
  const characters = Array.from(text);
  const cut = (/** @type {number} */ from, /** @type {number} */ to) => safeText(characters.slice(from, to).join(""));
  const parts = [];
  let at = 0;
  for (const [from, to] of places) {
    parts.push(cut(at, from), h("mark", {}, cut(from, to)));
    at = to;
  }
  return [...parts, cut(at, characters.length)];
}
