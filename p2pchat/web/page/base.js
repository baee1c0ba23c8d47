/** Where this gateway is: everything is asked for beside this file, so the page works below any mount. */

const HERE = new URL(".", import.meta.url);

/** @param {string} path relative, without a leading slash @returns {URL} */
export function at(path) {
  return new URL(path, HERE);
}

/** @param {string} path @returns {URL} the same for a WebSocket */
export function socketAt(path) {
  const url = at(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** @returns {string} the address to give to others, who come by browser */
export function pageAddress() {
  return HERE.href;
}
