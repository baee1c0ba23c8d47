/**
 * Text of others, made safe to show: no character can hide text, reverse a line, or imitate something else.
 *
 * The rules are those of the terminal (p2pchat/safe_text.py), character for character. Message texts, which have their
 * own box, also keep tabs.
 */

import { h } from "./dom.js";

const HUES = 12; // avatar colours, chosen by id: a person has the same one everywhere

const TAB = "    "; // in a line, where its width would depend on its place
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

const SHAPED = // letters and marks of the scripts in which joiners have an effect
  "\\u0620-\\u065f\\u066e-\\u06d3\\u06d5-\\u06ef\\u06fa-\\u06ff\\u0710-\\u077f\\u07ca-\\u07f5\\u0840-\\u085b\\u0860-\\u08ff" +
  "\\u0900-\\u0963\\u0970-\\u09e5\\u09f0-\\u0a65\\u0a70-\\u0ae5\\u0af0-\\u0b65\\u0b70-\\u0be5\\u0bf0-\\u0c65\\u0c70-\\u0ce5" +
  "\\u0cf0-\\u0d65\\u0d70-\\u0de5\\u0df0-\\u0df3\\u1000-\\u103f\\u1050-\\u108f\\u1780-\\u17b3\\u17b6-\\u17d3\\u1820-\\u18aa" +
  "\\u1a20-\\u1a7c\\u1b00-\\u1b4c\\u1b80-\\u1baf\\ua840-\\ua873\\ua8e0-\\ua8ff\\ua980-\\ua9c0\\ufb50-\\ufdcf\\ufe70-\\ufefc" +
  "\\u{10d00}-\\u{10d27}\\u{11000}-\\u{11fff}\\u{1e900}-\\u{1e94b}";
const PICTURES = "\\u2190-\\u21ff\\u2300-\\u23ff\\u25a0-\\u27bf\\u2b00-\\u2bff\\u{1f000}-\\u{1faff}"; // emoji, and the like
const JOINS = // a joiner that the character before it was
  `(?<![${PICTURES}]\\u200d(?![^${PICTURES}]))(?<![${PICTURES}]\\ufe0f\\u200d(?![^${PICTURES}]))` +
  `(?<![${SHAPED}]\\u200c(?![^${SHAPED}]))(?<![${SHAPED}]\\u200d(?![\\u200c\\u200d]))`;

const IN_A_LINE = new RegExp(`[\\n${HARMFUL}]${JOINS}`, "gu");
const IN_A_TEXT = new RegExp(`[${HARMFUL}]${JOINS}`, "gu");
const JOINERS = "\u200c\u200d"; // ZWNJ and ZWJ
const MARK = /[\p{Mn}\p{Me}\u1160-\u11ff\ud7b0-\ud7ff]/u;
const TOO_MANY_MARKS = new RegExp(`(?:${MARK.source}[${JOINERS}]?){${MAX_MARKS + 1},}`, "gu");

/** @param {string} character @returns {string} */
function escaped(character) {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/** @param {string} marks on one letter @returns {string} */
function fewMarks(marks) {
  let count = 0;
  return Array.from(marks, (mark) => {
    count += JOINERS.includes(mark) ? 0 : 1;
    return count <= MAX_MARKS ? mark : escaped(mark);
  }).join("");
}

/**
 * Return a text safe within one line: a name, a reason.
 * @param {string} text @returns {string}
 */
export function safeLine(text) {
  return text.replace(IN_A_LINE, (found) => (found === "\t" ? TAB : escaped(found))).replace(TOO_MANY_MARKS, fewMarks);
}

/**
 * Return a text safe in its own box; it keeps its lines.
 * @param {string} text @returns {string}
 */
export function safeText(text) {
  return text
    .replace(IN_A_TEXT, (found) => (found === "\t" ? found : escaped(found)))
    .replace(TOO_MANY_MARKS, fewMarks);
}

/**
 * Return the beginning of a text on one line, to identify a message.
 * @param {string} text @param {number} [most]
 */
export function beginning(text, most = 80) {
  const line = Array.from(text.replace(/\s+/gu, " ").trim());
  return safeLine(line.length > most ? line.slice(0, most - 1).join("") + "…" : line.join(""));
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
  for (const [from, end] of places) {
    let to = end;
    while (to < characters.length && JOINERS.includes(characters[to])) to += 1; // shown with what they join
    parts.push(cut(at, from), h("mark", {}, cut(from, to)));
    at = to;
  }
  return [...parts, cut(at, characters.length)];
}

/** Return the sign of a person: the first letter of a label. @param {string} id @param {string} label @param {string} [status] with a dot */
export function disc(id, label, status) {
  const letter = Array.from(safeLine(label).replace(/^[\\"']+/u, ""))[0] ?? "?";
  const hue = [...id.slice(0, 8)].reduce((sum, character) => sum + character.charCodeAt(0), 0) % HUES;
  return h("span", { class: "disc", data: { hue }, "aria-hidden": "true" }, letter.toUpperCase(), status && dot(status));
}

/** @param {string} status */
function dot(status) {
  return h("span", { class: "dot", data: { status } });
}
