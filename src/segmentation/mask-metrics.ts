// How well predicted masks fit true ones: Dice, intersection over union, and the 95th percentile of the Hausdorff
// distance.

/** Undefined where a class is in neither mask. */
export interface Overlap {
  /** 2 |P and T| / (|P| + |T|) */
  readonly dice: number | undefined;
  /** |P and T| / |P or T| */
  readonly iou: number | undefined;
}

/** Dice and intersection over union of each class from 0 on, over all pixels given. */
export function overlaps(predicted: ArrayLike<number>, truth: ArrayLike<number>, classes: number): Overlap[] {
  const [both, inPredicted, inTruth] = [0, 1, 2].map(() => new Float64Array(classes));
  for (let i = 0; i < truth.length; i++) {
    inPredicted[predicted[i]]++;
    inTruth[truth[i]]++;
    if (predicted[i] === truth[i]) both[truth[i]]++;
  }
  return Array.from({ length: classes }, (_, k) => {
    const sum = inPredicted[k] + inTruth[k];
    return sum === 0
      ? { dice: undefined, iou: undefined }
      : { dice: (2 * both[k]) / sum, iou: both[k] / (sum - both[k]) };
  });
}

/** `[depth, height, width]`, slice by slice. */
export interface Mask {
  readonly dims: readonly [number, number, number];
  readonly data: Uint8Array;
}

/** Squared distances along a line to the nearest of what `cost` holds (Felzenszwalb and Huttenlocher 2012, section 2). */
function lower(cost: Float64Array, count: number, spacing: number, out: Float64Array): void {
  const places = new Int32Array(count);
  const bounds = new Float64Array(count + 1);
  let last = -1;
  const height = (q: number) => cost[q] + (q * spacing) ** 2;
  for (let q = 0; q < count; q++) {
    if (cost[q] === Number.POSITIVE_INFINITY) continue;
    let meet = Number.NEGATIVE_INFINITY;
    while (last >= 0) {
      const p = places[last];
      meet = (height(q) - height(p)) / (2 * spacing * spacing * (q - p));
      if (meet > bounds[last]) break;
      last--;
    }
    if (last < 0) meet = Number.NEGATIVE_INFINITY;
    places[++last] = q;
    bounds[last] = meet;
  }
  if (last < 0) {
    out.fill(Number.POSITIVE_INFINITY, 0, count);
    return;
  }
  for (let q = 0, k = 0; q < count; q++) {
    while (k < last && bounds[k + 1] < q) k++;
    out[q] = ((q - places[k]) * spacing) ** 2 + cost[places[k]];
  }
}

/** Squared distance of each voxel to the nearest that is set. */
function squaredDistances(set: Uint8Array, dims: Mask["dims"], spacing: readonly number[]): Float64Array {
  const field = Float64Array.from(set, (v) => (v ? 0 : Number.POSITIVE_INFINITY));
  const steps = [dims[1] * dims[2], dims[2], 1];
  const longest = Math.max(...dims);
  const [line, out] = [new Float64Array(longest), new Float64Array(longest)];
  for (const axis of [2, 1, 0]) {
    const [count, step] = [dims[axis], steps[axis]];
    for (let start = 0; start < field.length; start++) {
      if (Math.floor(start / step) % count !== 0) continue;
      for (let i = 0; i < count; i++) line[i] = field[start + i * step];
      lower(line, count, spacing[axis], out);
      for (let i = 0; i < count; i++) field[start + i * step] = out[i];
    }
  }
  return field;
}

/** Voxels of a class with a neighbour (of six) that is none; the volume's edge counts as none. */
function surface({ dims: [depth, height, width], data }: Mask, label: number): Uint8Array {
  const out = new Uint8Array(data.length);
  const is = (z: number, y: number, x: number) =>
    z >= 0 && y >= 0 && x >= 0 && z < depth && y < height && x < width && data[(z * height + y) * width + x] === label;
  for (let z = 0; z < depth; z++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (!is(z, y, x)) continue;
        const inner =
          is(z - 1, y, x) &&
          is(z + 1, y, x) &&
          is(z, y - 1, x) &&
          is(z, y + 1, x) &&
          is(z, y, x - 1) &&
          is(z, y, x + 1);
        if (!inner) out[(z * height + y) * width + x] = 1;
      }
  return out;
}

/** The value below which a share of sorted numbers lies, between neighbours in a straight line (NumPy's percentile). */
function percentile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(sorted.length - 1, low + 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

/**
 * The 95th percentile of the distances from each mask's surface to the other's, both ways together (MedPy's hd95), in
 * the unit of `spacing`. Undefined where a class is missing in either.
 */
export function hausdorff95(
  predicted: Mask,
  truth: Mask,
  label: number,
  spacing: readonly [number, number, number],
): number | undefined {
  const [ours, theirs] = [surface(predicted, label), surface(truth, label)];
  if (!ours.includes(1) || !theirs.includes(1)) return undefined;
  const [toOwn, toTheirs] = [ours, theirs].map((set) => squaredDistances(set, truth.dims, spacing));
  const distances: number[] = [];
  for (let i = 0; i < ours.length; i++) {
    if (ours[i]) distances.push(Math.sqrt(toTheirs[i]));
    if (theirs[i]) distances.push(Math.sqrt(toOwn[i]));
  }
  return percentile(Float64Array.from(distances).sort(), 0.95);
}
