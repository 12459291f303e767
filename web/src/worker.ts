// The worker that all work happens in. ONNX Runtime is loaded in files of its own, so that its threads start without this one.
import { preload, serveWecolora } from "wecolora/web";

serveWecolora({
  runtime: (device) => (device === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")),
});
// Nothing is fetched later: the page works offline once it is there.
void preload();
