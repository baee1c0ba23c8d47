/**
 * Lists that are drawn again and again, touching only what is another: a press that began on a row ends on the same row,
 * and the focus stays where it is.
 */

/** @typedef {{key: string, drawn: string, draw: () => HTMLElement}} Item `drawn`: equal strings, equal pictures */

export class Keyed {
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

  /** Show these, in this order. @param {Item[]} items */
  draw(items) {
    const former = this._nodes;
    this._nodes = new Map(items.map((item) => [item.key, this._one(former.get(item.key), item)]));
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
  _one(known, { drawn, draw }) {
    if (known?.drawn === drawn) return known;
    const node = draw();
    if (known?.node.contains(document.activeElement)) {
      const path = pathOf(known.node, /** @type {Element} */ (document.activeElement));
      queueMicrotask(() => focusAt(node, path));
    }
    return { drawn, node };
  }
}

/** @param {Element} root @param {Element} inner @returns {number} which of what can have the focus inside; -1: itself */
function pathOf(root, inner) {
  return [...root.querySelectorAll("button, a")].indexOf(inner);
}

/** @param {HTMLElement} root @param {number} at */
function focusAt(root, at) {
  const inner = /** @type {HTMLElement|undefined} */ (root.querySelectorAll("button, a")[at]);
  (inner ?? root).focus({ preventScroll: true });
}
