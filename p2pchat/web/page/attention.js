/**
 * Whether somebody looks here: the window is in front, has the keyboard, and was used in the last five minutes. Only
 * then something counts as read, and others see one as online rather than idle.
 */

const IDLE_AFTER = 5 * 60 * 1000;

export class Attention {
  /** @param {(looks: boolean) => void} changed */
  constructor(changed) {
    this._changed = changed;
    this._usedAt = Date.now();
    this.looks = this._look();
    for (const event of ["focus", "blur", "visibilitychange", "pageshow"]) {
      addEventListener(event, () => this._used(event), true);
    }
    for (const event of ["keydown", "pointerdown", "pointermove", "wheel", "touchstart"]) {
      addEventListener(event, () => this._used(event), { capture: true, passive: true });
    }
    setInterval(() => this._see(), 10000);
  }

  /** @param {string} event */
  _used(event) {
    if (event !== "blur" && event !== "visibilitychange") this._usedAt = Date.now();
    this._see();
  }

  _look() {
    return document.visibilityState === "visible" && document.hasFocus() && Date.now() - this._usedAt < IDLE_AFTER;
  }

  _see() {
    const looks = this._look();
    if (looks === this.looks) return;
    this.looks = looks;
    this._changed(looks);
  }
}
