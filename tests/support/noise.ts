import type { FloatTensor } from "wecolora/node";
import { drawStream } from "../../src/utils/random.ts";
import { elementCount } from "../../src/utils/tensor.ts";

/** Normal numbers, from the stream that is named. */
export function noise(dims: readonly number[], ...stream: Parameters<typeof drawStream>): FloatTensor {
  const random = drawStream(...stream);
  return { type: "float32", dims, data: Float32Array.from({ length: elementCount(dims) }, () => random.normal()) };
}
