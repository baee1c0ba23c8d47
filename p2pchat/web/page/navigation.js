/**
 * An address for each conversation, in the fragment of the page's address: `#room`, `#@USER`, `#GROUP`. A reload comes back
 * to the open conversation, and Back goes to the one before. No fragment means the list on a small screen, else the room.
 */

export class Navigation {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    this._following = false;
    addEventListener("popstate", () => layout.element.isConnected && this._follow());
    chat.model.bus.on("ready", () => this._follow());
  }

  /** Give what is shown an address: a new entry in the history of the browser, unless it has this address already. */
  update() {
    const { _chat: chat, _layout: layout } = this;
    const front = layout.showsTalk ? chat.model.front : undefined;
    const address = front ? addressOf(front) : "";
    const before = currentAddress();
    if (address === before || (!before && layout.isWide && front?.kind === "room")) return;
    const target = address ? `#${address}` : withoutFragment();
    if (this._following) history.replaceState(history.state, "", target); // another spelling of the same
    else history.pushState({ fromList: !before }, "", target);
  }

  /** Go back to the list of a small screen. */
  back() {
    if (history.state?.fromList) history.back();
    else this._layout.showList();
  }

  /** Show what the address names. */
  async _follow() {
    const { _chat: chat, _layout: layout } = this;
    const { room, front, talks } = chat.model;
    const address = currentAddress();
    const talk = [...talks.values()].find((one) => addressOf(one) === address || one.id === address);
    if (talk && layout.isTypingElsewhere) return layout.showTalk(), chat.open(talk); // takes neither the focus nor a search
    if (talk) return layout.open(talk);
    if (address.startsWith("@")) {
      this._following = true;
      const opened = await layout.openWith(address.slice(1)); // if not, it says why
      this._following = false;
      if (opened) return;
    } else if (address) layout.notices.show("You have no conversation with this address");
    if (address) forgetAddress();
    const opened = room && (layout.isWide || !front) ? chat.open(room) : null;
    layout.showList(); // at once: the user may choose something while the room is loaded
    await opened;
  }
}

/** Remove the conversation from the address of the page. */
export function forgetAddress() {
  history.replaceState(null, "", withoutFragment());
}

/** @param {import("./model.js").Talk} talk */
function addressOf(talk) {
  return talk.kind === "room" ? "room" : talk.address;
}

function currentAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1); // not well-formed: nobody has it
  }
}

function withoutFragment() {
  return location.pathname + location.search;
}
