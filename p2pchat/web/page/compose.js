/** The message editor. Enter sends, Shift+Enter starts a new line, as Enter does on a touch screen. The message being answered or edited is shown above. */

import { fileNames } from "./attachments.js";
import { confirm } from "./dialog.js";
import { fill, h, icon, iconButton, typeInto } from "./dom.js";
import { emojiAtEnd, pickEmoji } from "./emoji.js";
import { excerpt } from "./markdown.js";
import { NameCompletion } from "./mention.js";
import { statusText } from "./people.js";
import { safeLine } from "./safe_text.js";
import { loadDrafts, saveDrafts } from "./storage.js";
import { Tray } from "./tray.js";

const MAX_BYTES = 32 * 1024; // of one message
const ENCODER = new TextEncoder();

/** @typedef {import("./model.js").Message} Message @typedef {import("./storage.js").Draft} Draft @typedef {import("./storage.js").Target} Target */

/** @type {Draft} */
const EMPTY = { text: "", reply: null, edit: null, edited: "" };

export class Compose {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    this._talkId = "";
    this._standing = h("p", { class: "standing hint" });
    this._note = h("div", { class: "about" });
    this._later = h("p", { class: "hint later", hidden: true, role: "status" }, "It is sent once the files are uploaded.");
    this._trouble = h("p", { class: "trouble", id: "compose-trouble", role: "alert" });
    this.input = h("textarea", {
      id: "compose", rows: 1, "aria-label": "Write a message", "aria-describedby": "compose-trouble", placeholder: "Write a message", enterkeyhint: isTouched() ? "enter" : "send", dir: "auto",
      oninput: (/** @type {InputEvent} */ event) => this._onInput(event), onkeydown: (/** @type {KeyboardEvent} */ event) => this._key(event),
    });
    this._names = new NameCompletion(chat, this.input, () => this._changed());
    this._tray = new Tray(chat, () => this._filesChanged());
    this._picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => (this.attach([...this._picker.files]), (this._picker.value = "")) });
    this._clip = iconButton("clip", "Attach files", () => this._picker.click());
    this._emoji = iconButton("smile", "Emoji", () => this._pickEmoji());
    this._row = h("div", { class: "compose-row" }, this._names.element, this._picker, this._clip, this.input, this._emoji, h("button", { class: "primary send", "aria-label": "Send", title: "Send (Enter)" }, icon("send")));
    this.element = h("form", { class: "compose", "aria-label": "Write", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), this._send()) },
      this._standing, this._note, this._tray.element, this._later, this._trouble, this._row,
    );
    this._sendsLater = false; // once the files are uploaded
    this._asked = { text: "", talkId: "", key: "" }; // a poll that is perhaps saved, though no answer came
    this.input.addEventListener("paste", (/** @type {ClipboardEvent} */ event) => this.paste(event));
    for (const topic of ["talks", "talk", "people"]) chat.model.bus.on(topic, () => this._drawTalk());
    for (const topic of ["talk", "people"]) chat.model.bus.on(topic, () => this._followTarget());
    new ResizeObserver(() => this._grow()).observe(this.element); // also when it comes back on a small screen
  }

  focus() {
    this.input.focus();
  }

  /** Switch to the open conversation: restore its draft. */
  front() {
    this._drafts ??= loadDrafts();
    this._talkId = this._chat.model.front?.id ?? "";
    this._sendsLater = false;
    this._tray.show(this._talkId);
    this._draw();
    this._drawTalk();
  }

  /** Add files to the message that is written. @param {File[]} files */
  attach(files) {
    if (!files.length || this.input.disabled) return;
    this._trouble.textContent = this._draft.edit ? "An edit changes the text alone. Cancel it to attach files." : this._tray.add(files);
    this.focus();
  }

  /** Attach what is pasted, unless it is a text. @param {ClipboardEvent} event */
  paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || event.clipboardData?.types.includes("text/plain")) return;
    event.preventDefault();
    this.attach(files);
  }

  /** @param {Message} message */
  async reply(message) {
    if (await this._mayEndEdit()) this._change({ reply: targetOf(message), edit: null });
    this.focus();
  }

  /** @param {Message} message */
  async edit(message) {
    const isOther = message.id !== this._draft.edit?.id;
    if (isOther && (await this._mayEndEdit())) this._change({ edit: targetOf(message), edited: message.text });
    this.focus();
  }

  /** @returns {boolean} whether there was something to cancel: an edit, else a reply */
  cancel() {
    const { edit, reply } = this._draft;
    if (edit) this._change({ edit: null });
    else if (reply) this._change({ reply: null });
    return Boolean(edit ?? reply);
  }

  // ---- inside

  /** Ask before an edit is dropped for another message. @returns {Promise<boolean>} */
  async _mayEndEdit() {
    const { edit, edited } = this._draft;
    if (!edit || edited === edit.text) return true;
    return confirm("Discard your edit?", [h("blockquote", { dir: "auto" }, excerpt(edited, 200)), h("p", {}, "It was not saved.")], "Discard");
  }

  /** Take over what became of the messages that are answered and edited. */
  _followTarget() {
    const { reply, edit, edited } = this._draft;
    const known = this._chat.model.front?.byId;
    const [answered, changed] = [reply, edit].map((target) => known?.get(target?.id ?? ""));
    if (reply && answered && isOutdated(reply, answered)) this._save({ reply: targetOf(answered) });
    if (edit && changed && isOutdated(edit, changed)) {
      const untouched = edited === edit.text && !changed.deleted;
      this._save({ edit: targetOf(changed), ...(untouched && { edited: changed.text }) });
      if (untouched) this._draw();
    }
    this._drawTarget();
  }

  /** @returns {Draft} what was written in this conversation and not sent */
  get _draft() {
    return { ...EMPTY, ...this._drafts?.[this._talkId] };
  }

  /** @param {Partial<Draft>} changes @param {string} [talkId] of the conversation */
  _save(changes, talkId = this._talkId) {
    if (!talkId || !this._drafts) return;
    const draft = { ...EMPTY, ...this._drafts[talkId], ...changes };
    if (draft.text || draft.reply || draft.edit) this._drafts[talkId] = draft;
    else delete this._drafts[talkId];
    saveDrafts(this._drafts);
  }

  /** Change the draft and show it. @param {Partial<Draft>} changes @param {string} [talkId] of the conversation */
  _change(changes, talkId = this._talkId) {
    this._save(changes, talkId);
    if (talkId === this._talkId) this._draw();
  }

  /** Take over a change of the field. */
  _changed() {
    this._grow();
    this._save(this._draft.edit ? { edited: this.input.value } : { text: this.input.value });
  }

  /** Show the draft of this conversation. */
  _draw() {
    const { text, edit, edited } = this._draft;
    this.input.value = edit ? edited : text;
    this._trouble.textContent = "";
    this._names.close();
    this._grow();
    this._drawTarget();
  }

  _grow() {
    const { input } = this;
    input.style.height = "auto";
    if (input.scrollHeight) input.style.height = `${input.scrollHeight + input.offsetHeight - input.clientHeight}px`; // 0 while it is not shown
  }

  /** @param {InputEvent} event */
  _onInput(event) {
    if (event.data?.endsWith(":") && !event.isComposing) this._replaceShortcode();
    this._changed();
    this._names.update();
    this._trouble.textContent = "";
    this._chat.typing(this.input.value !== "" && !this.input.value.startsWith("/"));
  }

  /** Replace the shortcode that was just completed, as :tada:, by its emoji. */
  _replaceShortcode() {
    const at = this.input.selectionStart;
    const found = emojiAtEnd(this.input.value.slice(0, at));
    if (found) typeInto(this.input, found.emoji, at - found.length, at);
  }

  _pickEmoji() {
    const { selectionStart, selectionEnd } = this.input; // lost while a dialog is open
    this.focus(); // the dialog returns the focus to where it was
    pickEmoji("Emoji", (emoji) => {
      typeInto(this.input, emoji, selectionStart, selectionEnd);
      this._changed();
    });
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (this._names.key(event)) return;
    if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey && !isTouched()) {
      event.preventDefault();
      this._send();
    } else if (event.key === "Escape") {
      if (this.cancel()) event.stopPropagation();
    } else if (event.key === "ArrowUp" && !this.input.value && !this._draft.reply && !this._draft.edit) {
      const own = this._chat.model.front?.messages.findLast((message) => message.mine && !message.deleted && !message.choices.length);
      if (own) {
        event.preventDefault();
        this.edit(own);
      }
    }
  }

  async _send() {
    const text = this.input.value;
    const said = parseText(text, Boolean(this._draft.edit));
    this._trouble.textContent = said.trouble;
    if (said.trouble || (!said.text.trim() && (this._draft.edit || !this._tray.items.length))) return;
    if (!this._draft.edit && !this._tray.isReady) {
      this._sendsLater = !this._tray.hasTrouble;
      this._trouble.textContent = this._sendsLater ? "" : "Remove the file that was not uploaded, then send.";
      this._drawLater();
      return;
    }
    const { edit, reply } = this._draft;
    const talkId = this._talkId;
    if (edit) {
      if (text === edit.text || (await this._saved(this._chat.edit(edit.id, said.text)))) this._change({ edit: null }, talkId);
    } else if (said.options.length) {
      if (this._asked.text !== text || this._asked.talkId !== talkId) this._asked = { text, talkId, key: String(Date.now()) };
      this._change({ text: "" });
      if (await this._saved(this._chat.poll(said.text, said.options, this._asked.key))) {
        this._asked.text = "";
      } else if (!this._drafts?.[talkId]?.text) {
        this._save({ text }, talkId);
        if (talkId === this._talkId) this.input.value = text;
      }
    } else {
      this._chat.write(said.text, { action: said.action, replyTo: reply?.id ?? null, files: this._tray.take() });
      this._layout.timeline.toEnd();
      this._change({ text: "", reply: null });
    }
  }

  /** Send what waited for the files, once all are uploaded. */
  _filesChanged() {
    if (this._sendsLater && (this._tray.hasTrouble || !this._tray.items.length)) this._sendsLater = false;
    this._drawLater();
    if (!this._sendsLater || !this._tray.isReady) return;
    this._sendsLater = false;
    this._drawLater();
    this._send();
  }

  _drawLater() {
    this._later.hidden = !this._sendsLater;
  }

  /** Return whether a request was accepted, and show why not. @param {Promise<any>} request */
  async _saved(request) {
    try {
      await request;
      return true;
    } catch (error) {
      this._trouble.textContent = `Not saved: ${/** @type {Error} */ (error).message}`;
      return false;
    }
  }

  _drawTarget() {
    const { edit, reply } = this._draft;
    const target = edit ?? reply;
    const who = target?.mine ? "your message" : safeLine(this._chat.model.labelOf(target?.senderId ?? "", target?.sender));
    const said = target?.deleted ? (edit ? "A deleted message: saving shows it again" : "This message was deleted") : excerpt(target?.text ?? "", 100) || (target?.names ?? "");
    const drawn = JSON.stringify(target && [target.id, Boolean(edit), who, said]);
    if (drawn === this._targetDrawn) return;
    this._targetDrawn = drawn;
    fill(this._note, target && h("div", { class: "about-line" },
      h("span", { class: "about-words" }, h("b", {}, edit ? "Editing" : "Replying to ", !edit && h("bdi", {}, who)), " ", h("span", { class: target.deleted ? "gone" : "", dir: "auto" }, said)),
      iconButton("close", edit ? "Cancel edit" : "Cancel reply", () => (this.cancel(), this.focus()))));
  }

  _drawTalk() {
    const talk = this._chat.model.front;
    const name = !talk ? "" : talk.kind === "room" ? "everyone" : talk.kind === "group" ? `#${safeLine(talk.name)}` : safeLine(talk.name);
    const words = name ? `Write to ${name}` : "Write a message";
    this.input.placeholder = words;
    this.input.setAttribute("aria-label", words);
    this._clip.disabled = this._emoji.disabled = this.input.disabled = !talk?.member;
    this._row.hidden = talk?.member === false;
    this._drawStanding(talk);
  }

  /** Say what stands in the way of the messages to the open conversation. @param {import("./model.js").Talk|undefined} talk */
  _drawStanding(talk) {
    const { model } = this._chat;
    const last = talk?.kind === "dm" && talk.messages.findLast((message) => message.mine)?.ticks;
    const person = model.people.get(talk?.userId ?? "");
    const why = person?.status === "offline" || person?.status === "unreachable" ? statusText(person) : "";
    const waits = last && last.known && !last.count && !last.read && why;
    const drawn = JSON.stringify([talk?.id, talk?.member, talk?.name, waits]);
    if (drawn === this._standingDrawn) return;
    this._standingDrawn = drawn;
    if (talk?.member === false) fill(this._standing, "You are no longer a member of ", h("bdi", {}, `#${safeLine(talk.name)}`), ". What was written before stays here; the owner can add you again.");
    else if (talk && waits) fill(this._standing, h("bdi", {}, safeLine(talk.name)), person?.status === "offline" ? " is offline: what you wrote is saved, and delivered when they are back." : ` ${why}: what you wrote is saved.`);
    else fill(this._standing);
  }
}

/** @returns {boolean} whether fingers are used: a keyboard on the screen has no Shift+Enter, and the button sends */
function isTouched() {
  return matchMedia("(pointer: coarse)").matches;
}

/** Return what a draft keeps of the message it answers or edits. @param {Message} message @returns {Target} */
function targetOf({ id, mine, sender, senderId, text, deleted, files }) {
  return { id, mine, sender, senderId, text, deleted, names: fileNames({ files }) };
}

/** @param {Target} target @param {Message} message the same one, as it is now */
function isOutdated(target, { text, deleted }) {
  return target.text !== text || Boolean(target.deleted) !== deleted;
}

/**
 * Parse a typed text. `/me waves` is an action, `/poll "Lunch?" pizza soup` a poll with these `options`, and `//` starts a
 * text with a slash. Any other command is refused, so that none is sent by accident. An edit is a text as it stands.
 * @param {string} text
 * @param {boolean} isEdit
 * @returns {{text: string, action: boolean, trouble: string, options: string[]}}
 */
export function parseText(text, isEdit = false) {
  const of = (/** @type {string} */ said, action = false, trouble = "", options = /** @type {string[]} */ ([])) => ({ text: said, action, trouble, options });
  const size = ENCODER.encode(text).length;
  if (size > MAX_BYTES) return of(text, false, `Too long: ${Math.ceil(size / 1024)} KiB, at most 32 KiB. Split it into several messages.`);
  if (isEdit) return of(text);
  if (text.startsWith("//")) return of(text.slice(1));
  const command = /^\/([a-z]+)(?:\s+|$)/iu.exec(text);
  if (!command) return of(text);
  const name = command[1].toLowerCase();
  const said = text.slice(command[0].length);
  if (name === "me") return of(said, true);
  if (name === "poll") {
    const { words, open } = splitWords(said);
    if (open) return of(text, false, `The quote at ${open} does not end: put a ${CLOSING_QUOTES[open[0]][0]} behind it`);
    const [question, ...options] = words;
    return options.length > 1 ? of(question, false, "", options) : of(text, false, 'Give a question and its options: /poll "Lunch?" pizza soup');
  }
  if (name === "invite") return of(text, false, "“Invite people” below the list shows the invite. Without that button, whoever runs this gateway gives invites.");
  return of(text, false, `Unknown command /${command[1]}. Choose people and groups in the list, or start the line with // to send it as text.`);
}

/** @type {Record<string, string>} what ends a quote, by what begins it, as in commands/typed_commands.py */
const CLOSING_QUOTES = { '"': '"', "'": "'’", "“": '”“"', "”": '”"', "„": '“”"', "«": "»", "»": "«", "‘": "’'", "’": "’'", "‚": "‘’'", "‹": "›", "›": "‹", "「": "」", "『": "』" };

/**
 * Split a text into words, those in quotes without them. What would close a quote does not within a word, as in 'don't'.
 * @param {string} text @returns {{words: string[], open: string}} `open`: the beginning of a quote that does not end, "" for none
 */
export function splitWords(text) {
  const words = [];
  for (let rest = text.trimStart(); rest; ) {
    const opening = rest[0];
    const closing = CLOSING_QUOTES[opening];
    const inside = opening === '"' ? '(?:[^"]|"")*' : `(?:[^${closing}]|[${closing}](?![\\s#]|$))*`;
    const found = (closing ? new RegExp(`^${opening}(${inside})[${closing}](#\\S*)?(?:\\s+|$)`, "u") : /^(\S+)()\s*/u).exec(rest);
    if (!found) return { words, open: [...rest.split(/\s/u)[0]].slice(0, 20).join("") };
    words.push((opening === '"' ? found[1].replaceAll('""', '"') : closing ? found[1].trim() : found[1]) + (found[2] ?? ""));
    rest = rest.slice(found[0].length);
  }
  return { words, open: "" };
}
