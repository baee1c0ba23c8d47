/**
 * The files of messages: pictures, sound and films are shown inside the conversation, everything else as a name with a
 * size. What is not at the gateway yet has a button to get it.
 *
 * An element that shows a file outlives the row it is in, so that a film plays on when its message is drawn again. Its
 * address, a link that the gateway makes for an hour, is asked for once it comes near the screen.
 */

import { dialog } from "./dialog.js";
import { fill, h, icon } from "./dom.js";
import { getLink, stopFile, urlOf, wantFile } from "./http.js";
import { unpressed } from "./rows.js";
import { beginning, safeLine } from "./safe_text.js";

const NEAR = "600px"; // of the screen; a guess
const LINK_FOR = 50 * 60 * 1000; // milliseconds; the gateway's links last an hour
const LOAD_AGAIN = 5000; // milliseconds until what could not be loaded is tried again; a guess
const ASK_AGAIN = 60 * 1000; // milliseconds: the gateway stops to fetch what nobody has asked for in ten minutes
const NAME_CHARACTERS = 64; // of the name of a file, as in terminals
const PICTURES = /^image\/(?:apng|avif|bmp|gif|jpeg|png|webp)$/;
const SOUNDS = /^audio\/(?:aac|flac|mp4|mpeg|ogg|wav|webm|x-wav|x-m4a)$/;
const FILMS = /^video\/(?:mp4|ogg|quicktime|webm)$/;

/** @typedef {import("./model.js").Message} Message @typedef {import("./model.js").FileInfo} FileInfo */

/** @param {number} bytes @returns {string} as terminals show it: 512 bytes, 2.1 MB */
export function sizeText(bytes) {
  if (bytes < 1000) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let size = bytes;
  let unit = 0;
  for (; size >= 999.5 && unit < 4; unit += 1) size /= 1000;
  return `${size < 9.95 ? size.toFixed(1) : Math.round(size)} ${["", "kB", "MB", "GB", "TB"][unit]}`;
}

/** @param {{files: FileInfo[]}} message @param {number} [most] @returns {string} the names of its files in brackets, "" for none */
export function fileNames({ files }, most = 80) {
  return files.length ? `[${beginning(files.map(({ name }) => name).join(", "), most)}]` : "";
}

/** @param {string} name @returns {string} it on one line, without its middle if it is long: its ending says what it is */
function shortName(name) {
  const characters = Array.from(name);
  const short = characters.length <= NAME_CHARACTERS ? name : `${characters.slice(0, 40).join("").trimEnd()}…${characters.slice(-20).join("").trimStart()}`;
  return safeLine(short);
}

/** The elements that show files, of one conversation. */
export class FileViews {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this.chat = chat;
    this.layout = layout;
    /** @type {Map<string, FileView>} by message id and place */
    this._views = new Map();
    /** @type {Map<Element, FileView>} */
    this._far = new Map();
    this._near = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => isIntersecting && this._isNear(target)), { rootMargin: NEAR });
    chat.model.bus.on("file", (told) => this._onFile(told));
  }

  /** Forget those of the conversation that was open. */
  clear() {
    for (const view of this._views.values()) view.end();
    this._views.clear();
    this._far.clear();
    this._near.disconnect();
  }

  /** @param {Message} message @returns {HTMLElement|null} the list of its files; null for none */
  draw(message) {
    if (!message.files.length || message.deleted) return null;
    return h("ul", { class: "files", "aria-label": "Files" }, message.files.map((file, index) => h("li", {}, message.id ? this._view(message.id, file, index).element : fileRow(file, sizeText(file.size)))));
  }

  /** @param {string} id @param {FileInfo} file @param {number} index */
  _view(id, file, index) {
    const key = `${id}/${index}`;
    const known = this._views.get(key);
    if (known && !known.isOutdated(file)) return known;
    known?.end();
    const view = new FileView(this, key, file);
    this._views.set(key, view);
    return view;
  }

  /** Call a view's load() once it comes near the screen. @param {FileView} view */
  watch(view) {
    this._far.set(view.element, view);
    this._near.observe(view.element);
  }

  /** @param {Element} element */
  _isNear(element) {
    this._near.unobserve(element);
    this._far.get(element)?.load();
    this._far.delete(element);
  }

  /** @param {{root: string, stored: number, here: boolean}} told */
  _onFile(told) {
    for (const view of this._views.values()) if (view.file.root === told.root) view.onFile(told);
  }
}

class FileView {
  /** @param {FileViews} views @param {string} key @param {FileInfo} file */
  constructor(views, key, file) {
    this._views = views;
    this._key = key;
    this.file = { ...file };
    this.element = h("div", { class: "file" });
    this._stored = 0;
    this._asked = false;
    this._timer = 0;
    this._link = "";
    this._linkedAt = 0;
    this._failed = false; // it cannot be shown, only saved
    this._draw();
  }

  /** @param {FileInfo} file @returns {boolean} whether this shows another file, or an earlier state of it */
  isOutdated(file) {
    return file.root !== this.file.root || (file.here && !this.file.here) || (!this.file.here && file.held_by !== this.file.held_by);
  }

  end() {
    clearInterval(this._timer);
  }

  get _name() {
    return shortName(this.file.name);
  }

  get _about() {
    return `${this._name}, ${sizeText(this.file.size)}`;
  }

  /** @returns {"picture"|"sound"|"film"|""} */
  get _kind() {
    const type = this.file.type.split(";")[0].trim().toLowerCase();
    if (this._failed) return "";
    return PICTURES.test(type) ? "picture" : SOUNDS.test(type) ? "sound" : FILMS.test(type) ? "film" : "";
  }

  _draw() {
    unpressed(() => {
      const had = this.element.contains(document.activeElement);
      if (this.file.here) this._drawHere();
      else this._drawAway();
      if (had) this.element.querySelector("button")?.focus();
    });
  }

  _drawHere() {
    const kind = this._kind;
    if (kind === "") {
      fill(this.element, fileRow(this.file, sizeText(this.file.size), this._button("Download", () => this._save())));
      return;
    }
    const failed = () => this._onError();
    const shown = {
      picture: () => h("button", { type: "button", class: "picture", "aria-label": `Show ${this._about}`, title: this._about, onclick: () => this._enlarge() }, h("img", { alt: "", draggable: "false", onerror: failed, onload: fitFrame })),
      sound: () => h("audio", { controls: true, preload: "metadata", "aria-label": this._about, onerror: failed }),
      film: () => h("video", { controls: true, preload: "metadata", playsinline: true, "aria-label": this._about, onerror: failed }),
    }[kind]();
    fill(this.element, shown, kind !== "picture" && fileRow(this.file, sizeText(this.file.size), this._button("Download", () => this._save())));
    this._views.watch(this);
  }

  _drawAway() {
    const busy = this._asked || this._stored > 0;
    const size = sizeText(this.file.size);
    const said = this._stored ? `${sizeText(this._stored)} of ${size}` : busy ? `${size}. Waiting for somebody who has it` : this.file.forgotten ? `${size}. ${forgottenText(this.file)}` : size;
    fill(this.element, fileRow(this.file, said, this._asked ? this._button("Stop", () => this._stop()) : !busy && this._button("Get", () => this._get()),
      busy && h("progress", { max: this.file.size || 1, value: this._stored || null, "aria-label": `Progress of ${this._name}` })));
  }

  /** @param {string} label @param {() => void} click */
  _button(label, click) {
    return h("button", { type: "button", class: "file-button", tabindex: this.element.querySelector("button")?.tabIndex ?? -1, "aria-label": `${label} ${this._about}`, onclick: click }, label);
  }

  /** Show it, now that it is near the screen. */
  async load() {
    const shown = this.element.querySelector("img, audio, video");
    if (!shown) return;
    try {
      shown.src = await this._url();
    } catch {
      if (this.element.isConnected) setTimeout(() => this.load(), LOAD_AGAIN); // the gateway is away
    }
  }

  /** @returns {Promise<string>} its address, valid for some minutes */
  async _url() {
    if (Date.now() - this._linkedAt > LINK_FOR) {
      this._link = urlOf(await getLink(this._views.chat.token, this._key)).href;
      this._linkedAt = Date.now();
    }
    return this._link;
  }

  /** The link may be over, as behind a restart of the gateway: try another one. One that is new shows that it is no picture. */
  async _onError() {
    const shown = this.element.querySelector("img, audio, video");
    if (Date.now() - this._linkedAt > LOAD_AGAIN) {
      const at = shown?.currentTime ?? 0;
      this._linkedAt = 0;
      await this.load();
      if (at) shown.currentTime = at;
      return;
    }
    this._failed = true;
    if (await this._isHere()) this._draw();
  }

  /** Ask whether the gateway still has it; if not, it fetches it again, which is shown. @returns {Promise<boolean>} */
  async _isHere() {
    const isHere = await this._views.layout.notifyFailure(wantFile(this._views.chat.token, this._key));
    if (isHere === false) {
      Object.assign(this, { _asked: true, _failed: false });
      this.file.here = false;
      this._draw();
    }
    return isHere !== false;
  }

  async _enlarge() {
    const { layout } = this._views;
    const url = await layout.notifyFailure(this._url());
    if (!url) return;
    dialog(document.createTextNode(this._name), [
      h("img", { class: "full", src: url, alt: this._name }),
      h("div", { class: "row end" }, h("span", { class: "hint" }, sizeText(this.file.size)), h("button", { type: "button", onclick: () => this._save() }, "Download")),
    ], { class: "full-size" });
  }

  async _save() {
    const url = (await this._isHere()) && (await this._views.layout.notifyFailure(this._url()));
    if (url) h("a", { href: url, download: "" }).click(); // the gateway says the name
  }

  async _get() {
    this._asked = true;
    this._draw();
    clearInterval(this._timer);
    this._timer = setInterval(() => this._want().catch(() => {}), ASK_AGAIN);
    try {
      await this._want();
    } catch (error) {
      this._ended();
      this._views.layout.notices.show(/** @type {Error} */ (error).message);
    }
  }

  async _want() {
    if (await wantFile(this._views.chat.token, this._key)) this.onFile({ stored: this.file.size, here: true });
  }

  async _stop() {
    this._ended();
    await this._views.layout.notifyFailure(stopFile(this._views.chat.token, this._key));
  }

  _ended() {
    clearInterval(this._timer);
    this._asked = false;
    this._stored = 0;
    this._draw();
  }

  /** @param {{stored: number, here: boolean}} told */
  onFile({ stored, here }) {
    if (this.file.here) return;
    this._stored = stored;
    this.file.here = here;
    if (here) clearInterval(this._timer);
    this._draw();
  }
}

/** A picture smaller than its frame has one of its own size; others keep the room that they had before they came. @param {Event} event */
function fitFrame({ currentTarget: img }) {
  if (!(img instanceof HTMLImageElement) || !img.naturalWidth) return; // an SVG without a size is never shown
  const { naturalWidth: width, naturalHeight: height, clientWidth, clientHeight } = img;
  img.parentElement?.classList.toggle("small", width < clientWidth && height < clientHeight);
}

/** @param {FileInfo} file @returns {string} what is said of one that was removed at the gateway */
function forgottenText({ held_by: held = 0 }) {
  return `Not kept here any more: ${held === 1 ? "1 member has it" : held ? `${held} members have it` : "nobody is known to have it"}`;
}

/** @param {FileInfo} file @param {string} said @param {...any} more */
function fileRow(file, said, ...more) {
  const [button, bar] = more;
  return h("div", { class: "file-row" }, icon("file"),
    h("span", { class: "file-words" }, h("bdi", { class: "file-name" }, shortName(file.name)), h("span", { class: "hint" }, said), bar), button);
}
