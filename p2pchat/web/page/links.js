/** Message text as nodes: links for web addresses, shown exactly as written, and highlighted search results. */

import { h } from "./dom.js";
import { safeText } from "./safe.js";

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
