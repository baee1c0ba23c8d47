/**
 * Files that go with the next message: chosen, pasted or dropped. Each is uploaded at once, with its progress and a button
 * to take it away again. A conversation keeps its own until they are sent or the page is loaded again.
 */

import { fill, h, icon, iconButton } from "./dom.js";
import { upload } from "./http.js";
import { unpressed } from "./rows.js";
import { safeLine } from "./safe_text.js";
import { sizeText } from "./attachments.js";

const MAX_FILES = 10; // of one message
const AT_ONCE = 3; // uploads; browsers open six connections to a gateway

/** @typedef {{file: File, stored: number, kept: any, trouble: string, ended: AbortController, row: HTMLElement}} Item `kept`: the answer of the gateway, null until then */

export class Tray {
  /**
   * @param {import("./chat.js").Chat} chat
   * @param {() => void} changed called when something was added, removed, uploaded or has failed
   */
  constructor(chat, changed) {
    this._chat = chat;
    this._changed = changed;
    /** @type {Map<string, Item[]>} by conversation id */
    this._byTalk = new Map();
    this._talkId = "";
    this._running = 0;
    /** @type {(() => void)[]} uploads that wait for their turn */
    this._queued = [];
    this.element = h("ul", { class: "tray", "aria-label": "Files to send" });
  }

  /** Show those of a conversation. @param {string} talkId */
  show(talkId) {
    this._talkId = talkId;
    this._draw();
  }

  /** @returns {Item[]} */
  get items() {
    return this._byTalk.get(this._talkId) ?? [];
  }

  /** Whether all are uploaded. */
  get isReady() {
    return this.items.every(({ kept }) => kept);
  }

  /** Whether one could not be uploaded. */
  get hasTrouble() {
    return this.items.some(({ trouble }) => trouble);
  }

  /** @param {File[]} files @returns {string} what is wrong; "" for nothing */
  add(files) {
    const left = MAX_FILES - this.items.length;
    const taken = files.slice(0, left);
    for (const file of taken) this._upload(file);
    return files.length > left ? `A message has at most ${MAX_FILES} files.` : "";
  }

  /** Return what is uploaded, and begin anew. @returns {any[]} */
  take() {
    const taken = this.items.map(({ kept }) => kept);
    this._byTalk.delete(this._talkId);
    this._draw();
    return taken;
  }

  /** @param {File} file */
  async _upload(file) {
    const talkId = this._talkId;
    /** @type {Item} */
    const item = { file, stored: 0, kept: null, trouble: "", ended: new AbortController(), row: h("li", { class: "tray-row" }) };
    this._byTalk.set(talkId, [...this.items, item]);
    drawRow(item, () => this._remove(talkId, item));
    this._draw();
    const most = this._chat.model.maxFileBytes;
    try {
      if (this._running >= AT_ONCE) await new Promise((/** @type {(value?: any) => void} */ go) => this._queued.push(go));
      this._running += 1;
      if (item.ended.signal.aborted) return;
      if (!(await isReadable(file))) throw new Error("It cannot be read: a folder, or a file that was moved or is not yours. Pack a folder first, for example as a .zip.");
      if (most && file.size > most) throw new Error(`Too large: a file has at most ${sizeText(most)} here.`);
      item.kept = await upload(this._chat.token, file, item.ended.signal, (stored) => {
        item.stored = stored;
        progressOf(item);
      });
    } catch (error) {
      item.trouble = /** @type {Error} */ (error).message;
    } finally {
      this._running -= 1;
      this._queued.shift()?.();
    }
    if (item.ended.signal.aborted) return;
    unpressed(() => drawRow(item, () => this._remove(talkId, item)));
    this._changed();
  }

  /** @param {string} talkId @param {Item} item */
  _remove(talkId, item) {
    item.ended.abort();
    this._byTalk.set(talkId, (this._byTalk.get(talkId) ?? []).filter((one) => one !== item));
    this._draw();
  }

  _draw() {
    fill(this.element, this.items.map(({ row }) => row));
    this.element.hidden = !this.items.length;
    this._changed();
  }
}

/** @param {File} file */
async function isReadable(file) {
  return file.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

/** @param {Item} item @param {() => void} remove */
function drawRow(item, remove) {
  const name = safeLine(item.file.name);
  fill(item.row,
    icon("file"),
    h("span", { class: "file-words" }, h("bdi", { class: "file-name" }, name),
      h("span", { class: item.trouble ? "trouble" : "hint", role: item.trouble ? "alert" : null }, item.trouble || sizeText(item.file.size)),
      !item.kept && !item.trouble && h("progress", { max: item.file.size || 1, "aria-label": `Upload of ${name}` })),
    iconButton("close", `Remove ${name}`, remove));
  progressOf(item);
}

/** @param {Item} item */
function progressOf({ row, stored }) {
  const bar = row.querySelector("progress");
  if (bar && stored) bar.value = stored;
}
