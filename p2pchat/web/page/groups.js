/** Groups: creating one, listing its members, and what owner and members can do. */

import { confirm, dialog } from "./dialog.js";
import { fill, h, iconButton } from "./dom.js";
import { fold } from "./names.js";
import { byPresence, firstOf, statusText } from "./people.js";
import { Redraw, Rows } from "./rows.js";
import { disc, safeLine } from "./safe_text.js";

/** @typedef {(command: any, title: string, said: string, yes: string) => Promise<void>} Ask asks before a command */
/** @typedef {import("./chat.js").Chat} Chat @typedef {import("./layout.js").Layout} Layout @typedef {import("./model.js").Talk} Talk */

const MAX_OFFERED = 60; // people shown at once, as beside the conversations; a field finds the others

/** @param {number} count @returns {string} */
export function memberCount(count) {
  return count === 1 ? "1 member" : `${count} members`;
}

/** Show the form that creates a group. @param {Chat} chat @param {Layout} layout */
export function newGroup(chat, layout) {
  const name = h("input", { id: "group-name", required: true, maxlength: 32, autocomplete: "off", placeholder: "for example ops" });
  const picker = memberPicker(chat);
  const trouble = h("p", { class: "trouble", role: "alert" });
  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const [row] = await chat.ask({ do: "group", name: name.value.trim(), members: picker.chosen() });
      shown.close();
      await layout.open(chat.events.talkOf({ conversation_id: row.conversation_id, conversation: row.group, kind: "group" }));
    } catch (error) {
      trouble.textContent = /** @type {Error} */ (error).message;
    }
  };
  const shown = dialog("New group", h("form", { onsubmit: make },
    h("label", { for: "group-name" }, "Name"), name,
    h("fieldset", {}, h("legend", {}, "Members"), picker.element),
    trouble,
    h("div", { class: "row end" }, h("button", { class: "primary" }, "Create group"))));
  picker.follow(shown);
  name.focus();
}

/**
 * Return a list of people with checkboxes. It follows who is there; who is ticked stays so, and who was listed keeps the place.
 * Of many people the first are listed, with who is ticked before the others.
 * @param {Chat} chat @param {(count: number) => void} [drawn] called with the number of people in the list
 */
function memberPicker(chat, drawn = () => {}) {
  const rows = new Rows(h("ul", { class: "plain choose" }));
  /** @type {Map<string, number>} */
  const places = new Map();
  const chosen = new Set();
  /** @type {string[]} */
  let left = [];
  const nobody = h("p", { class: "hint" }, "There is no one else to add yet.");
  const more = h("p", { class: "hint" });
  const find = h("input", {
    type: "search", placeholder: "Find people", "aria-label": "Find people", autocomplete: "off", oninput: () => draw(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && event.preventDefault(), // it would send the form
  });
  const row = (/** @type {import("./model.js").Person} */ person) => h("li", {}, h("label", { class: "person-row" },
    h("input", { type: "checkbox", checked: chosen.has(person.id), onchange: (/** @type {any} */ { target }) => (target.checked ? chosen.add(person.id) : chosen.delete(person.id)) }), disc(person.id, person.label, person.status), h("bdi", {}, safeLine(person.label)), h("span", { class: "side-sub" }, statusText(person))));
  /** @param {string[]} [without] ids that are left out, from now on */
  const draw = (without = left) => {
    left = without;
    for (const id of left) chosen.delete(id);
    const people = chat.model.others.filter(({ id }) => !left.includes(id) && id !== chat.model.gatewayId).sort(byPresence);
    const isTicked = (/** @type {import("./model.js").Person} */ { id }) => chosen.has(id);
    const place = (/** @type {import("./model.js").Person} */ { id }) => places.get(id) ?? places.size;
    const isLong = people.length > MAX_OFFERED;
    const words = isLong ? fold(find.value.trim()) : "";
    const fitting = people.filter((person) => isTicked(person) || fold(person.label).includes(words));
    const listed = firstOf(fitting, MAX_OFFERED, (one, other) => Number(isTicked(other)) - Number(isTicked(one)) || place(one) - place(other));
    for (const { id } of listed) places.set(id, places.get(id) ?? places.size);
    listed.sort((one, other) => place(one) - place(other));
    rows.draw(listed.map((person) => ({ key: person.id, drawn: JSON.stringify([person.label, statusText(person), person.status]), draw: () => row(person) })));
    const unlisted = fitting.length - listed.length;
    more.textContent = unlisted > 0 ? `${unlisted} more; search by name above` : listed.length ? "" : "No matches";
    more.hidden = !people.length || !more.textContent;
    find.hidden = !isLong;
    rows.list.hidden = !listed.length;
    nobody.hidden = people.length > 0;
    drawn(people.length);
  };
  const redraw = new Redraw(() => draw());
  draw();
  const follow = (/** @type {HTMLElement} */ shown) => shown.addEventListener("close", chat.model.bus.on("people", () => redraw.soon()));
  return { element: [find, rows.list, more, nobody], draw, follow, chosen: () => [...chosen] };
}

/**
 * Show the members of a group, and what its owner can change. It follows the group while it is open.
 * @param {Chat} chat @param {Layout} layout @param {Talk} talk @param {string} [refused] why the members were not changed
 */
export async function showGroup(chat, layout, talk, refused = "") {
  /** @type {Ask} */
  const ask = async (command, title, said, yes) => {
    const answer = (await confirm(title, said, yes)) ? await refusalOf(chat.ask({ ...command, to: talk.id })) : "";
    await layout.notifyFailure(showGroup(chat, layout, talk, answer)); // the question has closed it
  };
  /** @param {() => any} command @param {any} content @returns {HTMLElement} a form that says below what was refused */
  const form = (command, content) => {
    const trouble = h("p", { class: "trouble", role: "alert" });
    const send = async (/** @type {Event} */ event) => (event.preventDefault(), (trouble.textContent = await refusalOf(chat.ask({ ...command(), to: talk.id }))));
    return h("form", { onsubmit: send }, content, trouble);
  };
  const title = new Text();
  const count = h("h3", {});
  const members = new Rows(h("ul", { class: "plain" }));
  const add = h("button", {}, "Add");
  const picker = memberPicker(chat, (count) => (add.hidden = !count));
  const name = h("input", { id: "group-new-name", value: talk.name, maxlength: 32 });
  const added = form(() => ({ do: "add", users: picker.chosen() }), [h("fieldset", {}, h("legend", {}, "Add members"), picker.element), add]);
  const renamed = form(() => ({ do: "rename", name: name.value.trim() }), [h("label", { for: "group-new-name" }, "Name"), h("div", { class: "row" }, name, h("button", {}, "Rename"))]);
  const end = h("div", { class: "row end" });
  let named = talk.name;
  /** @type {any[]} */
  let rows = [];
  const load = async () => (rows = await chat.ask({ do: "members", to: talk.id }));
  const draw = () => {
    const mine = rows.some((row) => row.me && row.owner);
    const manages = mine || rows.some((row) => row.me && row.admin);
    title.data = `#${safeLine(talk.name)}`;
    count.textContent = memberCount(rows.length);
    members.draw(rows.map((row) => ({ key: row.user_id, drawn: JSON.stringify([row, mine, manages]), draw: () => memberRow(row, mine && !row.me, mine ? !row.me : manages && !(row.owner || row.admin), talk, ask) })));
    picker.draw(rows.map((row) => row.user_id));
    if (name.value === named) name.value = talk.name; // nobody is writing there
    named = talk.name;
    added.hidden = !manages;
    renamed.hidden = !mine;
    fill(end, talk.member && (mine && rows.length > 1 ? h("p", { class: "hint" }, "You own this group. To leave it, make another member the owner first.") : h("button", { type: "button", class: "danger", onclick: () => leave(chat, layout, talk) }, "Leave group")));
  };
  await load();
  draw();
  const shown = dialog(title, [count, members.list, h("p", { class: "trouble", role: "alert" }, refused), added, renamed, end]);
  picker.follow(shown);
  const redraw = new Redraw(draw);
  shown.addEventListener("close", chat.model.bus.on("group", (changed) => changed === talk && load().then(() => redraw.soon(), () => {})));
}

/** @param {Promise<any>} action @returns {Promise<string>} why it was refused; "" if it was not */
async function refusalOf(action) {
  try {
    await action;
    return "";
  } catch (error) {
    return /** @type {Error} */ (error).message;
  }
}

/** @param {any} row of a member @param {boolean} mayRaise @param {boolean} mayRemove @param {Talk} talk @param {Ask} ask */
function memberRow(row, mayRaise, mayRemove, talk, ask) {
  const what = [row.me && "you", row.owner && "owner", row.admin && "admin"].filter(Boolean).join(", ") || statusText(row);
  return h("li", { class: "person-row" },
    disc(row.user_id, row.user, row.status), h("span", { class: "side-words" }, h("bdi", {}, safeLine(row.user)), h("span", { class: "side-sub" }, what)),
    mayRaise && h("button", { type: "button", class: "link", onclick: () => askAdmin(row, talk, ask) }, row.admin ? "No admin" : "Make admin", h("span", { class: "unseen" }, ` ${safeLine(row.user)}`)),
    mayRaise && h("button", { type: "button", class: "link", onclick: () => askOwner(row, talk, ask) }, "Make owner", h("span", { class: "unseen" }, ` ${safeLine(row.user)}`)),
    mayRemove && iconButton("close", `Remove ${safeLine(row.user)}`, () => askRemove(row, talk, ask)));
}

/** @param {any} row of a member @param {Talk} talk @param {Ask} ask */
function askAdmin({ user, user_id: id, admin }, talk, ask) {
  if (admin) return ask({ do: "unadmin", user: id }, `Make ${safeLine(user)} a plain member?`, `Whom they added to #${safeLine(talk.name)} and removed stays so.`, "Make member");
  return ask({ do: "admin", user: id }, `Make ${safeLine(user)} an admin?`, `Admins add and remove plain members of #${safeLine(talk.name)}.`, "Make admin");
}

/** @param {any} row of a member @param {Talk} talk @param {Ask} ask */
function askOwner({ user, user_id: id }, talk, ask) {
  const said = `Only the owner makes admins and renames the group. You stay a member of #${safeLine(talk.name)}, and cannot take this back yourself.`;
  return ask({ do: "owner", user: id }, `Make ${safeLine(user)} the owner?`, said, "Make owner");
}

/** @param {any} row of a member @param {Talk} talk @param {Ask} ask */
function askRemove({ user, user_id: id }, talk, ask) {
  const said = `They keep what was written so far, and get nothing that is written in #${safeLine(talk.name)} from now on. You can add them again.`;
  return ask({ do: "kick", users: [id] }, `Remove ${safeLine(user)}?`, said, "Remove");
}

/** @param {Chat} chat @param {Layout} layout @param {Talk} talk */
async function leave(chat, layout, talk) {
  if (!(await confirm(`Leave #${safeLine(talk.name)}?`, "Your messages stay. The owner can add you again.", "Leave"))) return;
  if (!(await layout.notifyFailure(chat.ask({ do: "leave", to: talk.id })))) return;
  talk.member = false;
  if (chat.model.room) await layout.open(chat.model.room);
}
