// The worker of the page under test. Its first message says how.
import { serveWecolora } from "../../../src/platform/web/web.ts";
import type { WecoloraOptions } from "../../../src/platform/web/web.ts";

addEventListener(
  "message",
  ({ data }: MessageEvent<Omit<WecoloraOptions, "runtime">>) =>
    serveWecolora({
      ...data,
      runtime: (name) => (name === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")),
    }),
  { once: true },
);
