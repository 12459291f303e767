// Cross-origin isolation, which threads of WASM need. Where the server does not send the headers for it, a service worker adds them.

/** Reloads the page once under a service worker where that isolates it. Never keeps the page from working. */
export async function isolate(): Promise<void> {
  if (crossOriginIsolated || !("serviceWorker" in navigator)) return;
  const tried = "wecolora-isolation";
  if (sessionStorage.getItem(tried)) return;
  sessionStorage.setItem(tried, "1");
  try {
    await navigator.serviceWorker.register("./isolation.js");
    await navigator.serviceWorker.ready;
    location.reload();
    // The page is about to go.
    await new Promise(() => undefined);
  } catch {
    // One thread, then.
  }
}
