/** A publish/subscribe bus. Changes of one topic within one task are announced once. */

export class Bus {
  constructor() {
    /** @type {Map<string, Set<(detail: any) => void>>} */
    this._listeners = new Map();
    /** @type {Set<string>} */
    this._changed = new Set();
  }

  /** @param {string} topic @param {(detail: any) => void} listener */
  on(topic, listener) {
    const listeners = this._listeners.get(topic) ?? new Set();
    listeners.add(listener);
    this._listeners.set(topic, listeners);
  }

  /** Call the listeners of a topic now. @param {string} topic @param {any} [detail] */
  emit(topic, detail) {
    for (const listener of this._listeners.get(topic) ?? []) listener(detail);
  }

  /** Call the listeners of a topic once, before the next frame is drawn. @param {string} topic */
  changed(topic) {
    if (!this._changed.size) queueMicrotask(() => this._emitChanged());
    this._changed.add(topic);
  }

  _emitChanged() {
    const topics = [...this._changed];
    this._changed.clear();
    for (const topic of topics) this.emit(topic);
  }
}
