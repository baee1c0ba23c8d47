/** Names as people type them: without accents, or with one letter wrong. */

const MAX_SUGGESTED = 3; // a guess at what is read

/** @type {Record<string, string>} letters that Unicode does not take apart, as in p2pchat/storage/search_words.py */
const STROKES = { ø: "o", đ: "d", ł: "l", ħ: "h", ŧ: "t", ı: "i", æ: "ae", œ: "oe", þ: "th", ß: "ss" };

/** @param {string} text @returns {string} it in lower case and without accents, to compare with */
export function fold(text) {
  const plain = text.toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "");
  return plain.replace(/[øđłħŧıæœþß]/gu, (letter) => STROKES[letter]);
}

/**
 * Return whether two names differ by one letter: missing, added, wrong, or swapped with the next one. The rule of the
 * gateway, see is_misspelling in p2pchat/messaging/name_resolution.py.
 * @param {string} typed @param {string} name
 */
export function isMisspelling(typed, name) {
  const [one, other] = [typed, name].map((text) => Array.from(text.toLowerCase())).sort((a, b) => a.length - b.length);
  if (other.length < 3 || other.length - one.length > 1 || one.join("") === other.join("")) return false;
  const at = other.findIndex((letter, index) => letter !== one[index]);
  const rest = (/** @type {string[]} */ letters, /** @type {number} */ from) => letters.slice(from).join("");
  const isAdded = other.length > one.length;
  const isSwapped = !isAdded && one[at] + one[at + 1] === other[at + 1] + other[at] && rest(one, at + 2) === rest(other, at + 2);
  const letters = isAdded ? other[at] : one[at] + other[at];
  return !/^\p{Nd}+$/u.test(letters) && (isSwapped || rest(one, isAdded ? at : at + 1) === rest(other, at + 1));
}

/**
 * Return the people a name may mean, if it is misspelt.
 * @param {import("./model.js").Person[]} people @param {string} name
 */
export function namesNear(people, name) {
  const typed = fold(name);
  return people.filter((person) => fold(person.name) === typed || isMisspelling(typed, fold(person.name))).slice(0, MAX_SUGGESTED);
}
