// The worker that all work happens in. ONNX Runtime is loaded in files of its own, so that its threads start without this one.
import { serveWecolora } from "wecolora/web";

serveWecolora({
  runtime: (device) => (device === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")),
});
