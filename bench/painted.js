// Procedural images as models see them, for benchmarks.

/** Pixels of an image of 256: the middle, normalised. */
function pixelsOf({ width, height, data }, { cropSize: side, mean, std }) {
  const [left, top] = [(width - side) >> 1, (height - side) >> 1];
  const out = new Float32Array(3 * side * side);
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++)
        out[(c * side + y) * side + x] = (data[3 * ((top + y) * width + left + x) + c] / 255 - mean[c]) / std[c];
  return out;
}

/** `count` images that `image` makes, by their numbers, batch by batch `[B, 3, H, W]`. */
export function* paintedBatches(count, image, preprocessing, size = 15) {
  const side = preprocessing.cropSize;
  for (let from = 0; from < count; from += size) {
    const crops = Array.from({ length: Math.min(size, count - from) }, (_, i) =>
      pixelsOf(image(from + i), preprocessing),
    );
    const data = new Float32Array(crops.length * 3 * side * side);
    crops.forEach((crop, i) => data.set(crop, i * 3 * side * side));
    yield { type: "float32", dims: [crops.length, 3, side, side], data };
  }
}
