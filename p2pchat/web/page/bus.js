/** Who wants to know what: topics, and whom to tell. Several changes of one moment are told once. */

export class Bus {
  constructor() {
    /** @type {Map<string, Set<(detail: any) => void>>} */
    this._hearers = new Map();
    /** @type {Set<string>} */
    this._soon = new Set();
  }

  /** @param {string} topic @param {(detail: any) => void} hear */
  on(topic, hear) {
    const hearers = this._hearers.get(topic) ?? new Set();
    hearers.add(hear);
    this._hearers.set(topic, hearers);
  }

  /** Tell now. @param {string} topic @param {any} [detail] */
  tell(topic, detail) {
    for (const hear of this._hearers.get(topic) ?? []) hear(detail);
  }

  /** Tell once what is another now, before the next picture is drawn. @param {string} topic */
  changed(topic) {
    if (!this._soon.size) queueMicrotask(() => this._tellSoon());
    this._soon.add(topic);
  }

  _tellSoon() {
    const topics = [...this._soon];
    this._soon.clear();
    for (const topic of topics) this.tell(topic);
  }
}
