// NIfTI volumes: the scan's numbers with slope and intercept, its axes turned to right, anterior, superior.
import { Gunzip } from "fflate";
import { isNIFTI, NIFTI1, readHeader } from "nifti-reader-js";
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

/** Files beyond this are refused, packed or not, so that a small one can't fill the memory. */
const largestVolume = 2 ** 31;
/** Head and foot of a gzip file. */
const leastPacked = 18;

function unpack(bytes: Uint8Array, name: string): Uint8Array {
  if (bytes.byteLength < leastPacked) throw new UserError(`${name} is cut off`);
  const parts: Uint8Array[] = [];
  let size = 0;
  let members = 1;
  const stream = new Gunzip((chunk) => {
    size += chunk.byteLength;
    if (size > largestVolume) throw new UserError(`${name} unpacks to more than 2 GiB`);
    parts.push(chunk);
  });
  stream.onmember = (offset) => {
    if (offset > 0) members++;
  };
  try {
    const step = 1 << 20;
    for (let at = 0; at < bytes.byteLength; at += step)
      stream.push(bytes.subarray(at, at + step), at + step >= bytes.byteLength);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${name} can't be unpacked (${(error as Error).message}); is it cut off?`);
  }
  // The last four bytes are the unpacked size; a file that is cut off ends in something else.
  const said = new DataView(bytes.buffer, bytes.byteOffset + bytes.byteLength - 4, 4).getUint32(0, true);
  if (members === 1 && said !== size % 2 ** 32) throw new UserError(`${name} is cut off`);
  const out = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.byteLength;
  }
  return out;
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
  const found: { axis: number; forward: boolean }[] = [];
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
    found[world] = { axis, forward: !(affine[world][axis] < 0) };
    free.world.delete(world);
    free.voxel.delete(axis);
  }
  return found;
}

function headerOf(buffer: ArrayBuffer, name: string) {
  if (buffer.byteLength < 348 || !isNIFTI(buffer)) throw new UserError(`${name} is no NIfTI volume`);
  try {
    return readHeader(buffer);
  } catch (error) {
    throw new UserError(`${name} is no NIfTI volume that can be read (${(error as Error).message})`);
  }
}

/**
 * Reads a volume of NIfTI-1 or NIfTI-2, gzipped or not; a fourth dimension is taken as channels. Throws a UserError that
 * names the file where it is none, is cut off, or holds numbers of a kind that scans don't have.
 */
export function readNifti(file: Uint8Array, name: string): Volume {
  const bytes = file[0] === 0x1f && file[1] === 0x8b ? unpack(file, name) : file;
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  const header = headerOf(buffer, name);
  const { dims, pixDims, datatypeCode, littleEndian } = header;
  const rank = dims[0];
  const sizes = [1, 2, 3, 4].map((i) => (i <= rank ? dims[i] : 1));
  const rest = dims.slice(5, rank + 1).every((d) => d === 1);
  if (!(rank >= 3 && rank <= 7) || !rest || sizes.some((d) => !(Number.isInteger(d) && d >= 1)))
    throw new UserError(`${name} has the size ${dims.slice(1, Math.max(1, rank) + 1).join(" x ")}; a volume is needed`);
  const reader = readers[datatypeCode];
  if (!reader) throw new UserError(`${name} holds numbers of NIfTI's type ${datatypeCode}, which is not read here`);
  const count = sizes.reduce((a, b) => a * b, 1);
  const offset = Math.round(header.vox_offset);
  if (!(offset >= 348) || offset + count * reader.bytes > buffer.byteLength) {
    throw new UserError(
      `${name} is too short: ${sizes.join(" x ")} numbers of ${reader.bytes} bytes from ${offset} on don't fit into ${buffer.byteLength} bytes`,
    );
  }
  // A slope of 0 means that there is none.
  const scales = Number.isFinite(header.scl_slope) && header.scl_slope !== 0;
  const [slope, intercept] = scales ? [header.scl_slope, header.scl_inter] : [1, 0];
  const view = new DataView(buffer);
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const value = reader.read(view, offset + i * reader.bytes, littleEndian) * slope + intercept;
    data[i] = Number.isFinite(value) ? value : 0;
  }
  const axes = orientation(header.affine);
  const steps = [1, sizes[0], sizes[0] * sizes[1]];
  const plane = steps[2] * sizes[2];
  const [ax, ay, az] = axes.map(({ axis, forward }) => ({
    step: forward ? steps[axis] : -steps[axis],
    origin: forward ? 0 : (sizes[axis] - 1) * steps[axis],
  }));
  const origin = ax.origin + ay.origin + az.origin;
  const sized = axes.map(({ axis }) => sizes[axis]);
  const spaced = axes.map(({ axis }) => Math.abs(pixDims[axis + 1]) || 1);
  return {
    name,
    dims: sized as unknown as Volume["dims"],
    spacing: spaced as unknown as Volume["spacing"],
    channels: sizes[3],
    at: (x, y, z, channel = 0) => data[channel * plane + origin + x * ax.step + y * ay.step + z * az.step],
  };
}
