/** Where one writes: Enter sends, Shift+Enter begins another line; what is answered or edited stands above. */

import { fill, h, icon, iconButton } from "./dom.js";
import { beginning, safeLine } from "./safe.js";

const MOST_BYTES = 32 * 1024; // of one text
const ENCODER = new TextEncoder();

/** @typedef {import("./model.js").Message} Message */

export class Compose {
  /** @param {import("./chat.js").Chat} chat @param {import("./shell.js").Shell} shell */
  constructor(chat, shell) {
    this._chat = chat;
    this._shell = shell;
    /** @type {{message: Message, edits: boolean}|null} */
    this._about = null;
    this._note = h("div", { class: "about" });
    this._trouble = h("p", { class: "trouble", id: "compose-trouble", role: "alert" });
    this.input = h("textarea", {
      id: "compose", rows: 1, "aria-label": "Write a message", "aria-describedby": "compose-trouble", placeholder: "Write a message", enterkeyhint: "send", dir: "auto",
      oninput: () => this._typed(), onkeydown: (/** @type {KeyboardEvent} */ event) => this._key(event),
    });
    this.element = h("form", { class: "compose", "aria-label": "Write", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), this._send()) },
      this._note, this._trouble,
      h("div", { class: "compose-row" }, this.input, h("button", { class: "primary send", "aria-label": "Send", title: "Send (Enter)" }, icon("send"))),
    );
    chat.model.bus.on("talks", () => this._drawPlace());
  }

  focus() {
    this.input.focus();
  }

  /** Another conversation is in front: its draft, and nothing to answer. */
  front() {
    if (this._talk && !this._about?.edits) this._talk.draft = this.input.value;
    this._talk = this._chat.model.front;
    this._about = null;
    this._put(this._talk?.draft ?? "");
    this._drawAbout();
    this._drawPlace();
  }

  /** @param {Message} message */
  reply(message) {
    if (this._about?.edits) this._put("");
    this._about = { message, edits: false };
    this._drawAbout();
    this.focus();
  }

  /** @param {Message} message */
  edit(message) {
    this._about = { message, edits: true };
    this._put(message.text);
    this._drawAbout();
    this.focus();
  }

  /** @returns {boolean} whether there was something to cancel */
  cancel() {
    if (!this._about) return false;
    if (this._about.edits) this._put("");
    this._about = null;
    this._drawAbout();
    return true;
  }

  // ---- inside

  /** @param {string} text */
  _put(text) {
    this.input.value = text;
    this._trouble.textContent = "";
    this._grow();
  }

  _grow() {
    this.input.rows = Math.min(8, Math.max(1, this.input.value.split("\n").length));
  }

  _typed() {
    this._grow();
    this._trouble.textContent = "";
    this._chat.typing(this.input.value !== "" && !this.input.value.startsWith("/"));
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      this._send();
    } else if (event.key === "Escape") {
      if (this.cancel()) event.stopPropagation();
    } else if (event.key === "ArrowUp" && !this.input.value && !this._about) {
      const own = this._chat.model.front?.messages.findLast((message) => message.mine && !message.deleted);
      if (own) {
        event.preventDefault();
        this.edit(own);
      }
    }
  }

  async _send() {
    const text = this.input.value;
    const said = meaning(text);
    this._trouble.textContent = said.trouble;
    if (said.trouble || !said.text.trim()) return;
    const about = this._about;
    if (about?.edits) {
      if (text !== about.message.text && !(await this._edited(about.message, said.text))) return;
    } else {
      this._chat.write(said.text, { action: said.action, replyTo: about?.message.id ?? null });
      this._shell.timeline.toEnd();
    }
    this._about = null;
    if (this._talk) this._talk.draft = "";
    this._put("");
    this._drawAbout();
  }

  /** @param {Message} message @param {string} text */
  async _edited(message, text) {
    try {
      await this._chat.edit(message.id, text);
      return true;
    } catch (error) {
      this._trouble.textContent = `Not changed: ${/** @type {Error} */ (error).message}`;
      return false;
    }
  }

  _drawAbout() {
    const about = this._about;
    if (!about) {
      fill(this._note);
      return;
    }
    const { message, edits } = about;
    const who = message.mine ? "your message" : safeLine(this._chat.model.labelOf(message.senderId, message.sender));
    fill(this._note, h("div", { class: "about-line" },
      h("span", { class: "about-words" }, h("b", {}, edits ? "Editing" : "Answering ", !edits && h("bdi", {}, who)), " ", h("span", { dir: "auto" }, beginning(message.text, 100))),
      iconButton("close", edits ? "Stop editing" : "Do not answer", () => (this.cancel(), this.focus()))));
  }

  _drawPlace() {
    const talk = this._chat.model.front;
    const name = !talk ? "" : talk.kind === "room" ? "everybody" : talk.kind === "group" ? `#${safeLine(talk.name)}` : safeLine(talk.name);
    const words = name ? `Write to ${name}` : "Write a message";
    this.input.placeholder = words;
    this.input.setAttribute("aria-label", words);
    this.input.disabled = !talk || (talk.kind === "group" && !talk.member);
  }
}

/**
 * What a text means: `/me waves` says what one does, `//` begins a line that starts with a slash, and no other word with
 * a slash is ever sent by accident.
 * @param {string} text
 * @returns {{text: string, action: boolean, trouble: string}}
 */
export function meaning(text) {
  const of = (/** @type {string} */ said, action = false, trouble = "") => ({ text: said, action, trouble });
  const size = ENCODER.encode(text).length;
  if (size > MOST_BYTES) return of(text, false, `This is too long: it has ${Math.ceil(size / 1024)} KiB, and 32 KiB fit into one message.`);
  if (text.startsWith("//")) return of(text.slice(1));
  const command = /^\/([a-z]+)(?:\s+|$)/iu.exec(text);
  if (!command) return of(text);
  if (command[1].toLowerCase() === "me") return of(text.slice(command[0].length), true);
  return of(text, false, `This page has no /${command[1]}: choose people and groups in the list. To send this line as it is, begin it with //`);
}
