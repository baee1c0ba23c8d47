/** Message requests: what people unknown to the user wrote, and groups they made. It waits, unseen, for an answer. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";
import { disc } from "./people.js";
import { Redraw, Rows } from "./rows.js";
import { safeLine } from "./safe_text.js";
import { when, whole } from "./times.js";

export const ACCEPTING = "Accept shows what they wrote, and they see what you read.";

/** @typedef {import("./chat.js").Chat} Chat @typedef {import("./layout.js").Layout} Layout @typedef {import("./model.js").MessageRequest} MessageRequest */

/** @param {MessageRequest} request @returns {string} how many messages of it are stored */
export function messageCount({ messages }) {
  return messages === 1 ? "1 message" : `${messages} messages`;
}

/** Show who waits for an answer. The list follows what is answered, here or elsewhere. @param {Chat} chat @param {Layout} layout */
export async function showRequests(chat, layout) {
  const { model } = chat;
  const rows = new Rows(h("ul", { class: "plain requests" }));
  const intro = h("p", { class: "hint" });
  const trouble = h("p", { class: "trouble", role: "alert" });
  const said = h("p", { class: "hint", role: "status" });
  const draw = () => {
    intro.textContent = model.requests.size ? `You do not know these people. ${ACCEPTING} Nobody is told that you ignore or block them. What is left alone is deleted after 30 days.` : "Nobody whom you do not know waits for you.";
    rows.draw([...model.requests.values()].map((request) => ({ key: request.id, drawn: JSON.stringify(request), draw: () => row(request, answer(request)) })));
  };
  /** @param {MessageRequest} request @returns {(action: Promise<any>, words: string) => Promise<boolean>} waits for an action, says what was done, and keeps the focus in the list */
  const answer = (request) => async (action, words) => {
    said.textContent = trouble.textContent = "";
    try {
      await action;
    } catch (error) {
      trouble.textContent = /** @type {Error} */ (error).message;
      return false;
    }
    said.textContent = `${nameOf(request)} ${words}`;
    draw();
    if (!shown.contains(document.activeElement)) /** @type {HTMLElement|null} */ (rows.list.querySelector("button") ?? shown.querySelector("button"))?.focus();
    return true;
  };
  /** @param {MessageRequest} request @param {ReturnType<typeof answer>} done */
  const row = (request, done) => {
    const { group, userId } = request;
    const name = nameOf(request);
    const accept = async () => {
      if (!(await done(chat.accept(request), "is accepted: the group appears in the list")) || group) return;
      shown.close();
      await layout.openWith(userId);
    };
    const button = (/** @type {string} */ word, /** @type {() => any} */ click, kind = "") => h("button", { type: "button", class: kind, onclick: click }, word, h("span", { class: "unseen" }, ` ${name}`));
    const what = group ? `group by ${safeLine(request.label)}, since ` : `${messageCount(request)} since `;
    return h("li", {},
      h("div", { class: "person-row" }, disc(userId, request.label),
        h("span", { class: "side-words" }, h("bdi", { class: "side-name" }, name), h("span", { class: "side-sub" }, what, h("time", { datetime: request.since, title: whole(request.since) }, when(request.since))))),
      h("div", { class: "row end" },
        group ? button("Decline", () => done(chat.decline(request), "does not wait any more")) : button("Ignore", () => done(chat.hide("ignore", userId), "is ignored from now on")),
        !group && button("Block", () => done(chat.hide("block", userId), "is blocked")),
        button("Accept", accept, "primary")));
  };
  await chat.loadRequests();
  const shown = dialog("Requests", [intro, rows.list, trouble, said], { class: "small" });
  const redraw = new Redraw(rows.list, draw);
  draw();
  shown.addEventListener("close", model.bus.on("requests", () => redraw.soon()));
}

/** @param {MessageRequest} request */
function nameOf({ group, label }) {
  return group ? `#${safeLine(group)}` : safeLine(label);
}
