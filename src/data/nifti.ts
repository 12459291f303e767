// NIfTI volumes: the scan's numbers with slope and intercept, its axes turned to right, anterior, superior.
import { Gunzip } from "fflate";
import { isNIFTI, NIFTI1, readHeader } from "nifti-reader-js";
import { mostInflated, pumpInflated } from "../files/inflate.ts";
import { UserError } from "../utils/errors.ts";

/** Axes count from left to right, from back to front, from below to above; voxels of each channel lie in `data`. */
export interface Volume {
  /** The name that messages use. */
  readonly name: string;
  readonly dims: readonly [number, number, number];
  /** Millimetres from voxel to voxel along each axis. */
  readonly spacing: readonly [number, number, number];
  readonly channels: number;
  /** The number at a place. */
  at(x: number, y: number, z: number, channel?: number): number;
}

/** Bytes of the largest volume: 512 x 512 x 1024 voxels of 4 bytes. */
const largestVolume = 2 ** 30;
/** Room for a header with its extensions, and for what a writer may leave behind the voxels. */
const slack = 2 ** 24;
/** Bytes of the longest file, packed or not. */
export const longestScan = largestVolume + slack;
/** Head and foot of a gzip file. */
const leastPacked = 18;
/** Bytes that are enough to know how many follow: NIfTI-2's header. */
const headerBytes = 540;

/** Unpacks no more than the volume's own header asks for. */
function unpack(packed: Uint8Array, name: string): Uint8Array {
  if (packed.byteLength < leastPacked) throw new UserError(`${name} is cut off`, { code: "INVALID_DATA" });
  // The last four bytes are the unpacked size; a file that is cut off ends in something else.
  const stated = new DataView(packed.buffer, packed.byteOffset + packed.byteLength - 4, 4).getUint32(0, true);
  const head = new Uint8Array(headerBytes);
  let out: Uint8Array | undefined;
  let size = 0;
  let members = 1;
  const stream = new Gunzip();
  stream.onmember = (offset) => {
    if (offset > 0) members++;
  };
  const take = (chunk: Uint8Array) => {
    if (size < headerBytes) head.set(chunk.subarray(0, headerBytes - size), size);
    const from = size;
    size += chunk.byteLength;
    if (size < headerBytes) return true;
    if (!out) {
      const { end, shape } = layoutOf(head, name);
      if (end > mostInflated(packed.length))
        throw new UserError(`${name} is too short: ${shape} don't fit into ${packed.length} packed bytes`, {
          code: "INVALID_DATA",
        });
      out = new Uint8Array(end);
      out.set(head.subarray(0, Math.min(headerBytes, end)));
    }
    if (from < out.length) out.set(chunk.subarray(0, out.length - from), from);
    return size <= out.length + slack;
  };
  let isWhole: boolean;
  try {
    isWhole = pumpInflated(stream, packed, take);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${name} can't be unpacked (${(error as Error).message}); is it cut off?`, {
      code: "INVALID_DATA",
    });
  }
  if (!isWhole)
    throw new UserError(`${name} unpacks to more than the ${out?.length} bytes that its header states`, {
      code: "INVALID_DATA",
    });
  if (members === 1 && stated !== size % 2 ** 32) throw new UserError(`${name} is cut off`, { code: "INVALID_DATA" });
  const unpacked = out ?? head;
  return size < unpacked.length ? unpacked.subarray(0, size) : unpacked;
}

type Reader = (view: DataView, offset: number, littleEndian: boolean) => number;

const readers: Readonly<Record<number, { readonly bytes: number; readonly read: Reader }>> = {
  [NIFTI1.TYPE_UINT8]: { bytes: 1, read: (v, o) => v.getUint8(o) },
  [NIFTI1.TYPE_INT8]: { bytes: 1, read: (v, o) => v.getInt8(o) },
  [NIFTI1.TYPE_INT16]: { bytes: 2, read: (v, o, e) => v.getInt16(o, e) },
  [NIFTI1.TYPE_UINT16]: { bytes: 2, read: (v, o, e) => v.getUint16(o, e) },
  [NIFTI1.TYPE_INT32]: { bytes: 4, read: (v, o, e) => v.getInt32(o, e) },
  [NIFTI1.TYPE_UINT32]: { bytes: 4, read: (v, o, e) => v.getUint32(o, e) },
  [NIFTI1.TYPE_FLOAT32]: { bytes: 4, read: (v, o, e) => v.getFloat32(o, e) },
  [NIFTI1.TYPE_FLOAT64]: { bytes: 8, read: (v, o, e) => v.getFloat64(o, e) },
  [NIFTI1.TYPE_INT64]: { bytes: 8, read: (v, o, e) => Number(v.getBigInt64(o, e)) },
  [NIFTI1.TYPE_UINT64]: { bytes: 8, read: (v, o, e) => Number(v.getBigUint64(o, e)) },
};

/**
 * For each of right, anterior and superior, the voxel axis that runs most along it, and whether it runs that way: every
 * axis is used once, the clearest first.
 */
export function orientation(affine: readonly (readonly number[])[]): { axis: number; forward: boolean }[] {
  const axes: { axis: number; forward: boolean }[] = [];
  const free = { world: new Set([0, 1, 2]), voxel: new Set([0, 1, 2]) };
  while (free.world.size > 0) {
    let best: { world: number; voxel: number; share: number } | undefined;
    for (const world of free.world)
      for (const voxel of free.voxel) {
        const length = Math.hypot(...[0, 1, 2].map((row) => affine[row][voxel]));
        const share = length > 0 ? Math.abs(affine[world][voxel]) / length : 0;
        if (!best || share > best.share) best = { world, voxel, share };
      }
    const { world, voxel, share } = best as { world: number; voxel: number; share: number };
    // Where a matrix says nothing, axes stand in their usual order.
    const axis = share > 0 ? voxel : free.voxel.has(world) ? world : voxel;
    axes[world] = { axis, forward: !(affine[world][axis] < 0) };
    free.world.delete(world);
    free.voxel.delete(axis);
  }
  return axes;
}

function headerOf(buffer: ArrayBuffer, name: string) {
  if (buffer.byteLength < 348 || !isNIFTI(buffer))
    throw new UserError(`${name} is not a NIfTI volume`, { code: "INVALID_DATA" });
  try {
    return readHeader(buffer);
  } catch (error) {
    throw new UserError(`${name} is not a NIfTI volume that can be read (${(error as Error).message})`, {
      code: "INVALID_DATA",
    });
  }
}

/** What a header says of the voxels behind it. Throws a UserError where they are none that scans have, or too many. */
function layoutOf(bytes: Uint8Array, name: string) {
  const header = headerOf(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + headerBytes) as ArrayBuffer, name);
  const { dims, datatypeCode } = header;
  const rank = dims[0];
  const sizes = [1, 2, 3, 4].map((i) => (i <= rank ? dims[i] : 1));
  const rest = dims.slice(5, rank + 1).every((d) => d === 1);
  if (!(rank >= 3 && rank <= 7) || !rest || sizes.some((d) => !(Number.isInteger(d) && d >= 1)))
    throw new UserError(
      `${name} has the size ${dims.slice(1, Math.max(1, rank) + 1).join(" x ")}; a volume is needed`,
      { code: "INVALID_DATA" },
    );
  const reader = readers[datatypeCode];
  if (!reader)
    throw new UserError(`${name} holds numbers of NIfTI's type ${datatypeCode}, which is not read here`, {
      code: "INVALID_DATA",
    });
  const count = sizes.reduce((a, b) => a * b, 1);
  const offset = Math.round(header.vox_offset);
  const end = offset + count * reader.bytes;
  const shape = `${sizes.join(" x ")} numbers of ${reader.bytes} bytes`;
  if (count * reader.bytes > largestVolume)
    throw new UserError(`${name} holds ${shape}, more than the ${largestVolume} bytes that are read`, {
      code: "INVALID_DATA",
    });
  if (!(offset >= 348 && offset <= 348 + slack))
    throw new UserError(`${name} says that its numbers begin at ${offset}`, { code: "INVALID_DATA" });
  return { header, sizes, reader, count, offset, end, shape };
}

/**
 * Reads a volume of NIfTI-1 or NIfTI-2, gzipped or not; a fourth dimension is taken as channels. Throws a UserError that
 * names the file where it is none, is cut off, too large, or holds numbers of a kind that scans don't have.
 */
export function readNifti(file: Uint8Array, name: string): Volume {
  const bytes = file[0] === 0x1f && file[1] === 0x8b ? unpack(file, name) : file;
  const { header, sizes, reader, offset, end, shape } = layoutOf(bytes, name);
  const { pixDims, littleEndian } = header;
  if (end > bytes.byteLength) {
    throw new UserError(`${name} is too short: ${shape} from ${offset} on don't fit into ${bytes.byteLength} bytes`, {
      code: "INVALID_DATA",
    });
  }
  // A slope of 0 means that there is none.
  const scales = Number.isFinite(header.scl_slope) && header.scl_slope !== 0;
  const [slope, intercept] = scales ? [header.scl_slope, header.scl_inter] : [1, 0];
  // Numbers are read where they lie: all of them as floats would take up to four times the memory.
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { read, bytes: width } = reader;
  const numberAt = (index: number) => {
    const value = Math.fround(read(view, offset + index * width, littleEndian) * slope + intercept);
    return Number.isFinite(value) ? value : 0;
  };
  const axes = orientation(header.affine);
  const steps = [1, sizes[0], sizes[0] * sizes[1]];
  const plane = steps[2] * sizes[2];
  const [ax, ay, az] = axes.map(({ axis, forward }) => ({
    step: forward ? steps[axis] : -steps[axis],
    origin: forward ? 0 : (sizes[axis] - 1) * steps[axis],
  }));
  const origin = ax.origin + ay.origin + az.origin;
  const [nx, ny, nz] = axes.map(({ axis }) => sizes[axis]);
  const [sx, sy, sz] = axes.map(({ axis }) => Math.abs(pixDims[axis + 1]) || 1);
  return {
    name,
    dims: [nx, ny, nz],
    spacing: [sx, sy, sz],
    channels: sizes[3],
    at: (x, y, z, channel = 0) => numberAt(channel * plane + origin + x * ax.step + y * ay.step + z * az.step),
  };
}
