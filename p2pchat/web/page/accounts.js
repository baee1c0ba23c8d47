/** Signing up: a name, and the token that proves it from then on. */

import { at } from "./base.js";

/** A sentence of the gateway, fit to be shown. */
export class Refused extends Error {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

/**
 * Take a name.
 * @param {string} name
 * @returns {Promise<{name: string, token: string}>}
 * @throws {Refused} the gateway says why not, or does not answer
 */
export async function signUp(name) {
  const body = JSON.stringify({ name });
  const headers = { "Content-Type": "application/json" };
  return await answered(fetch(at("accounts"), { method: "POST", body, headers, credentials: "omit" }));
}

/**
 * Read the answer of a call.
 * @param {Promise<Response>} call
 * @returns {Promise<any>}
 */
export async function answered(call) {
  let response;
  try {
    response = await call;
  } catch {
    throw new Refused("offline", "The gateway does not answer. Is this machine online?");
  }
  const said = await response.json().catch(() => null);
  if (response.ok && said !== null) return said;
  throw new Refused(said?.code ?? "failed", said?.text ?? `The gateway answered ${response.status}.`);
}
