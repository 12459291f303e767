// Bilinear resizing as matrices: what the operator computes, and what its gradient multiplies by.

/** Where a resized place lies in the original: corners on corners (PyTorch's align_corners), or pixels as areas. */
export type Coordinates = "align_corners" | "half_pixel";

/** `[to, from]`, row by row: the share of each old place in each new one; rows sum to 1. */
export function interpolationMatrix(from: number, to: number, coordinates: Coordinates): Float64Array {
  const out = new Float64Array(to * from);
  for (let i = 0; i < to; i++) {
    const place =
      coordinates === "half_pixel" ? ((i + 0.5) * from) / to - 0.5 : to > 1 ? (i * (from - 1)) / (to - 1) : 0;
    const at = Math.max(0, Math.min(from - 1, place));
    const low = Math.min(from - 1, Math.floor(at));
    const share = at - low;
    out[i * from + low] += 1 - share;
    if (share > 0) out[i * from + low + 1] += share;
  }
  return out;
}
