/**
 * The service worker: it keeps the files of the page, so that the page opens without a connection and says so. Nothing else
 * goes through it: what the gateway answers, texts and files of others, is never kept.
 *
 * The gateway writes FILES above this text, with a hash of them. A new version of a file thus makes a new worker, which
 * fetches all of them once more.
 */

/* global FILES */

const SCOPE = new URL("./", location.href);
const CACHE = `p2pchat ${SCOPE.pathname}`; // several gateways may share an origin
const KEPT = new Set(FILES.map((/** @type {string} */ name) => new URL(name, SCOPE).href));

addEventListener("install", (/** @type {any} */ event) => event.waitUntil(keep()));
addEventListener("fetch", (/** @type {any} */ event) => {
  const { method, url } = event.request;
  if (method === "GET" && KEPT.has(url.replace(/[?#].*/, ""))) event.respondWith(answer(event.request));
});

async function keep() {
  const cache = await caches.open(CACHE);
  await cache.addAll([...KEPT].map((url) => new Request(url, { cache: "no-cache" })));
}

/** Answer with the file of the gateway, or with the kept one while there is none. @param {Request} request */
async function answer(request) {
  const kept = () => caches.match(request, { cacheName: CACHE, ignoreSearch: true });
  try {
    const found = await fetch(request);
    return (found.status >= 500 && (await kept())) || found; // as a proxy says whose gateway is away
  } catch {
    return (await kept()) ?? Response.error();
  }
}
