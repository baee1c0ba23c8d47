/** Groups: creating one, listing its members, and what owner and members can do. */

import { confirm, dialog } from "./dialog.js";
import { fill, h, iconButton } from "./dom.js";
import { byPresence, disc, statusText } from "./people.js";
import { safeLine } from "./safe_text.js";

/** @typedef {(command: any, title: string, said: string, yes: string) => Promise<void>} Ask asks before a command */
/** @typedef {import("./chat.js").Chat} Chat @typedef {import("./layout.js").Layout} Layout @typedef {import("./model.js").Talk} Talk */

/** @param {number} count @returns {string} */
export function memberCount(count) {
  return count === 1 ? "1 member" : `${count} members`;
}

/** Show the form that creates a group. @param {Chat} chat @param {Layout} layout */
export function newGroup(chat, layout) {
  const name = h("input", { id: "group-name", required: true, maxlength: 32, autocomplete: "off", placeholder: "for example ops" });
  const { list, chosen } = memberPicker(chat, new Set());
  const trouble = h("p", { class: "trouble", role: "alert" });
  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const [row] = await chat.ask({ do: "group", name: name.value.trim(), members: chosen() });
      shown.close();
      await layout.open(chat.events.talkOf({ conversation_id: row.conversation_id, conversation: row.group, kind: "group" }));
    } catch (error) {
      trouble.textContent = /** @type {Error} */ (error).message;
    }
  };
  const shown = dialog("New group", h("form", { onsubmit: make },
    h("label", { for: "group-name" }, "Name"), name,
    h("fieldset", {}, h("legend", {}, "Members"), list),
    trouble,
    h("div", { class: "row end" }, h("button", { class: "primary" }, "Create group"))));
  name.focus();
}

/** Return a list of people with checkboxes. @param {Chat} chat @param {Set<string>} without ids */
function memberPicker(chat, without) {
  const people = chat.model.others.filter((person) => !without.has(person.id) && person.id !== chat.model.gatewayId).sort(byPresence);
  const ticks = people.map((person) => ({ person, tick: h("input", { type: "checkbox" }) }));
  const rows = ticks.map(({ person, tick }) => h("li", {}, h("label", { class: "person-row" }, tick, disc(person.id, person.label, person.status), h("bdi", {}, safeLine(person.label)), h("span", { class: "side-sub" }, statusText(person)))));
  const list = rows.length ? h("ul", { class: "plain choose" }, rows) : h("p", { class: "hint" }, "There is no one else to add yet.");
  return { list, some: rows.length > 0, chosen: () => ticks.filter(({ tick }) => tick.checked).map(({ person }) => person.id) };
}

/** Show the members of a group. @param {Chat} chat @param {Layout} layout @param {Talk} talk */
export async function showGroup(chat, layout, talk) {
  const body = h("div", {});
  const act = async (/** @type {any} */ command) => {
    if (await layout.notifyFailure(chat.ask({ ...command, to: talk.id }))) await layout.notifyFailure(draw());
  };
  /** @type {Ask} */
  const ask = async (command, title, said, yes) => {
    if (await confirm(title, said, yes)) await layout.notifyFailure(chat.ask({ ...command, to: talk.id }));
    await layout.notifyFailure(showGroup(chat, layout, talk)); // the question has closed it
  };
  const draw = async () => fill(body, drawGroup(chat, layout, talk, await chat.ask({ do: "members", to: talk.id }), act, ask));
  await draw();
  dialog(`#${safeLine(talk.name)}`, body);
}

/** @param {Chat} chat @param {Layout} layout @param {Talk} talk @param {any[]} rows @param {(command: any) => Promise<void>} act @param {Ask} ask */
function drawGroup(chat, layout, talk, rows, act, ask) {
  const mine = rows.some((row) => row.me && row.owner);
  const { list, some, chosen } = memberPicker(chat, new Set(rows.map((row) => row.user_id)));
  const name = h("input", { id: "group-new-name", value: talk.name, maxlength: 32 });
  return [
    h("h3", {}, memberCount(rows.length)),
    h("ul", { class: "plain" }, rows.map((row) => h("li", { class: "person-row" },
      disc(row.user_id, row.user, row.status), h("span", { class: "side-words" }, h("bdi", {}, safeLine(row.user)), h("span", { class: "side-sub" }, [row.me && "you", row.owner && "owner"].filter(Boolean).join(", ") || statusText(row))),
      mine && !row.me && h("button", { type: "button", class: "link", onclick: () => askOwner(row, talk, ask) }, "Make owner", h("span", { class: "unseen" }, ` ${safeLine(row.user)}`)),
      mine && !row.me && iconButton("close", `Remove ${safeLine(row.user)}`, () => askRemove(row, talk, ask)),
    ))),
    mine && h("form", { onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), act({ do: "add", users: chosen() })) }, h("fieldset", {}, h("legend", {}, "Add members"), list), some && h("button", {}, "Add")),
    mine && h("form", { onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), act({ do: "rename", name: name.value.trim() })) }, h("label", { for: "group-new-name" }, "Name"), h("div", { class: "row" }, name, h("button", {}, "Rename"))),
    talk.member && h("div", { class: "row end" }, h("button", { type: "button", class: "danger", onclick: () => leave(chat, layout, talk) }, "Leave group")),
  ];
}

/** @param {any} row of a member @param {Talk} talk @param {Ask} ask */
function askOwner({ user, user_id: id }, talk, ask) {
  const said = `Only the owner adds and removes members and renames the group. You stay a member of #${safeLine(talk.name)}, and cannot take this back yourself.`;
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
