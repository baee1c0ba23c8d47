/** Registration of a name, over HTTP. */

import { urlOf } from "./base.js";

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
