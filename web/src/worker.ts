// The worker that all work happens in. ONNX Runtime is loaded in files of its own, so that its threads start without this one.
// Imported by themselves: from "wecolora/web", parts that few runs need would be loaded at the start.
import { preload } from "../../src/platform/web/preload.ts";
import { serveWecolora } from "../../src/platform/web/serve.ts";

serveWecolora({
  runtime: (device) => (device === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")),
});
// Nothing is fetched later: the page works offline once it is there.
void preload();
