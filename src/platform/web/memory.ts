// How much memory a run in a browser needs, told beforehand. WASM has addresses of 32 bits.
import type { VitConfig } from "../../models/config.ts";
import { tokenCount } from "../../models/config.ts";
import { UserError } from "../../utils/errors.ts";

/** Bytes that WASM's memory can have at most. */
export const mostWasmBytes = 4 * 2 ** 30 - 2 ** 20;

/** Copies of the teacher's weights at a time: in WASM its own session, the refit's graphs and the student's session. */
const wasmCopies = 3;
/** In JavaScript: the teacher's weights, and the student's with what it is written from. */
const scriptCopies = 2;
/** Images that the closed form runs at once. */
const imagesAtOnce = 16;
/** Activations of so many blocks are there at a time. */
const blocksAtOnce = 3;
/** ONNX Runtime itself, and the page. */
const base = 200 * 2 ** 20;

export interface MemoryNeeded {
  /** Bytes in WASM's memory, of which there can be 4 GB. */
  readonly wasm: number;
  /** Bytes outside of it. */
  readonly script: number;
}

/** About how many bytes the closed form takes for a teacher and so many images. */
export function memoryNeeded(
  { config, parameters }: { readonly config: VitConfig; readonly parameters: number },
  images: number,
): MemoryNeeded {
  const tokens = tokenCount(config);
  const block = 11 * config.width + 2 * config.mlpWidth + config.heads * tokens;
  return {
    wasm: base + 4 * (wasmCopies * parameters + blocksAtOnce * imagesAtOnce * tokens * block),
    // The tokens that go from block to block, of the teacher and of the student.
    script: base + 4 * (scriptCopies * parameters + 2 * images * tokens * config.width),
  };
}

/** Throws a UserError where a run of this teacher can't fit into WASM's memory. */
export function checkMemory(teacher: Parameters<typeof memoryNeeded>[0], name: string): void {
  const { wasm } = memoryNeeded(teacher, 0);
  if (wasm <= mostWasmBytes) return;
  const gigabytes = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  throw new UserError(
    `${name} has ${(teacher.parameters / 1e6).toFixed(0)} million parameters: its run needs about ${gigabytes(wasm)} GB of WASM memory, and browsers have ${gigabytes(mostWasmBytes)} GB. Use the command line (npx wecolora distill).`,
    { code: "OUT_OF_MEMORY" },
  );
}
