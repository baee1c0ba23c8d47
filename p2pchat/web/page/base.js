/** URLs of the gateway, relative to this file: the page works under any mount path. */

const HERE = new URL(".", import.meta.url);

/** @param {string} path relative, without a leading slash @returns {URL} */
export function urlOf(path) {
  return new URL(path, HERE);
}

/** @param {string} path @returns {URL} its WebSocket URL */
export function socketUrl(path) {
  const url = urlOf(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** @returns {string} the address of this page, to give to others */
export function pageAddress() {
  return HERE.href;
}
