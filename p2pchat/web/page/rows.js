/**
 * Lists that are redrawn often and replace only changed rows. The focus stays, and nothing of the page is redrawn while a
 * pointer or Space is pressed: a click ends on what it began on.
 */

/** @typedef {{key: string, drawn: string, draw: () => HTMLElement, former?: string}} Item equal `drawn` strings mean equal rows; `former`: the key that it had before */

const FOCUSABLE = "button, a, input";
const CLICKED = 50; // milliseconds from a release to its click, which a finger makes later; a guess

/** @type {WeakMap<Node, HTMLElement>} the row that replaced a row */
const replacements = new WeakMap();

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
    const focused = document.activeElement;
    const isHere = this.list.contains(focused);
    this._nodes = new Map(items.map((item) => [item.key, this._row(previous.get(item.key) ?? previous.get(item.former ?? ""), item)]));
    const nodes = [...this._nodes.values()].map(({ node }) => node);
    const wanted = new Set(nodes);
    for (const child of [...this.list.children]) if (!wanted.has(/** @type {HTMLElement} */ (child))) child.remove();
    let at = this.list.firstElementChild;
    for (const node of nodes) {
      if (node === at) at = at.nextElementSibling;
      else this.list.insertBefore(node, at);
    }
    if (isHere && document.activeElement !== focused) queueMicrotask(() => focusAgain(/** @type {HTMLElement} */ (focused), { preventScroll: true }));
  }

  /** @param {{drawn: string, node: HTMLElement}|undefined} known @param {Item} item */
  _row(known, { drawn, draw }) {
    if (known?.drawn === drawn) return known;
    const node = draw();
    if (known) replacements.set(known.node, node);
    return { drawn, node };
  }
}

let isPressed = false;
/** @type {Set<() => void>} */
const late = new Set();

/** Do what may move or replace what is pressed: now, or after the click. @param {() => void} act */
export function unpressed(act) {
  if (isPressed) late.add(act);
  else act();
}

for (const type of ["pointerdown", "keydown"]) addEventListener(type, (/** @type {any} */ { button, key, target }) => {
  isPressed = (button === 0 || key === " ") && target instanceof Element && target.closest("button, li") !== null;
});
for (const type of ["pointerup", "pointercancel", "keyup", "contextmenu", "blur"]) addEventListener(type, () => {
  isPressed = false;
  for (const act of late) setTimeout(unpressed, CLICKED, act); // frames would not come while the window is hidden
  late.clear();
});

/** Redrawing: before the next frame, once however often it is asked for, and not while anything is pressed. */
export class Redraw {
  /** @param {() => void} draw */
  constructor(draw) {
    this._draw = draw;
    this._frame = 0;
  }

  soon() {
    cancelAnimationFrame(this._frame);
    this._frame = requestAnimationFrame(() => unpressed(this._draw));
  }
}

/**
 * Focus an element that had the focus before. If its row was replaced meanwhile, focus the same part of the present row.
 * @param {HTMLElement} element @param {FocusOptions} [how]
 */
export function focusAgain(element, how) {
  let row = element.getRootNode(); // itself a row, once it was removed from its list
  for (let next = replacements.get(row); next; next = replacements.get(row)) {
    const kind = element.classList[0];
    element = partsOf(next, kind)[partsOf(row, kind).indexOf(element)] ?? next;
    row = element.getRootNode();
  }
  if (element.isConnected) element.focus(how);
}

/** @param {any} row @param {string|undefined} kind the first class @returns {HTMLElement[]} the focusable elements of this kind inside */
function partsOf(row, kind) {
  return [...row.querySelectorAll(FOCUSABLE)].filter((one) => one.classList[0] === kind);
}
