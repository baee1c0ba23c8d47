/**
 * The WebSocket connection to the gateway: event lines in, command objects out.
 *
 * The first frame carries the token, because a browser cannot set headers on a WebSocket. A lost connection is retried
 * with growing pauses, and at once when the browser reports that the network is back. `since` names the last message
 * received, so that the gateway replays what was missed.
 *
 * A gateway may be gone without closing its connections. While an answer is due and no line comes, or when the browser
 * reports that it is offline, the page asks over HTTP whether the gateway is there: a long command, such as a search,
 * keeps the socket silent too. Without anything due, a heartbeat is enough.
 *
 * Browsers run the timers of hidden tabs late, those that follow a timer by a minute. So each timer here follows a line or
 * the end of a connection, and a connection is given up only when what was sent over it got no answer.
 */

import { isAnswering, isOwn, socketUrl } from "./http.js";
import { setGatewayTime } from "./times.js";

const FIRST_WAIT = 400; // milliseconds
const LONGEST_WAIT = 15000;
const HEARTBEAT = 25000; // milliseconds without a line until one is asked for: a broken connection may not be reported
const PATIENCE = 10000; // milliseconds for its answer, and for the first line
const DUE_WITHIN = 4000; // milliseconds without a line until the gateway is asked whether it is there; a guess
const ASK_AGAIN = 1000; // milliseconds, if a line came while a gateway was asked that did not answer; a guess
const REFUSED = new Set(["unauthorized", "revoked", "deleted", "expelled"]); // close reasons after which the token is of no use: do not reconnect

/** @typedef {"connecting"|"open"|"waiting"|"refused"|"closed"} State */

export class Connection {
  /**
   * @param {object} options
   * @param {string} options.token
   * @param {() => string} options.since the last message received, "" for none
   * @param {(line: any) => void} options.onLine called with each event line
   * @param {(state: State, line?: any) => void} options.onState called on every change; with the first line when it opens
   * @param {() => any} options.heartbeat the command to send as a heartbeat; any command with an answer
   */
  constructor({ token, since, onLine, onState, heartbeat }) {
    this._token = token;
    this._since = since;
    this._onLine = onLine;
    this._onState = onState;
    this._heartbeatCommand = heartbeat;
    /** @type {State} */
    this.state = "closed";
    this.retryAt = 0;
    this.why = "";
    this._tries = 0;
    this._refs = 0;
    /** @type {Map<string, {done: (rows: any[]) => void, failed: (error: Error) => void}>} */
    this._pending = new Map();
    /** @type {WebSocket|null} */
    this._socket = null;
    this._timer = 0;
    this._heartbeat = 0;
    this._lines = 0; // received
    /** @type {Set<string>} refs of commands that are to be answered */
    this._due = new Set();
    this._dueTimer = 0;
    this.silent = false; // the connection was given up, because the gateway did not answer
    this._online = () => this.retry();
    this._offline = () => this._probe();
  }

  start() {
    addEventListener("online", this._online);
    addEventListener("offline", this._offline);
    this._connect();
  }

  /** Close the connection for good. */
  close() {
    removeEventListener("online", this._online);
    removeEventListener("offline", this._offline);
    clearTimeout(this._timer);
    this._setState("closed");
    this._drop();
  }

  /** Reconnect now. */
  retry() {
    if (this.state !== "waiting") return;
    clearTimeout(this._timer);
    this._connect();
  }

  /** @param {any} command @returns {boolean} whether it was sent */
  send(command) {
    if (this.state !== "open" || this._socket === null) return false;
    this._socket.send(JSON.stringify(command));
    if (command.ref) this._expect(command.ref);
    return true;
  }

  /**
   * Send a command and wait for its answer.
   * @param {any} command
   * @returns {Promise<any[]>} the rows of its answer
   * @throws {CommandError}
   */
  request(command) {
    const ref = `a${(this._refs += 1)}`;
    return new Promise((done, failed) => {
      this._pending.set(ref, { done, failed });
      if (!this.send({ ...command, ref })) this._settle(ref, new CommandError("offline", "The gateway is away. Try again when it is back."));
    });
  }

  // ---- inside

  _connect() {
    this._setState("connecting");
    const url = socketUrl("lines");
    const since = this._since();
    if (since) url.searchParams.set("since", since);
    const socket = new WebSocket(url);
    this._socket = socket;
    this._await();
    if (!isOwn()) socket.onopen = () => socket.send(JSON.stringify({ token: this._token }));
    socket.onmessage = (event) => this._socket === socket && this._onMessage(event.data);
    socket.onclose = (event) => this._socket === socket && this._onClose(event.code, event.reason);
  }

  /** @param {string} data */
  _onMessage(data) {
    this._lines += 1;
    clearTimeout(this._heartbeat);
    this._heartbeat = setTimeout(() => this._beat(), HEARTBEAT);
    const line = JSON.parse(data);
    this._due.delete(line.ref);
    this._watchDue();
    if (line.event === "listening") {
      setGatewayTime(line.now);
      this._tries = 0;
      this.silent = false;
      this._setState("open", line);
      return;
    }
    if (line.event === "answer" && line.ref) this._settle(line.ref, null, line.rows);
    else if (line.event === "error" && this._pending.has(line.ref)) this._settle(line.ref, new CommandError(line.code, line.text));
    else this._onLine(line);
  }

  /** @param {string} ref of a command that is to be answered */
  _expect(ref) {
    this._due.add(ref);
    if (this._due.size === 1) this._watchDue();
  }

  _watchDue() {
    clearTimeout(this._dueTimer);
    if (this._due.size) this._dueTimer = setTimeout(() => this._probe(), DUE_WITHIN);
  }

  /** Give the connection up if the gateway is not there. */
  async _probe() {
    const socket = this._socket;
    this._due.clear(); // an answer that never comes is asked about once
    for (;;) {
      const before = this._lines;
      if ((await isAnswering()) || this._socket !== socket || this.state !== "open") return;
      if (this._lines === before) return this._giveUp();
      await new Promise((done) => setTimeout(done, ASK_AGAIN)); // the line may have been under way
    }
  }

  _giveUp() {
    this.silent = true;
    this._onClose(1006);
  }

  /** @param {string} ref @param {Error|null} error @param {any[]} [rows] */
  _settle(ref, error, rows = []) {
    const pending = this._pending.get(ref);
    this._pending.delete(ref);
    if (error) pending?.failed(error);
    else pending?.done(rows);
  }

  /** @param {number} code @param {string} [reason] */
  _onClose(code, reason = "") {
    this._drop();
    if (this.state === "closed") return;
    if (code === 1008 && REFUSED.has(reason)) {
      this.why = reason;
      this._setState("refused");
      return;
    }
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this._tries) * (0.75 + Math.random() / 2);
    this._tries += 1;
    this.retryAt = Date.now() + wait;
    this._timer = setTimeout(() => this._connect(), wait);
    this._setState("waiting");
  }

  _drop() {
    clearTimeout(this._heartbeat);
    clearTimeout(this._dueTimer);
    this._due.clear();
    const socket = this._socket;
    this._socket = null;
    socket?.close();
    for (const ref of [...this._pending.keys()]) this._settle(ref, new CommandError("offline", "The connection was lost. Try again when the gateway is back."));
  }

  /** Ask for a line. */
  _beat() {
    this._await();
    this.request(this._heartbeatCommand()).catch(() => {});
  }

  /** Give the connection up unless a line comes: something was sent that has an answer. */
  _await() {
    clearTimeout(this._heartbeat);
    this._heartbeat = setTimeout(() => this._giveUp(), PATIENCE);
  }

  /** @param {State} state @param {any} [line] */
  _setState(state, line) {
    this.state = state;
    this._onState(state, line);
  }
}

/** A command failed; the message can be shown. */
export class CommandError extends Error {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}
