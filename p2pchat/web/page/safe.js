/**
 * Text of others, made fit to be shown: nothing anyone writes can hide, turn the line around, or pass for something else.
 *
 * The same rules as the terminal (p2pchat/safe_text.py), character for character, for names and whatever else stands
 * in a line of ours. In the text of a message, which has a box of its own, a tab and the joiners that Persian, Indian
 * languages and families of emoji are written with stay as they are.
 */

const MOST_MARKS = 4; // on one letter: no writing has more (UTS 39, section 5.4)

const HARMFUL =
  "\\u0000-\\u0009\\u000b-\\u001f\\u007f-\\u009f" + // C0 but newline, DEL, C1
  "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\u206a-\\u206f" + // bidi controls
  "\\u00ad\\u034f\\u180b-\\u180f\\u200b-\\u200d\\u2060-\\u2065\\ufeff" + // zero-width; the soft hyphen
  "\\u115f\\u1160\\u17b4\\u17b5\\u3164\\uffa0" + // letters that are blank
  "\\u2028\\u2029\\ufff0-\\ufffb" + // separators, interlinear annotation
  "\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}" + // controls of shorthand and music
  "\\ud800-\\udfff" + // lone surrogates
  "\\u{e0000}-\\u{e00ff}\\u{e01f0}-\\u{e0fff}"; // tags, and what is not to be seen either

const IN_A_LINE = new RegExp(`[\\n${HARMFUL}]`, "gu");
const IN_A_TEXT = new RegExp(`[${HARMFUL}]`, "gu");
const JOINERS = "\u200c\u200d"; // harmless between letters that are no ASCII, or emoji
const MARK = /[\p{Mn}\p{Me}\u1160-\u11ff\ud7b0-\ud7ff]/u;
const HEAPS = new RegExp(`(?:${MARK.source}){${MOST_MARKS + 1},}`, "gu");

/** @param {string} character @returns {string} */
function shown(character) {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/** @param {string} heap marks on one letter @returns {string} */
function fewMarks(heap) {
  return Array.from(heap, (mark, index) => (index < MOST_MARKS ? mark : shown(mark))).join("");
}

/**
 * One line: names, reasons, whatever belongs into a sentence of the page.
 * @param {string} text @returns {string}
 */
export function safeLine(text) {
  return text.replace(IN_A_LINE, shown).replace(HEAPS, fewMarks);
}

/**
 * A text in a box of its own, with its lines.
 * @param {string} text @returns {string}
 */
export function safeText(text) {
  return text
    .replace(IN_A_TEXT, (found, at) => (found === "\t" || joins(text, found, at) ? found : shown(found)))
    .replace(HEAPS, fewMarks);
}

/** @param {string} text @param {string} found @param {number} at */
function joins(text, found, at) {
  return JOINERS.includes(found) && text.charCodeAt(at - 1) > 0x7f && text.charCodeAt(at + 1) > 0x7f && !JOINERS.includes(text[at + 1]);
}

/**
 * The beginning of a text, on one line, to say which message is meant.
 * @param {string} text @param {number} [most]
 */
export function beginning(text, most = 80) {
  const line = Array.from(text.replace(/\s+/gu, " ").trim());
  return safeLine(line.length > most ? line.slice(0, most - 1).join("") + "…" : line.join(""));
}
