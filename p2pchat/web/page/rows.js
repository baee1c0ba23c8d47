/**
 * Lists that are redrawn often and replace only changed rows. The focus stays, and nothing is redrawn under a pointer that
 * is pressed: a click ends on the row it began on.
 */

/** @typedef {{key: string, drawn: string, draw: () => HTMLElement}} Item equal `drawn` strings mean equal rows */

const FOCUSABLE = "button, a, input";

export class Rows {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
    /** @type {Map<string, {drawn: string, node: HTMLElement}>} */
    this._nodes = new Map();
  }

  /** @param {string} key @returns {HTMLElement|undefined} */
  node(key) {
    return this._nodes.get(key)?.node;
  }

  clear() {
    this._nodes.clear();
    this.list.replaceChildren();
  }

  /** Show these rows in this order. @param {Item[]} items */
  draw(items) {
    const previous = this._nodes;
    this._nodes = new Map(items.map((item) => [item.key, this._row(previous.get(item.key), item)]));
    const nodes = [...this._nodes.values()].map(({ node }) => node);
    const wanted = new Set(nodes);
    for (const child of [...this.list.children]) if (!wanted.has(/** @type {HTMLElement} */ (child))) child.remove();
    let at = this.list.firstElementChild;
    for (const node of nodes) {
      if (node === at) at = at.nextElementSibling;
      else this.list.insertBefore(node, at);
    }
  }

  /** @param {{drawn: string, node: HTMLElement}|undefined} known @param {Item} item */
  _row(known, { drawn, draw }) {
    if (known?.drawn === drawn) return known;
    const node = draw();
    if (known?.node.contains(document.activeElement)) {
      const index = focusIndexOf(known.node, /** @type {Element} */ (document.activeElement));
      queueMicrotask(() => focusAt(node, index));
    }
    return { drawn, node };
  }
}

/** Redrawing of an element: before the next frame, once however often it is asked for, and not while it is pressed. */
export class Redraw {
  /** @param {HTMLElement} element @param {() => void} draw */
  constructor(element, draw) {
    this._draw = draw;
    this._frame = 0;
    this._isPressed = false;
    this._isLate = false;
    element.addEventListener("pointerdown", ({ button }) => button === 0 && this._pressed());
  }

  soon() {
    cancelAnimationFrame(this._frame);
    this._frame = requestAnimationFrame(() => {
      if (this._isPressed) this._isLate = true;
      else this._draw();
    });
  }

  _pressed() {
    this._isPressed = true;
    const ended = new AbortController();
    for (const type of ["pointerup", "pointercancel", "blur"]) addEventListener(type, () => {
      ended.abort();
      this._isPressed = false;
      if (this._isLate) this.soon(); // after the click
      this._isLate = false;
    }, { signal: ended.signal });
  }
}

/** @param {Element} root @param {Element} inner @returns {number} index among the focusable elements inside; -1 for the root itself */
function focusIndexOf(root, inner) {
  return [...root.querySelectorAll(FOCUSABLE)].indexOf(inner);
}

/** @param {HTMLElement} root @param {number} at */
function focusAt(root, at) {
  const inner = /** @type {HTMLElement|undefined} */ (root.querySelectorAll(FOCUSABLE)[at]);
  (inner ?? root).focus({ preventScroll: true });
}
