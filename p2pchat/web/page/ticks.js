/** Delivery ticks on own messages: `·` saved, `✓` delivered to the disks of others, `✓✓` read. See docs/ticks.md. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { disc } from "./people.js";
import { safeLine } from "./safe.js";

/** @typedef {import("./model.js").Message} Message */

/** @param {Message} message @param {boolean} direct @returns {{mark: string, said: string}} */
export function ticksOf(message, direct) {
  const { count, read, of } = message.ticks;
  if (read) return { mark: direct ? "✓✓" : `✓✓ ${read}/${of}`, said: direct ? "read" : `read by ${read} of ${of}` };
  if (count) return { mark: direct ? "✓" : `✓ ${count}/${of}`, said: direct ? "delivered" : `delivered to ${count} of ${of}` };
  return { mark: "·", said: "saved here, not delivered yet" };
}

/**
 * Show who has received a message and who has read it.
 * @param {import("./chat.js").Chat} chat @param {Message} message
 */
export async function showReceipts(chat, message) {
  const [row] = await chat.ask({ do: "receipts", id: message.id });
  const people = (/** @type {string} */ title, /** @type {string[]} */ names, /** @type {string[]} */ ids) =>
    names.length > 0 && h("section", {}, h("h3", {}, title), h("ul", { class: "plain" },
      names.map((name, index) => h("li", { class: "person-row" }, disc(ids[index], name), h("bdi", {}, safeLine(name))))));
  const [has, hasIds] = namesExcept(row.delivered_to, row.delivered_to_ids, row.read_by_ids);
  dialog("Delivery status", [
    people("✓✓ Read by", row.read_by, row.read_by_ids),
    people("✓ Delivered to", has, hasIds),
    people("Not delivered yet", row.missing, row.missing_ids),
    !row.read_by.length && !has.length && !row.missing.length && h("p", {}, "Saved here. It is delivered when someone connects."),
  ]);
}

/** @param {string[]} names @param {string[]} ids @param {string[]} others */
function namesExcept(names, ids, others) {
  const left = ids.map((id, index) => [names[index], id]).filter(([, id]) => !others.includes(id));
  return [left.map(([name]) => name), left.map(([, id]) => id)];
}
