/** DOM helpers. Text of others becomes text nodes and attributes, never markup. Knows nothing about chats. */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node|string|number|null|undefined|false|Child[]} Child */

/**
 * Create an element.
 * @param {string} tag
 * @param {Record<string, any>} [props] `class`, `data` (an object), `on...` (a function), else attributes; false, null: none
 * @param {...Child} children strings become text
 * @returns {any} an HTMLElement
 */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(made, name, value);
  put(made, children);
  return made;
}

/** @param {HTMLElement} element @param {string} name @param {any} value */
function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "data") Object.assign(element.dataset, value);
  else if (value === true) element.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
}

/** @param {Element} parent @param {Child[]} children */
function put(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) put(parent, child);
    else if (child instanceof Node) parent.append(child);
    else if (child !== null && child !== undefined && child !== false) parent.append(String(child));
  }
}

/**
 * Replace the children of an element.
 * @param {Element} parent @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  put(parent, children);
}

/**
 * Put a text in the place of a part of a field, as if it was typed: Undo takes it back.
 * @param {HTMLTextAreaElement} field @param {string} text @param {number} start @param {number} end
 */
export function typeInto(field, text, start, end) {
  field.focus();
  field.setSelectionRange(start, end);
  if (!document.execCommand("insertText", false, text)) field.setRangeText(text, start, end, "end");
}

/** Icons by meaning: SVG paths in a 24 by 24 square. @type {Record<string, string>} */
const PATHS = {
  clip: "M8 12.500l6-6a3 3 0 0 1 4.300 4.300l-7.800 7.700a5 5 0 0 1-7-7L11 4",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  send: "M4 12l16-8-6 16-3-6z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.2 16.2L21 21",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.6-3.6 3.2-5.5 6.5-5.5s5.900 1.900 6.500 5.500M16 4.300a3.500 3.500 0 0 1 0 6.400M18 14.800c2 .8 3.200 2.600 3.500 5.200",
  invite: "M10 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM3 20c.6-3.600 3.400-5.500 7-5.500 1.500 0 2.900.3 4 1M18 14v6M15 17h6",
  plus: "M12 5v14M5 12h14",
  reply: "M10 6L4 12l6 6M4.500 12H14c3.500 0 6 2.500 6 6",
  smile: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM8.500 14.500c1.800 2.300 5.200 2.300 7 0M9 9.500v.5M15 9.500v.5",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v6M12 7.500v.5",
  bell: "M6 17h12l-1.500-2.500V10a4.500 4.500 0 0 0-9 0v4.500zM10 20h4",
  muted: "M6 17h12l-1.500-2.500V10a4.500 4.500 0 0 0-9 0v4.500zM10 20h4M4 4l16 16",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.500 9.500a2.500 2.500 0 1 1 3.700 2.200c-.8.500-1.200 1-1.200 1.900M12 16.500v.5",
  down: "M6 9l6 6 6-6",
  settings: "M4 7h9M17 7h3M15 5v4M4 17h3M11 17h9M9 15v4M4 12h3M11 12h9",
};

/**
 * Return an icon. A word next to it, or a label, must say what it means.
 * @param {string} name of a path, or a path
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name] ?? name);
  svg.append(path);
  return svg;
}

/**
 * Return a button that shows only an icon.
 * @param {string} name as of an icon @param {string} label read by screen readers and shown as a tooltip
 * @param {(event: Event) => void} click @param {Record<string, any>} [more]
 */
export function iconButton(name, label, click, more = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick: click, ...more }, icon(name));
}

const SHOWN_FOR = 2000; // milliseconds

/** @param {() => string} text @param {string} label @returns {HTMLElement} */
export function copyButton(text, label) {
  const button = h("button", { type: "button", onclick: async () => showBriefly(button, (await copy(text())) ? "Copied" : "Select it and copy", label) }, label);
  return button;
}

/** @param {HTMLElement} button @param {string} word @param {string} label */
function showBriefly(button, word, label) {
  button.textContent = word;
  setTimeout(() => (button.textContent = label), SHOWN_FOR);
}

/** @param {string} text @returns {Promise<boolean>} false when the browser does not allow it, for example without https */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
