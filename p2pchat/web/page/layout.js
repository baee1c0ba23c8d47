/** The layout of the chat: the sidebar, the open conversation, and notices above them. */

import { Compose } from "./compose.js";
import { h } from "./dom.js";
import { Head } from "./head.js";
import { Header } from "./header.js";
import { Navigation } from "./navigation.js";
import { Notifications } from "./notifications.js";
import { unpressed } from "./rows.js";
import { HEADS } from "./said.js";
import { SearchPanel } from "./search.js";
import { installShortcuts, isField, showHelp } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { ConnectionBar, Notices, TypingLine, showTitle } from "./status.js";
import { Timeline } from "./timeline.js";

export class Layout {
  /** @param {import("./chat.js").Chat} chat @param {() => void} signOut */
  constructor(chat, signOut) {
    this.chat = chat;
    chat.model.bus.when = unpressed;
    this.compose = new Compose(chat, this);
    this.timeline = new Timeline(chat, this);
    this.search = new SearchPanel(chat, this);
    this.sidebar = new Sidebar(chat, this, signOut);
    this.header = new Header(chat, this);
    this.navigation = new Navigation(chat, this);
    this.notices = new Notices(chat.model);
    this.element = h("div", { class: "layout", data: { view: "list" } },
      h("a", { class: "skip", href: "#compose", onclick: (/** @type {Event} */ event) => (event.preventDefault(), this.compose.focus()) }, "Skip to writing"),
      h("header", { class: "unseen" }, h("h1", {}, "p2pchat")), // present on small screens too, where only one part is shown
      this.sidebar.element,
      h("main", { class: "talk", "aria-labelledby": "talk-name" },
        this.header.element,
        new ConnectionBar(chat).element,
        HEADS.map(([event, row]) => new Head(chat, this, event, row).element),
        this.search.element,
        this.timeline.element,
        new TypingLine(chat.model).element,
        this.compose.element,
      ),
      this.notices.element,
    );
    takeDrops(this.element, (files) => this.compose.attach(files));
    document.addEventListener("paste", (event) => this.element.isConnected && !event.defaultPrevented && !isField(event.target) && this.compose.paste(event));
    chat.model.bus.on("front", () => this._onFront());
    new Notifications(chat, this);
    showTitle(chat.model);
    installShortcuts(this);
  }

  /** Show the conversation on a screen too small for both. */
  showTalk() {
    this._view("talk");
  }

  /** Show the list on a screen too small for both. */
  showList() {
    this._view("list");
    if (!this.isWide) this.sidebar.focusFront();
  }

  /** @param {"list"|"talk"} view */
  _view(view) {
    this.element.dataset.view = view;
    this.navigation.update();
    this.chat.model.bus.changed("talks"); // what is shown has changed: the title
  }

  /** Whether list and conversation fit side by side. */
  get isWide() {
    return matchMedia("(min-width: 46rem)").matches;
  }

  /** Whether the open conversation is on the screen, alone or beside the list. */
  get showsTalk() {
    return this.isWide || this.element.dataset.view === "talk";
  }

  /** Whether the user is in a field that is not for messages, as that of a search. */
  get isTypingElsewhere() {
    return isField(document.activeElement) && document.activeElement !== this.compose.input;
  }

  /** Open the conversation the user chose. @param {import("./model.js").Talk} talk */
  async open(talk) {
    const opened = this.chat.open(talk);
    this.showTalk();
    this.search.close();
    this.compose.focus();
    await opened;
  }

  /** @param {string} userId @returns {Promise<boolean>} false when it failed; the error is shown */
  async openWith(userId) {
    try {
      await this.open(await this.chat.talkWith(userId));
      return true;
    } catch (error) {
      this.notices.show(/** @type {Error} */ (error).message, /** @type {any} */ (error).code === "offline");
      return false;
    }
  }

  help() {
    showHelp();
  }

  /** Wait for an action and show its error as a notice. @param {Promise<any>} action */
  async notifyFailure(action) {
    try {
      return await action;
    } catch (error) {
      this.notices.show(/** @type {Error} */ (error).message, /** @type {any} */ (error).code === "offline");
      return null;
    }
  }

  _onFront() {
    this.compose.front();
    this.timeline.front();
    this.navigation.update();
    if (this.isWide && !this.isTypingElsewhere && !document.querySelector("dialog[open]")) this.compose.focus();
  }
}

/**
 * Take files that are dropped anywhere on the page: a browser would leave it and open them.
 * @param {HTMLElement} element @param {(files: File[]) => void} dropped
 */
function takeDrops(element, dropped) {
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  element.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    element.classList.add("dropping");
  });
  element.addEventListener("dragleave", ({ relatedTarget }) => !element.contains(/** @type {Node|null} */ (relatedTarget)) && element.classList.remove("dropping"));
  element.addEventListener("drop", (event) => {
    element.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    dropped([...(event.dataTransfer?.files ?? [])]);
  });
}
