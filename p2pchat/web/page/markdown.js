/**
 * A harmless subset of Markdown: **bold**, *italic*, `code`, code blocks, lists and links. Anything else stays as it was
 * written, and so do marks inside of words (snake_case, 2*3*4) or behind a backslash. The result is made of DOM nodes:
 * what somebody wrote is text in them, never markup. Work and nesting are bounded, whatever the text.
 *
 * Terminals show the text as it was written.
 */

import { h } from "./dom.js";
import { beginning, safeText } from "./safe_text.js";

const MAX_OPEN = 8; // marks that wait for their partners, and so the nesting
const MAX_DEPTH = 4; // of lists
const FENCE = /^ {0,3}```[^`]*$/u;
const FENCE_END = /^ {0,3}```\s*$/u;
const ITEM = /^( *)(?:[-*+]|(\d{1,9})[.)]) +(?=\S)/u;
const ADDRESS = String.raw`https?://[^\s<>"'\x60\\]{3,2000}`;
const PLAIN = String.raw`[^\s<>"'\x60\\()]`;
const TARGET = String.raw`https?://(?:${PLAIN}|\((?:${PLAIN}|\(${PLAIN}*\))*\)){3,2000}`; // its parentheses are balanced
const TOKEN = new RegExp(String.raw`(?<ticks>\x60+)|\[(?<label>[^[\]\n]{1,200})\]\((?<target>${TARGET})\)|\b(?<address>${ADDRESS})|(?<run>\*+|_+)`, "gi");
const BEHIND = ".,:;!?)]}"; // punctuation that ends a sentence, not the address
const WORD = /(?![\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}])[\p{L}\p{N}\p{M}]/u; // in writing with blanks between words

/** @typedef {string|HTMLElement} Part */

/**
 * Return a text as nodes: text and inline elements, or blocks if it has a list or a code block.
 * @param {string} text
 * @returns {{parts: Part[], blocks: boolean}}
 */
export function markdown(text) {
  const lines = text.split("\n");
  if (!lines.some((line) => FENCE.test(line) || ITEM.test(line))) return { parts: inline(text), blocks: false };
  return { parts: blocksOf(lines), blocks: true };
}

/**
 * Return the beginning of a text on one line, without its marks.
 * @param {string} text @param {number} [most] characters
 */
export function excerpt(text, most = 80) {
  const lines = text.slice(0, 8 * most).split("\n").filter((line) => !FENCE.test(line));
  const parts = inline(lines.map((line) => line.replace(ITEM, (mark, indent, number) => (number ? mark : ""))).join("\n"));
  return beginning(parts.map((part) => (typeof part === "string" ? part : part.textContent)).join(""), most);
}

// ---- blocks

/** @param {string[]} lines @returns {HTMLElement[]} */
function blocksOf(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const from = at;
    if (FENCE.test(lines[at])) {
      at += 1;
      while (at < lines.length && !FENCE_END.test(lines[at])) at += 1;
      blocks.push(h("pre", {}, h("code", {}, safeText(lines.slice(from + 1, at).join("\n")))));
      at += 1;
    } else if (ITEM.test(lines[at])) {
      while (at < lines.length && (ITEM.test(lines[at]) || /^ +\S/u.test(lines[at]))) at += 1;
      blocks.push(...listsOf(lines.slice(from, at), 1));
    } else {
      while (at < lines.length && !FENCE.test(lines[at]) && !ITEM.test(lines[at])) at += 1;
      const said = withoutEmpty(lines.slice(from, at));
      if (said.length) blocks.push(h("p", { dir: "auto" }, inline(said.join("\n"))));
    }
  }
  return blocks;
}

/**
 * Remove empty lines at both ends. A regular expression would look from each of thousands of empty lines to the last.
 * @param {string[]} lines
 */
function withoutEmpty(lines) {
  const from = lines.findIndex(Boolean);
  return from < 0 ? [] : lines.slice(from, lines.findLastIndex(Boolean) + 1);
}

/**
 * Return the lists in lines that begin with an item. An item goes on in lines that are indented more than its mark; items
 * among them are a list inside of it.
 * @param {string[]} lines @param {number} depth
 * @returns {HTMLElement[]}
 */
function listsOf(lines, depth) {
  const lists = [];
  let at = 0;
  while (at < lines.length) {
    const [mark, indent, number] = ITEM.exec(lines[at]) ?? ["", "", undefined];
    const from = at;
    at += 1;
    while (at < lines.length && isInside(lines[at], indent.length)) at += 1;
    const rest = lines.slice(from + 1, at);
    const first = depth < MAX_DEPTH ? rest.findIndex((line) => ITEM.test(line)) : -1;
    const own = first < 0 ? rest : rest.slice(0, first);
    const said = [lines[from].slice(mark.length), ...own.map((line) => line.trimStart())].join("\n");
    const item = h("li", { value: number, dir: "auto" }, inline(said), first < 0 ? [] : listsOf(rest.slice(first), depth + 1));
    const kind = number === undefined ? "UL" : "OL";
    const last = lists.at(-1);
    if (last?.tagName === kind) last.append(item);
    else lists.push(h(kind.toLowerCase(), {}, item));
  }
  return lists;
}

/** @param {string} line @param {number} indent of an item */
function isInside(line, indent) {
  const found = ITEM.exec(line);
  return !found || found[1].length > indent + 1;
}

// ---- inside of a line

/** Collects parts, and wraps those between two marks. */
class Inline {
  constructor() {
    /** @type {Part[]} */
    this.parts = [];
    /** @type {{mark: string, at: number}[]} marks that may begin something, with the index of their part */
    this._open = [];
  }

  /** @param {Part} part */
  add(part) {
    if (part !== "") this.parts.push(part);
  }

  /** @param {string} run of one mark @param {boolean} opens @param {boolean} closes */
  mark(run, opens, closes) {
    let left = run.length;
    while (closes && left) {
      const index = this._open.findLastIndex(({ mark }) => mark[0] === run[0] && mark.length <= left);
      if (index < 0) break;
      const { mark, at } = this._open[index];
      this._open.length = index;
      const inner = this.parts.splice(at).slice(1);
      this.parts.push(h(mark.length === 2 ? "strong" : "em", {}, inner));
      left -= mark.length;
    }
    if (!left) return;
    if (!opens || left > 3 || this._open.length + 2 > MAX_OPEN) {
      this.add(run.slice(0, left));
      return;
    }
    for (const mark of left === 3 ? [run.slice(0, 2), run[0]] : [run.slice(0, left)]) {
      this._open.push({ mark, at: this.parts.length });
      this.parts.push(mark);
    }
  }
}

/** @param {string} text @returns {Part[]} */
function inline(text) {
  const found = new Inline();
  let at = 0;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match; match = TOKEN.exec(text)) {
    const from = match.index;
    const run = match.groups?.run;
    const piece = run ? null : pieceOf(text, match);
    if (run ? text[from - 1] === "\\" : !piece) continue; // it stays text
    found.add(safeText(text.slice(at, from)));
    at = from + (piece ? piece.length : match[0].length);
    const [before, after] = [text[from - 1] ?? " ", text[at] ?? " "];
    if (piece) found.add(piece.node);
    else found.mark(match[0], !WORD.test(before) && /\S/u.test(after), !WORD.test(after) && /\S/u.test(before));
    TOKEN.lastIndex = at;
  }
  found.add(safeText(text.slice(at)));
  return found.parts;
}

/**
 * Return code or a link, and how long it is in the text; null if the text only looks so.
 * @param {string} text @param {RegExpExecArray} match of TOKEN
 */
function pieceOf(text, { index, groups: { ticks, label, target, address } = {} }) {
  if (ticks) {
    const end = endOfCode(text, index + ticks.length, ticks);
    return end < 0 ? null : { node: h("code", {}, safeText(text.slice(index + ticks.length, end))), length: end + ticks.length - index };
  }
  const shown = target ?? withoutEnd(address, "*_".includes(text[index - 1] ?? " ") ? `${BEHIND}*_` : BEHIND);
  if (safeText(shown) !== shown || !URL.canParse(shown)) return null;
  const how = { href: shown, target: "_blank", rel: "noopener noreferrer nofollow" };
  if (!target) return { node: h("a", how, shown), length: shown.length };
  const where = h("span", { class: "link-host" }, ` (${new URL(shown).host})`); // no name can hide where a link leads
  return { node: h("a", { ...how, title: shown }, safeText(label), where), length: label.length + target.length + 4 };
}

/** Remove what stands behind an address. A parenthesis that the address opens is its own. @param {string} address @param {string} behind characters */
function withoutEnd(address, behind) {
  let open = address.split("(").length - address.split(")").length;
  let end = address.length;
  while (behind.includes(address[end - 1]) && (address[end - 1] !== ")" || open < 0)) {
    end -= 1;
    if (address[end] === ")") open += 1;
  }
  return address.slice(0, end);
}

/** @param {string} text @param {number} from @param {string} ticks @returns {number} where the same number of ticks stands again; -1: nowhere */
function endOfCode(text, from, ticks) {
  for (let at = text.indexOf(ticks, from); at >= 0; ) {
    let end = at;
    while (text[end] === "`") end += 1;
    if (end - at === ticks.length) return at;
    at = text.indexOf(ticks, end);
  }
  return -1;
}
