/**
 * Whether the user is looking at the page: the window is visible, has the focus, and was used in the last five minutes.
 * Only then messages are marked read, and others see the user as online rather than away.
 */

const IDLE_AFTER = 5 * 60 * 1000;

export class Attention {
  /** @param {(active: boolean) => void} changed */
  constructor(changed) {
    this._changed = changed;
    this._usedAt = Date.now();
    this.active = this._isActive();
    for (const event of ["focus", "blur", "visibilitychange", "pageshow", "keydown", "pointerdown", "pointermove", "wheel", "touchstart"]) {
      addEventListener(event, () => this._onEvent(event), { capture: true, passive: true });
    }
    setInterval(() => this._update(), 10000);
  }

  /** @param {string} event */
  _onEvent(event) {
    if (event !== "blur" && event !== "visibilitychange") this._usedAt = Date.now();
    this._update();
  }

  _isActive() {
    return document.visibilityState === "visible" && document.hasFocus() && Date.now() - this._usedAt < IDLE_AFTER;
  }

  _update() {
    const active = this._isActive();
    if (active === this.active) return;
    this.active = active;
    this._changed(active);
  }
}
