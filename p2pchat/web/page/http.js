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

/** @returns {boolean} whether the users are those of a program: the browser's cookies tell who it is, and no token */
export function isOwn() {
  return document.documentElement.dataset.signUp === "own";
}

/** Whether requests have the cookies of this site: only where they tell who the user is. */
const COOKIES = isOwn() ? "same-origin" : "omit";

/** @param {string} token @returns {Record<string, string>} the headers that tell who the user is */
function proofOf(token) {
  return isOwn() ? {} : { Authorization: `Bearer ${token}` };
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
  return await post("accounts", { name });
}

/** Delete the account of a token. @param {string} token @throws {Refused} the gateway refuses or does not answer */
export async function deleteAccount(token) {
  await readAnswer(fetch(urlOf("accounts/me"), { method: "DELETE", headers: proofOf(token), credentials: COOKIES }));
}

/**
 * Ask a poll: repeated with its key it is asked once.
 * @param {string} token @param {{to: string, question: string, options: string[]}} poll @param {string} key
 * @throws {Refused} the gateway refuses or does not answer
 */
export async function askPoll(token, poll, key) {
  await post("polls", poll, { ...proofOf(token), "Idempotency-Key": key });
}

/** @param {string} path @param {object} said the body @param {Record<string, string>} [more] headers @returns {Promise<any>} */
function post(path, said, more) {
  const headers = { ...more, "Content-Type": "application/json" };
  return readAnswer(fetch(urlOf(path), { method: "POST", body: JSON.stringify(said), headers, credentials: COOKIES }));
}

/**
 * Upload a file, to be sent with a message.
 * @param {string} token @param {File} file @param {AbortSignal} signal ends it @param {(bytes: number) => void} progress
 * @returns {Promise<{id: string, name: string, size: number, type: string, root: string}>}
 * @throws {Refused} the gateway refuses or does not answer
 */
export function upload(token, file, signal, progress) {
  const url = urlOf("files");
  url.searchParams.set("filename", file.name || "file");
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest(); // fetch() tells no progress of what it sends
    request.open("POST", url);
    const headers = { ...proofOf(token), "Content-Type": file.type || "application/octet-stream" };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded }) => progress(loaded);
    request.onload = () => (request.status === 201 ? done(request.response) : failed(new Refused(request.response?.code ?? "failed", request.response?.text ?? `The gateway answered ${request.status}.`)));
    request.onabort = () => failed(new Refused("stopped", "Stopped"));
    request.onerror = () => failed(new Refused("offline", "The upload broke off. Remove the file and attach it again."));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** @param {string} token @param {string} path @param {string} method @returns {Promise<Response>} */
function callFile(token, path, method) {
  return fetch(urlOf(`files/${path}`), { method, headers: proofOf(token), credentials: COOKIES });
}

/** @param {string} token @param {string} file the id of its message, and its place @returns {Promise<string>} a relative address of it */
export async function getLink(token, file) {
  return (await readAnswer(callFile(token, `${file}/link`, "POST"))).path;
}

/** Have the gateway fetch a file. @param {string} token @param {string} file as above @returns {Promise<boolean>} whether it is here */
export async function wantFile(token, file) {
  const answer = await callFile(token, file, "HEAD").catch(() => null);
  if (answer?.ok) return answer.status !== 202;
  throw new Refused("failed", WANTED[/** @type {404} */ (answer?.status ?? 0)] ?? "The gateway does not answer. Is this computer online?");
}

/** @type {Record<number, string>} an answer to HEAD has no text */
const WANTED = {
  404: "This file is not there any more.",
  413: "This file is too large for the gateway.",
  429: "The gateway has stored as much for you as it may for now. Try again tomorrow.",
  507: "The disk of the gateway has no room for this file.",
};

/** Have the gateway stop to fetch a file. @param {string} token @param {string} file as above */
export async function stopFile(token, file) {
  await callFile(token, file, "DELETE").catch(() => {});
}

/** @returns {Promise<boolean>} whether the gateway answers within 4 s */
export async function isAnswering() {
  try {
    const how = { method: "HEAD", cache: "no-store", credentials: COOKIES, signal: AbortSignal.timeout(4000) };
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
