/** Names as people type them: without accents. */

/** @type {Record<string, string>} letters that Unicode does not take apart, as in p2pchat/storage/search_words.py */
const STROKES = { ø: "o", đ: "d", ł: "l", ħ: "h", ŧ: "t", ı: "i", æ: "ae", œ: "oe", þ: "th", ß: "ss" };

/** @param {string} text @returns {string} it in lower case and without accents, to compare with */
export function fold(text) {
  const plain = text.toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "");
  return plain.replace(/[øđłħŧıæœþß]/gu, (letter) => STROKES[letter]);
}
