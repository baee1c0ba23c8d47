/** One message as an element: sender, time, text, quote, reactions, delivery ticks, actions, and the dialogs for them. */

import { dialog } from "./dialog.js";
import { h, iconButton } from "./dom.js";
import { pickEmoji } from "./emoji.js";
import { fileNames } from "./attachments.js";
import { excerpt, markdown } from "./markdown.js";
import { mentions, writtenAt } from "./model.js";
import { disc, safeLine, safeText } from "./safe_text.js";
import { SAID, onButton } from "./said.js";
import { clock, when, whole } from "./times.js";

const COMMON_REACTIONS = ["👍", "❤️", "😄", "🎉", "😮", "😢", "🙏", "✅", "👀", "🚀", "+1", "-1"];
const MAX_REACTION_CHARACTERS = 8;
const MAX_REACTIONS = 24; // different ones shown of a message, those of most people; a guess, as the next
const MAX_REACTING = 30; // people named of one
const MAX_LISTED = 200; // people in a dialog; a guess
const LATE = 60000; // milliseconds between writing and sending that are shown; clocks differ

/**
 * @typedef {import("./model.js").Message} Message
 * @typedef {object} Actions callbacks for the actions on a message
 * @property {(message: Message) => void} reply @property {(message: Message) => void} react
 * @property {(message: Message, reaction: string) => void} toggle @property {(message: Message) => void} edit
 * @property {(message: Message, choice: string) => void} press @property {(message: Message, row: import("./said.js").Row) => void} say
 * @property {(message: Message, option: number) => void} vote @property {(message: Message) => void} close
 * @property {(message: Message) => void} remove @property {(message: Message) => void} info @property {(message: Message) => void} sayers
 * @property {(id: string) => void} jump @property {(message: Message) => void} person
 * @property {(message: Message) => HTMLElement|null} files draws the files of a message
 * @property {(message: Message) => void} again @property {(message: Message) => void} discard
 */

/**
 * @param {Message} message
 * @param {object} seen
 * @param {import("./model.js").Model} seen.model @param {import("./model.js").Talk} seen.talk
 * @param {boolean} seen.head the first message of a group by one writer
 * @param {Actions} actions
 * @returns {HTMLElement}
 */
export function drawMessage(message, { model, talk, head }, actions) {
  const name = safeLine(model.labelOf(message.senderId, message.sender));
  const meant = !message.mine && talk.kind !== "dm" && mentions(message.text, model.me.name);
  return h("li", {
    class: ["message", message.mine ? "mine" : "other", head ? "head" : "", meant ? "meant" : "", message.ref ? "waits" : ""].join(" "),
    data: { id: message.id || message.ref }, tabindex: -1,
  },
    message.missing.length > 0 && h("p", { class: "gap" }, gapText(message)),
    h("div", { class: "message-row" },
      head && !message.mine ? h("button", { type: "button", class: "disc-button", tabindex: -1, "aria-label": `About ${name}`, onclick: () => actions.person(message) }, disc(message.senderId, name)) : h("span", { class: "disc-room" }),
      h("div", { class: "bubble" },
        head && h("p", { class: message.mine ? "who unseen" : "who" }, h("bdi", {}, message.mine ? "You" : name)),
        message.replyTo && quote(message, talk, model, actions),
        (message.text || message.deleted || message.unsupported || !message.files.length) && messageText(message, name),
        message.expelled && h("p", { class: "text gone" }, message.mine ? "you were expelled" : "from somebody who is no member"),
        actions.files(message),
        choices(message, talk, model, actions),
        reactions(message, talk, model, actions),
        foot(message, talk, model, actions),
      ),
      !message.ref && !message.deleted && talk.member && actionButtons(message, actions),
    ),
  );
}

const UNSUPPORTED = "[a message of a kind that this version does not know: update p2pchat]";

/** @param {Message} message @param {number} most characters @returns {string} what it says on one line: its text, or the names of its files */
export function gist(message, most) {
  if (message.deleted) return "";
  return [message.text && excerpt(message.text, most), message.unsupported && UNSUPPORTED, fileNames(message, most)].filter(Boolean).join(" ");
}

/** @param {import("./model.js").Talk} talk that somebody new began @returns {string} who that is, and who admitted them */
export function whoBegan({ kind, name, begun }) {
  const by = begun?.admittedBy ? `, admitted by ${safeLine(begun.admittedBy)}` : "";
  return `New: ${kind === "group" ? `#${safeLine(name)} by ` : ""}${safeLine(begun?.label ?? "")}${by}`;
}

/** @param {Message} message @param {string} name */
function messageText(message, name) {
  if (message.deleted) return h("p", { class: "text gone" }, message.mine ? "You deleted this message" : "This message was deleted");
  if (message.unsupported) return h("p", { class: "text gone", dir: "auto" }, message.text, " ", UNSUPPORTED);
  const { parts, blocks } = markdown(message.text);
  const actor = message.action && [h("span", { "aria-hidden": "true" }, "∗ "), h("bdi", {}, name), " "];
  return h(blocks ? "div" : "p", { class: `text${blocks ? " blocks" : ""}${actor ? " action" : ""}`, dir: "auto" }, actor, parts);
}

/** @param {Message} message @param {import("./model.js").Talk} talk @param {import("./model.js").Model} model @param {Actions} actions */
function quote(message, talk, model, actions) {
  const answered = talk.byId.get(message.replyTo ?? "");
  if (answered && model.ignores(answered.senderId)) return h("p", { class: "quote hint" }, "Reply to a message that you do not see");
  const said = !answered ? "an earlier message" : answered.deleted ? "a deleted message" : gist(answered, 120);
  const who = answered ? (answered.mine ? "You" : safeLine(model.labelOf(answered.senderId, answered.sender))) : "";
  return h("button", { type: "button", class: "quote", tabindex: -1, onclick: () => actions.jump(message.replyTo ?? "") },
    h("span", { class: "unseen" }, "Reply to "), who && h("bdi", { class: "quote-who" }, who), h("span", { class: "quote-text", dir: "auto" }, said));
}

/** @param {Message} message @param {import("./model.js").Talk} talk @param {import("./model.js").Model} model @param {Actions} actions */
function choices(message, talk, model, actions) {
  if (!message.choices.length || message.deleted) return null;
  if (message.poll) return poll(message, talk, model, actions);
  const mine = message.reactions.find((one) => one.by_id === model.me.id && message.choices.includes(one.reaction))?.reaction;
  const off = message.mine || mine !== undefined || !talk.member;
  const taken = new Set(message.reactions.filter((one) => !model.ignores(one.by_id)).map(({ reaction }) => reaction));
  return h("div", { class: "choices", role: "group", "aria-label": "Choices" }, message.choices.map((choice) =>
    h("button", { type: "button", tabindex: -1, class: choice === mine ? "choice mine" : taken.has(choice) ? "choice taken" : "choice", "aria-pressed": String(taken.has(choice)), disabled: off, onclick: () => actions.press(message, choice) },
      h("bdi", {}, safeLine(choice)))));
}

/** A poll: a bar for each option, as long as its share of the votes. @param {Message} message @param {import("./model.js").Talk} talk @param {import("./model.js").Model} model @param {Actions} actions */
function poll(message, talk, model, actions) {
  const votes = message.votes.filter((one) => !model.ignores(one.by_id));
  const off = message.closedAt !== "" || !talk.member;
  return h("div", { class: "poll", role: "group", "aria-label": "Poll" }, message.choices.map((option, index) => {
    const voters = votes.filter((one) => one.option === index + 1);
    const mine = voters.some((one) => one.by_id === model.me.id);
    const names = voters.map((one) => (one.by_id === model.me.id ? "you" : safeLine(model.labelOf(one.by_id, one.by)))).join(", ");
    const bar = h("button", { type: "button", tabindex: -1, class: mine ? "option mine" : "option", "aria-pressed": String(mine), disabled: off, title: names, onclick: () => actions.vote(message, mine ? 0 : index + 1) },
      h("span", { class: "option-words" }, `${index + 1} `, h("bdi", {}, safeLine(option))), h("span", { class: "option-votes" }, String(voters.length), names && h("span", { class: "unseen" }, ` by ${names}`)));
    bar.style.setProperty("--share", String(votes.length ? voters.length / votes.length : 0));
    return bar;
  }), h("p", { class: "hint" }, message.closedAt ? "The poll is closed" : votes.length === 1 ? "1 vote" : `${votes.length} votes`),
  votes.length > 0 && h("button", { type: "button", tabindex: -1, class: "link", onclick: () => actions.sayers(message) }, "Who voted"),
  message.mine && !off && h("button", { type: "button", tabindex: -1, class: "link", onclick: () => actions.close(message) }, "Close the poll"));
}

/** @param {Message} message @param {import("./model.js").Talk} talk @param {import("./model.js").Model} model @param {Actions} actions */
function reactions(message, talk, model, actions) {
  if (message.deleted) return null;
  /** @type {Map<string, import("./model.js").Reaction[]>} */
  const by = new Map();
  for (const one of message.reactions) {
    if (model.ignores(one.by_id)) continue;
    const alike = by.get(one.reaction);
    if (alike) alike.push(one);
    else by.set(one.reaction, [one]);
  }
  if (!by.size) return null;
  const isMine = (/** @type {import("./model.js").Reaction} */ one) => one.by_id === model.me.id;
  const shown = [...by];
  if (shown.length > MAX_REACTIONS) shown.sort(([, one], [, other]) => Number(other.some(isMine)) - Number(one.some(isMine)) || other.length - one.length).splice(MAX_REACTIONS);
  return h("ul", { class: "reactions", "aria-label": "Reactions" }, shown.map(([reaction, all]) => {
    const mine = all.some(isMine);
    const named = all.slice(0, MAX_REACTING).map((one) => (isMine(one) ? "you" : safeLine(model.labelOf(one.by_id, one.by))));
    const names = all.length > named.length ? `${named.join(", ")} and ${all.length - named.length} more` : named.join(", ");
    return h("li", {}, h("button", { type: "button", tabindex: -1, class: mine ? "reaction mine" : "reaction", "aria-pressed": String(mine), title: names, disabled: !talk.member, onclick: () => actions.toggle(message, reaction) },
      h("bdi", {}, safeLine(reaction)), " ", String(all.length), h("span", { class: "unseen" }, ` by ${names}`)));
  }), by.size > shown.length && h("li", { class: "hint" }, `${by.size - shown.length} more`));
}

/** @param {Message} message @param {import("./model.js").Talk} talk @param {import("./model.js").Model} model @param {Actions} actions */
function foot(message, talk, model, actions) {
  if (message.ref) return waitingFoot(message, actions);
  const { sentAt, came, mendedAt } = message;
  const written = writtenAt(message);
  const late = Date.parse(sentAt) - Date.parse(written) > LATE;
  const shown = late && clock(written) !== clock(sentAt) ? `${when(written, new Date(sentAt))}, sent ${clock(sentAt)}` : clock(written);
  const { mark, said } = ticksOf(message, talk.kind);
  return h("p", { class: "foot" },
    h("time", { datetime: written, title: late ? `written ${whole(written)}, sent ${whole(sentAt)}` : whole(written) }, shown),
    came && h("span", { class: "came", title: `It came here ${whole(came)}. Somebody was away, or it was written later than it claims.` }, "came ", h("time", { datetime: came }, when(came, new Date(sentAt)))),
    Object.entries(SAID).map(([event, row]) => row.shared && sayers(message, row, model).map((by) => h("span", { title: `${event} by ${safeLine(by)}` }, event))),
    message.edited && !message.deleted && h("span", { class: "edited", title: mendedAt && `edited ${whole(mendedAt)}` }, "edited ", mendedAt && h("time", { datetime: mendedAt }, when(mendedAt))),
    message.mine && mark && h("button", { type: "button", class: "ticks", tabindex: -1, data: { level: message.ticks.read ? "read" : message.ticks.count ? "delivered" : "kept" }, title: `${said} (show who)`, "aria-label": `${said}: show who`, onclick: () => actions.info(message) }, mark),
  );
}

/** @param {any} message @param {import("./said.js").Row} row @param {import("./model.js").Model} model @returns {string[]} who says it: one, or nobody, of what is shared */
export function sayers(message, { list }, model) {
  if (message.deleted) return [];
  return message[list].filter((/** @type {any} */ one) => !model.ignores(one.by_id)).map((/** @type {any} */ one) => one.by);
}

/** @param {Message} message @param {Actions} actions */
function waitingFoot(message, actions) {
  if (!message.trouble) return h("p", { class: "foot" }, h("span", {}, "◷ waiting to be sent"));
  return h("p", { class: "foot trouble" },
    h("span", {}, `Not sent: ${safeText(message.trouble)}`),
    h("button", { type: "button", class: "link", onclick: () => actions.again(message) }, "Try again"),
    h("button", { type: "button", class: "link", onclick: () => actions.discard(message) }, "Discard"),
  );
}

/** @param {any} message @param {Actions} actions */
function actionButtons(message, actions) {
  const off = { tabindex: -1 };
  return h("div", { class: "actions", role: "group", "aria-label": "Message actions" },
    iconButton("smile", "React", () => actions.react(message), off),
    iconButton("reply", "Reply", () => actions.reply(message), off),
    message.reactions.length > 0 && iconButton("people", "Who reacted", () => actions.sayers(message), off),
    Object.values(SAID).map((row) => row.toggle && iconButton(row.icon ?? "info", onButton(row.toggle[message[row.list].length]), () => actions.say(message, row), off)),
    message.mine && !message.choices.length && iconButton("edit", "Edit", () => actions.edit(message), off),
    message.mine && iconButton("bin", "Delete", () => actions.remove(message), off),
  );
}

/** @param {Message} message */
function gapText({ missing, lastSeenWith }) {
  const what = missing.length === 1 ? "1 earlier message is missing" : `${missing.length} earlier messages are missing`;
  return lastSeenWith.length ? `${what}; last seen with ${lastSeenWith.map(safeLine).join(", ")}` : what;
}

/** @param {Message} message @param {string} kind of the conversation @returns {{mark: string, said: string}} the words of the terminal, and longer ones */
export function ticksOf(message, kind) {
  const { mark, said } = messageTicks(message, kind);
  const { files, of } = message.ticks;
  if (!mark || !message.files.length || message.deleted) return { mark, said };
  const [what, have] = message.files.length > 1 ? ["files", "have all files"] : ["file", "have the file"];
  if (!files) return { mark, said: `${said}; nobody else is known to ${have}` };
  if (kind === "dm") return { mark: `${mark}, has the ${what}`, said: `${said}; the other one has the ${what} too` };
  return { mark: `${mark}, ${what} ${files}/${Math.max(of, files)}`, said: `${said}; ${files} of ${Math.max(of, files)} ${have}` };
}

/**
 * Return what its ticks say of the message itself. In the room those are counted who were here; others get it when they come.
 * @param {Message} message @param {string} kind of the conversation @returns {{mark: string, said: string}}
 */
function messageTicks(message, kind) {
  const { known, count, atGateway, read, of } = message.ticks;
  const [here, were] = kind === "room" ? [" here", " who were here"] : ["", ""];
  if (!read && !count) return known ? { mark: "· saved", said: "saved here, not delivered yet" } : { mark: "", said: "delivery status not known yet" };
  /** @type {[string, string, number][]} */
  const steps = read ? [["✓✓ read", "read by", read]] : [["✓ delivered", "delivered to", count - atGateway], ["✓ at a gateway", "at another gateway, seen or not, for", atGateway]];
  const found = steps.filter(([, , number]) => number);
  if (kind === "dm") return { mark: found[0][0], said: found[0][1].replace(/,? (by|to|for)$/u, "") };
  return { mark: found.map(([mark, , number]) => `${mark} ${number}/${of}`).join(", ") + here, said: found.map(([, words, number]) => `${words} ${number} of ${of}`).join(", ") + were };
}

/**
 * Show who has received a message and who has read it.
 * @param {import("./chat.js").Chat} chat @param {Message} message
 */
export async function showReceipts(chat, message) {
  const [row] = await chat.ask({ do: "receipts", id: message.id });
  const why = Object.fromEntries(row.causes.map((/** @type {any} */ { user_id: id, text, since }) => [id, since ? `${text} since ${when(since)}` : text]));
  const people = (/** @type {string} */ title, /** @type {string[]} */ names, /** @type {string[]} */ ids) => {
    const sorted = names.map((name, index) => ({ name, id: ids[index] })).sort((one, other) => one.name.localeCompare(other.name));
    return names.length > 0 && h("section", {}, h("h3", {}, title), h("ul", { class: "plain" },
      sorted.map(({ name, id }) => h("li", { class: "person-row" }, disc(id, name), h("bdi", {}, safeLine(name)), why[id] && h("span", { class: "hint" }, safeLine(why[id]))))));
  };
  const [has, hasIds] = namesExcept(row.delivered_to, row.delivered_to_ids, [...row.read_by_ids, ...row.at_gateway_ids]);
  const [stored, storedIds] = namesExcept(row.at_gateway, row.at_gateway_ids, row.read_by_ids);
  dialog("Delivery status", [
    people("✓✓ Read by", row.read_by, row.read_by_ids),
    people("✓ Delivered to", has, hasIds),
    people("✓ On another gateway, seen or not", stored, storedIds),
    people("Not delivered yet", row.missing, row.missing_ids),
    row.files > 0 && people(row.files > 1 ? "Have all files" : "Have the file", row.files_delivered_to, row.files_delivered_to_ids),
    row.files > 0 && !row.files_delivered_to.length && h("p", {}, row.files > 1 ? "Nobody else is known to have all files." : "Nobody else is known to have the file."),
    !row.read_by.length && !has.length && !stored.length && !row.missing.length && h("p", {}, "Saved here. It is delivered when someone connects."),
  ]);
}

/** Show one message by itself. @param {import("./model.js").Model} model @param {Message} message */
export function showMessage(model, message) {
  const name = message.mine ? "You" : safeLine(model.labelOf(message.senderId, message.sender));
  dialog(`${name}, ${whole(message.sentAt)}`, h("div", { class: "paragraphs" }, messageText(message, name), message.files.length > 0 && h("p", { class: "hint" }, fileNames(message))));
}

/** Show who voted for what, or reacted how. @param {import("./model.js").Model} model @param {Message} message */
export function showSayers(model, message) {
  const all = message.poll ? message.votes.map((one) => ({ ...one, what: message.choices[one.option - 1] })) : message.reactions.map((one) => ({ ...one, what: one.reaction }));
  const seen = all.filter((one) => !model.ignores(one.by_id));
  const whats = message.poll ? message.choices : [...new Set(seen.map(({ what }) => what))];
  dialog(message.poll ? "Who voted" : "Who reacted", whats.map((what) => {
    const of = seen.filter((one) => one.what === what);
    return h("section", {}, h("h3", {}, h("bdi", {}, safeLine(what)), ` ${of.length}`), h("ul", { class: "plain" },
      of.slice(0, MAX_LISTED).map(({ by, by_id: id }) => h("li", { class: "person-row" }, disc(id, by), h("bdi", {}, safeLine(model.labelOf(id, by))))), of.length > MAX_LISTED && h("li", { class: "hint" }, `and ${of.length - MAX_LISTED} more`)));
  }));
}

/** @param {string[]} names @param {string[]} ids @param {string[]} others */
function namesExcept(names, ids, others) {
  const left = ids.map((id, index) => [names[index], id]).filter(([, id]) => !others.includes(id));
  return [left.map(([name]) => name), left.map(([, id]) => id)];
}

/** @param {(reaction: string) => void} picked */
export function pickReaction(picked) {
  pickEmoji("React", picked, { first: COMMON_REACTIONS, ownCharacters: MAX_REACTION_CHARACTERS });
}
