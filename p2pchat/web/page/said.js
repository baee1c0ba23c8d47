/**
 * What people say of messages, by the event that tells of it: a row for each record of kinds/ that has a list. Lines, messages, the
 * marks and buttons of a message and what stands at the head of a conversation are made from the rows. tests/test_entry_kinds.py
 * compares them with the records.
 */

/**
 * @typedef {object} Row
 * @property {string} list the field of a message @property {string} field what the event and each item of the list say
 * @property {boolean} [shared] the newest of all people counts, and not of each
 * @property {boolean} [head] such messages stand at the head of their conversation; the command of the name `list` returns them
 * @property {[string, string]} [toggle] of what is shared: the commands of a button beside each message, to say it and to take it back
 * @property {string} [icon] of that button, an SVG path as in dom.js
 */

/** @type {Record<string, Row>} */
export const SAID = {
  reaction: { list: "reactions", field: "reaction" },
  pinned: { list: "pins", field: "pinned", shared: true, head: true, toggle: ["pin", "unpin"], icon: "M9 4h6l-1 6 4 4H6l4-4zM12 14v7" },
  vote: { list: "votes", field: "option" },
};

export const HEADS = Object.entries(SAID).filter(([, row]) => row.head);

/** @param {any} line of a message, or none @returns {any} what people say of it, by the field of a message */
export function saidOf(line) {
  return Object.fromEntries(Object.values(SAID).map(({ list }) => [list, line[list] ?? []]));
}

/** Take what an event line says into a message. @param {any} message @param {any} line */
export function say(message, line) {
  const { list, field, shared } = SAID[line.event];
  if (line[list]) {
    message[list] = line[list]; // something else counts no more
    return;
  }
  const others = shared ? [] : message[list].filter((/** @type {any} */ one) => one.by_id !== line.by_id);
  message[list] = line[field] ? [...others, { [field]: line[field], by: line.by, by_id: line.by_id }] : others;
}

/** @param {string} word @returns {string} the word of a command on a button */
export function onButton(word) {
  return word[0].toUpperCase() + word.slice(1);
}
