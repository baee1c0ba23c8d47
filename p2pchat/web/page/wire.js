/**
 * The connection: event lines in, command objects out, and coming back by itself.
 *
 * It begins with the token, in the first frame, for a browser's WebSocket carries no headers. When it breaks it is made
 * again, later each time up to a limit, at once when the browser says that the network is back. `since` names the last
 * message taken, so that the gateway tells what came meanwhile.
 */

import { socketAt } from "./base.js";

const FIRST_WAIT = 400; // milliseconds
const LONGEST_WAIT = 15000;
const HEARTBEAT = 25000; // a connection nobody answers on is broken, though no browser says so
const PATIENCE = 10000;
const REFUSED = new Set(["unauthorized", "revoked"]); // reasons to come back no more: the token is nobody's (any more)

/** @typedef {"connecting"|"open"|"waiting"|"refused"|"closed"} State */

export class Wire {
  /**
   * @param {object} with_
   * @param {string} with_.token
   * @param {() => string} with_.since the last message taken, "" for none
   * @param {(line: any) => void} with_.hear takes each event line
   * @param {(state: State, line?: any) => void} with_.change told of every change; with the first line when it is open
   * @param {() => any} with_.beat what to say now and then, to know whether anybody is there; anything with an answer
   */
  constructor({ token, since, hear, change, beat }) {
    this._token = token;
    this._since = since;
    this._hear = hear;
    this._change = change;
    this._beat = beat;
    /** @type {State} */
    this.state = "closed";
    this.retryAt = 0;
    this.why = "";
    this._tries = 0;
    this._refs = 0;
    /** @type {Map<string, {done: (rows: any[]) => void, failed: (error: Error) => void}>} */
    this._asked = new Map();
    /** @type {WebSocket|null} */
    this._socket = null;
    this._timer = 0;
    this._heartbeat = 0;
    this._heardAt = 0;
    this._online = () => this.retry();
  }

  start() {
    addEventListener("online", this._online);
    this._connect();
  }

  /** End it for good. */
  close() {
    removeEventListener("online", this._online);
    clearTimeout(this._timer);
    this._become("closed");
    this._drop();
  }

  /** Try now. */
  retry() {
    if (this.state !== "waiting") return;
    clearTimeout(this._timer);
    this._connect();
  }

  /** @param {any} order @returns {boolean} whether it went out */
  say(order) {
    if (this.state !== "open" || this._socket === null) return false;
    this._socket.send(JSON.stringify(order));
    return true;
  }

  /**
   * Have something done, or answered.
   * @param {any} order
   * @returns {Promise<any[]>} the rows of its answer
   * @throws {WireError}
   */
  ask(order) {
    const ref = `a${(this._refs += 1)}`;
    return new Promise((done, failed) => {
      this._asked.set(ref, { done, failed });
      if (!this.say({ ...order, ref })) this._settle(ref, new WireError("offline", "not connected just now"));
    });
  }

  // ---- inside

  _connect() {
    this._become("connecting");
    const url = socketAt("lines");
    const since = this._since();
    if (since) url.searchParams.set("since", since);
    const socket = new WebSocket(url);
    this._socket = socket;
    this._heardAt = Date.now();
    this._watch();
    socket.onopen = () => socket.send(JSON.stringify({ token: this._token }));
    socket.onmessage = (event) => this._socket === socket && this._take(event.data);
    socket.onclose = (event) => this._socket === socket && this._closed(event.code, event.reason);
  }

  /** @param {string} data */
  _take(data) {
    this._heardAt = Date.now();
    const line = JSON.parse(data);
    if (line.event === "listening") {
      this._tries = 0;
      this._become("open", line);
      return;
    }
    if (line.event === "answer" && line.ref) this._settle(line.ref, null, line.rows);
    else if (line.event === "error" && this._asked.has(line.ref)) this._settle(line.ref, new WireError(line.code, line.text));
    else this._hear(line);
  }

  /** @param {string} ref @param {Error|null} error @param {any[]} [rows] */
  _settle(ref, error, rows = []) {
    const asked = this._asked.get(ref);
    this._asked.delete(ref);
    if (error) asked?.failed(error);
    else asked?.done(rows);
  }

  /** @param {number} code @param {string} [reason] */
  _closed(code, reason = "") {
    this._drop();
    if (this.state === "closed") return;
    if (code === 1008 && REFUSED.has(reason)) {
      this.why = reason;
      this._become("refused");
      return;
    }
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this._tries) * (0.75 + Math.random() / 2);
    this._tries += 1;
    this.retryAt = Date.now() + wait;
    this._timer = setTimeout(() => this._connect(), wait);
    this._become("waiting");
  }

  _drop() {
    clearInterval(this._heartbeat);
    const socket = this._socket;
    this._socket = null;
    socket?.close();
    for (const ref of [...this._asked.keys()]) this._settle(ref, new WireError("offline", "the connection broke"));
  }

  _watch() {
    clearInterval(this._heartbeat);
    this._heartbeat = setInterval(() => {
      if (Date.now() - this._heardAt > HEARTBEAT + PATIENCE) this._closed(1006);
      else if (Date.now() - this._heardAt >= HEARTBEAT) this.ask(this._beat()).catch(() => {});
    }, PATIENCE / 2);
  }

  /** @param {State} state @param {any} [line] */
  _become(state, line) {
    this.state = state;
    this._change(state, line);
  }
}

/** Something asked for was not done; its message is fit to be shown. */
export class WireError extends Error {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}
