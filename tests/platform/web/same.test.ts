// `wecolora/web` over onnxruntime-web on Node does what `wecolora/node` does.
import { describePlatform } from "../../support/same-behaviour.ts";
import { webPlatform } from "../../support/platforms.ts";

// Both run the same kernels' float32 arithmetic, with other widths of vectors.
describePlatform("onnxruntime-web on Node", async (folders) => webPlatform(folders), { features: 1e-5, student: 1e-3 });
