// What the page may load and where it may connect: itself, and the hub for models that are named.
import { createHash } from "node:crypto";
import { pageScript } from "../src/report/page-style.ts";

const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** The hub, and the servers that it keeps large files on. */
const hub = "https://huggingface.co https://*.huggingface.co https://*.hf.co";

export const policy: string = [
  "default-src 'none'",
  // The report of a run is shown in a frame, which has the page's policy too: its one script is named by its hash.
  `script-src 'self' 'wasm-unsafe-eval' ${hash(pageScript)}`,
  "style-src 'self' 'unsafe-inline'",
  "worker-src 'self' blob:",
  "img-src 'self' blob: data:",
  "frame-src blob:",
  `connect-src 'self' blob: data: ${hub}`,
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
