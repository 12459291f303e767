// Weights that rest in a file while models run: ONNX Runtime maps it into memory, once for all sessions, instead of copying it.
//
// Distilling, comparing, evaluating and taking features let large weights rest (`Model.rest`): they are written once,
// as float32, into a file of the system's temporary folder, and leave JavaScript's memory. Sessions map that file
// where each would have a copy of its own. `utils/offloaded.ts` says what such a tensor is: its `data` reads the file
// (the last 64 MiB are kept until the event loop goes on), so code that only wants a size asks `dims`
// (`elementCount`, `byteCount`), and passes tell weights apart by `wholeOf`, not by their memory.
// `platform/node/offload.ts` keeps the file for as long as a tensor in it can be reached, and removes what killed
// processes left. ONNX Runtime takes weights from files or from memory, not both: where most of a graph's rest, the
// others stand in the model (`engine/onnx/write-model.ts`). On disks without room weights stay in memory.
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readSync, realpathSync, rmSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunError } from "../../utils/errors.ts";
import type { OffloadedFile } from "../../utils/offloaded.ts";
import { offloadedRange, offloadedTensor } from "../../utils/offloaded.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { byteCount, elementCount, tensorBytes } from "../../utils/tensor.ts";
import { leftBehind } from "./collect-garbage.ts";
import { writeChunk } from "./node-files.ts";
import { isAlive, machineId } from "./process-identity.ts";

/** Smaller tensors stay in memory. */
const offloadFrom = 4096;
/** Where tensors begin in the file: at pages, as they are mapped. */
const alignment = 4096;

interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
}

/** Closes a file and removes it. Windows keeps what a session has mapped; that goes at the end. */
async function discard({ path, handle }: OpenFile): Promise<void> {
  try {
    await handle.close();
    rmSync(path, { force: true });
  } catch {
    // See above.
  }
}

const forgotten = new FinalizationRegistry<OpenFile>((file) => void discard(file));

let scratch: string | undefined;

/** A folder of this process for such files, removed at its end. */
function scratchFolder(): string {
  if (scratch !== undefined) return scratch;
  const folder = scratchPath();
  mkdirSync(folder, { mode: 0o700 });
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  scratch = folder;
  return folder;
}

/** An unused path in the system's temporary folder, which says whose it is; what killed processes left there goes. */
export function scratchPath(): string {
  const here = `wecolora-${machineId()}-`;
  // ONNX Runtime compares paths without links.
  const folders = realpathSync(tmpdir());
  removeOrphans(folders, here);
  return join(folders, `${here}${process.pid}-${randomBytes(4).toString("hex")}`);
}

/** Removes what processes left that were killed. */
function removeOrphans(folders: string, prefix: string): void {
  for (const name of readdirSync(folders)) {
    const [, pid] = name.startsWith(prefix) ? (/^(\d+)-/.exec(name.slice(prefix.length)) ?? []) : [];
    if (pid === undefined || isAlive(Number(pid))) continue;
    try {
      rmSync(join(folders, name), { recursive: true, force: true });
    } catch {
      // Another user's.
    }
  }
}

/** See `Device.rest`. */
export async function offloadWeights(weights: ReadonlyMap<string, FloatTensor>): Promise<Map<string, FloatTensor>> {
  const moved = [...weights].filter(([, tensor]) => byteCount(tensor) >= offloadFrom && !offloadedRange(tensor));
  if (moved.length === 0) return new Map(weights);
  let opened: OpenFile | undefined;
  try {
    const file: OffloadedFile = { folder: scratchFolder(), name: `weights-${randomBytes(4).toString("hex")}` };
    const path = join(file.folder, file.name);
    opened = { path, handle: await open(path, "wx+", 0o600) };
    const offloaded = new Map(weights);
    let offset = 0;
    for (const [name, tensor] of moved) {
      offset = Math.ceil(offset / alignment) * alignment;
      const bytes = tensorBytes(tensor);
      await writeChunk(opened.handle, bytes, offset);
      offloaded.set(name, lying(tensor, file, opened.handle.fd, offset));
      offset += bytes.byteLength;
    }
    forgotten.register(file, opened);
    leftBehind(offset, "old");
    return offloaded;
  } catch {
    // No room, or no folder to write to: memory does as well.
    if (opened) await discard(opened);
    return new Map(weights);
  }
}

/** A tensor as it lies in the file. */
function lying({ dims }: FloatTensor, file: OffloadedFile, descriptor: number, offset: number): FloatTensor {
  const read = () => {
    const data = new Float32Array(elementCount(dims));
    const bytes = new Uint8Array(data.buffer);
    for (let at = 0; at < bytes.byteLength;) {
      const count = readSync(descriptor, bytes, at, bytes.byteLength - at, offset + at);
      if (count === 0)
        throw new RunError(`${join(file.folder, file.name)}, which holds offloaded weights, was truncated`, {
          code: "FILE_NOT_READABLE",
        });
      at += count;
    }
    return data;
  };
  const key = {};
  return offloadedTensor("float32", dims, { file, offset }, () => recent.get(key, read));
}

/**
 * What was read last, so many bytes at most, until the event loop goes on: who looks at a tensor number by number must not read it
 * for each. (Weak references would hold all that is read in one go.)
 */
class RecentlyRead {
  private readonly most = 64 * 2 ** 20;
  private readonly cache = new Map<object, Float32Array>();
  private bytes = 0;

  get(key: object, read: () => Float32Array): Float32Array {
    const cached = this.cache.get(key);
    if (cached) return cached;
    const data = read();
    leftBehind(data.byteLength, "old");
    if (this.cache.size === 0) setImmediate(() => this.clear());
    if (this.bytes + data.byteLength > this.most) this.clear();
    this.cache.set(key, data);
    this.bytes += data.byteLength;
    return data;
  }

  private clear(): void {
    this.cache.clear();
    this.bytes = 0;
  }
}

const recent = new RecentlyRead();
