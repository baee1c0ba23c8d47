/** URLs of the gateway and its HTTP calls. URLs are relative to this file, so the page works under any mount path. */

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

/** An error answer of the gateway; its message can be shown. */
export class Refused extends Error {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

/**
 * Register a name and return its token.
 * @param {string} name
 * @returns {Promise<{name: string, token: string}>}
 * @throws {Refused} the gateway refuses or does not answer
 */
export async function signUp(name) {
  const body = JSON.stringify({ name });
  const headers = { "Content-Type": "application/json" };
  return await readAnswer(fetch(urlOf("accounts"), { method: "POST", body, headers, credentials: "omit" }));
}

/** Delete the account of a token. @param {string} token @throws {Refused} the gateway refuses or does not answer */
export async function deleteAccount(token) {
  const headers = { Authorization: `Bearer ${token}` };
  await readAnswer(fetch(urlOf("accounts/me"), { method: "DELETE", headers, credentials: "omit" }));
}

/** @returns {Promise<boolean>} whether the gateway answers within 4 s */
export async function isAnswering() {
  try {
    const how = { method: "HEAD", cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(4000) };
    const { status } = await fetch(urlOf("readyz"), /** @type {RequestInit} */ (how));
    return status !== 502 && status !== 504; // of a proxy before it
  } catch {
    return false;
  }
}

/**
 * Return the JSON answer of a request.
 * @param {Promise<Response>} call
 * @returns {Promise<any>}
 */
export async function readAnswer(call) {
  let response;
  try {
    response = await call;
  } catch {
    throw new Refused("offline", "The gateway does not answer. Is this computer online?");
  }
  const said = await response.json().catch(() => null);
  if (response.ok && said !== null) return said;
  throw new Refused(said?.code ?? "failed", said?.text ?? `The gateway answered ${response.status}.`);
}
