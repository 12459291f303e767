// A service worker for hosts that send no headers of their own: it isolates the page, which threads of WASM need, gives the
// worker the page's policy on what it may fetch, and keeps the page's own files, so that it works offline.
const cacheName = "wecolora-page";
const policy = "%CSP%";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

/** The answer with the headers that isolate. */
function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Content-Security-Policy", policy);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  // What goes elsewhere (the hub) is none of our business.
  if (url.origin !== self.location.origin || request.method !== "GET") return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(cacheName);
      try {
        const response = await fetch(request);
        if (response.ok && response.status === 200) await cache.put(request, response.clone());
        return response.status === 0 ? response : isolated(response);
      } catch (error) {
        const kept = await cache.match(request, { ignoreSearch: true });
        if (kept) return isolated(kept);
        throw error;
      }
    })(),
  );
});
