// Unpacking of parquet's pages within bounds: a page of a few bytes may say that it becomes gigabytes, and become more.
import { Gunzip } from "fflate";
import type { Compressors } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { mostInflated, pumpInflated } from "../files/inflate.ts";

/** Unpacked bytes of one page. */
const largestPage = 2 ** 29;
/** Unpacked bytes of all pages of one read: the pages of a column within a group of rows. */
const largestRead = 2 ** 31;
/** Zstandard's blocks become no more (RFC 8878). */
const zstdBlock = 2 ** 17;

function gunzipBounded(input: Uint8Array, length: number): Uint8Array {
  if (length > mostInflated(input.length))
    throw new RangeError(`a page of ${input.length} bytes can't become ${length}`);
  const out = new Uint8Array(length);
  let at = 0;
  const isWhole = pumpInflated(new Gunzip(), input, (chunk) => {
    if (at + chunk.length > length) return false;
    out.set(chunk, at);
    at += chunk.length;
    return true;
  });
  if (!isWhole || at !== length) throw new RangeError(`a page becomes other than the ${length} bytes stated`);
  return out;
}

/** The decoder takes what frames say of their length, so they are looked through before. */
function checkZstd(input: Uint8Array, length: number): void {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const fail = () => {
    throw new RangeError(`a page becomes other than the ${length} bytes stated`);
  };
  let stated = 0;
  let most = 0;
  for (let at = 0; at < input.length;) {
    const magic = view.getUint32(at, true);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + view.getUint32(at + 4, true);
      continue;
    }
    if (magic !== 0xfd2fb528) fail();
    const flags = input[at + 4];
    const isSingle = (flags & 0x20) !== 0;
    const window = isSingle ? 0 : 2 ** (10 + (input[at + 5] >> 3)) * (1 + (input[at + 5] & 7) / 8);
    at += 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][flags & 3];
    const bytes = [isSingle ? 1 : 0, 2, 4, 8][flags >> 6];
    if (bytes === 1) stated += input[at];
    else if (bytes === 2) stated += view.getUint16(at, true) + 256;
    else if (bytes === 4) stated += view.getUint32(at, true);
    else if (bytes === 8) stated += Number(view.getBigUint64(at, true));
    at += bytes;
    if (stated > length || window > largestPage) fail();
    for (let isLast = false; !isLast;) {
      const header = view.getUint16(at, true) | (input[at + 2] << 16);
      isLast = (header & 1) !== 0;
      const [kind, size] = [(header >> 1) & 3, header >>> 3];
      at += 3 + (kind === 1 ? 1 : size);
      most += kind === 2 ? zstdBlock : size;
      if (at > input.length || most > Math.max(2 * length, largestPage)) fail();
    }
    at += flags & 4 ? 4 : 0;
  }
}

/** hyparquet's decompressors for one read, with bounds on each page and on all together. */
export function boundedCompressors(): Compressors {
  let total = 0;
  const bounded = Object.entries(compressors).map(([name, unpack]) => [
    name,
    (input: Uint8Array, length: number) => {
      total += length;
      if (!(length >= 0 && length <= largestPage && total <= largestRead))
        throw new RangeError(`a page of ${length} bytes is more than is unpacked`);
      if (name === "GZIP") return gunzipBounded(input, length);
      if (name === "ZSTD") checkZstd(input, length);
      return unpack(input, length);
    },
  ]);
  return Object.fromEntries(bounded) as Compressors;
}
