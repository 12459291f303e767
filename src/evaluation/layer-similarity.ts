// How alike the layers of two models are: linear centred kernel alignment (arXiv 1905.00414, eq. 4) and cosine.
import { compile } from "../engine/compile.ts";
import { cast, graph, input, matmul, reduceMean, sub, transposeLast } from "../engine/graph/build.ts";
import type { Model } from "../models/model.ts";
import { prefixCount } from "../models/config.ts";
import type { Device } from "../runtime/device.ts";
import { UserError } from "../utils/errors.ts";
import { requireFinite } from "../utils/finite.ts";
import { drawStream } from "../utils/random.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, zeros } from "../utils/tensor.ts";
import { mean, rowCosines } from "./metrics.ts";

export interface LayerSimilarity {
  /** `[student's blocks][teacher's blocks]`, from 0 to 1. */
  readonly cka: readonly (readonly number[])[];
  /** Mean cosine of tokens, where both models have the same width. */
  readonly cosine?: readonly (readonly number[])[];
  /** Tokens that were compared, and the images that they come from. */
  readonly tokens: number;
  readonly images: number;
}

/** Normalised images `[B, 3, H, W]` with their names. */
export interface ImageBatch {
  readonly pixels: FloatTensor;
  readonly images: readonly string[];
}

/** Rows that alignment is computed from: its kernels are square in them. */
const mostRows = 1024;

/**
 * Linear centred kernel alignment of each of `xs` with each of `ys`, matrices `[n, D]` of the same n rows in the same
 * order; in float64. A matrix whose rows are all alike has no alignment and gives 0. Throws a RunError where a matrix is not
 * finite.
 */
export async function centredKernelAlignment(
  device: Device,
  xs: readonly FloatTensor[],
  ys: readonly FloatTensor[],
): Promise<number[][]> {
  const [left, right] = [await kernels(device, xs), await kernels(device, ys)];
  const product = (a: Float64Array, b: Float64Array) => {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
    return sum;
  };
  const norms = (list: readonly Float64Array[]) => list.map((k) => Math.sqrt(product(k, k)));
  const [a, b] = [norms(left), norms(right)];
  requireFinite([...a, ...b], "The norms of the layers' kernels");
  return left.map((k, i) => right.map((l, j) => (a[i] > 0 && b[j] > 0 ? product(k, l) / (a[i] * b[j]) : 0)));
}

/** X X' of each matrix after its columns' means are subtracted. */
async function kernels(device: Device, matrices: readonly FloatTensor[]): Promise<Float64Array[]> {
  const grams: Float64Array[] = [];
  const widths = new Set(matrices.map(({ dims }) => dims[1]));
  for (const width of widths) {
    const x = input("x", "float32", ["n", width]);
    const wide = cast(x, "float64");
    const centred = sub(wide, reduceMean(wide, [0], true));
    const session = await compile(graph([x], { kernel: matmul(centred, transposeLast(centred)) }), device);
    try {
      for (const [i, matrix] of matrices.entries()) {
        if (matrix.dims[1] !== width) continue;
        const { tensors } = await session.run({ feeds: { x: matrix }, fetch: ["kernel"] });
        grams[i] = tensors.kernel.data as Float64Array;
      }
    } finally {
      await session.dispose();
    }
  }
  return grams;
}

/** Rows of `[B, N, D]` that stand for each image: the class token, where both have one, and patches, by their places. */
function chosenRows(tokens: FloatTensor, model: Model, patches: readonly number[], withClass: boolean): FloatTensor {
  const [batch, count, width] = tokens.dims;
  const front = prefixCount(model.config);
  const places = [...(withClass ? [0] : []), ...patches.map((p) => front + p)];
  const out = zeros([batch * places.length, width]);
  for (let b = 0; b < batch; b++) {
    places.forEach((place, i) => {
      const from = (b * count + place) * width;
      out.data.set(tokens.data.subarray(from, from + width), (b * places.length + i) * width);
    });
  }
  return out;
}

/**
 * Compares each block's output in a student with each block's in a teacher, over batches of normalised images
 * `[B, 3, H, W]`; `images` says how many there will be. Tokens are drawn so that about a thousand rows are compared.
 * Throws a UserError where the models cut images into different patches, or there is no image.
 */
export async function layerSimilarity(
  student: Model,
  teacher: Model,
  batches: AsyncIterable<FloatTensor | ImageBatch>,
  images: number,
): Promise<LayerSimilarity> {
  const gridOf = ({ config }: Model) => Math.floor(config.imageSize / config.patchSize);
  if (gridOf(student) !== gridOf(teacher)) {
    throw new UserError(
      `The models cut images into different patches (${gridOf(student)}x${gridOf(student)} and ${gridOf(teacher)}x${gridOf(teacher)}), so their tokens can't be compared`,
    );
  }
  const withClass = [student, teacher].every(({ config }) => config.prefix[0]?.weight === "cls_token");
  const perImage = Math.max(1, Math.floor(mostRows / Math.max(1, images)) - (withClass ? 1 : 0));
  const all = Array.from({ length: gridOf(teacher) ** 2 }, (_, i) => i);
  const patches = drawStream(0, "similarity").shuffle(all).slice(0, perImage);
  const collected = [student, teacher].map((model) =>
    Array.from({ length: model.config.depth }, (): FloatTensor[] => []),
  );
  let seen = 0;
  for await (const given of batches) {
    const { pixels, images } = "pixels" in given ? given : { pixels: given, images: undefined };
    for (const [m, model] of [student, teacher].entries()) {
      const subject = { model: m === 0 ? "student" : "teacher", images };
      const { hiddenStates } = await model.forward(pixels, { hiddenStates: true, ...subject });
      hiddenStates?.slice(1).forEach((tokens, i) => {
        collected[m][i].push(chosenRows(tokens, model, patches, withClass));
      });
    }
    seen += pixels.dims[0];
  }
  if (seen === 0) throw new UserError("None of the images to compare layers on can be read", { code: "NO_IMAGES" });
  const [ours, theirs] = collected.map((blocks) => blocks.map(concatRows));
  const cka = await centredKernelAlignment(teacher.device, ours, theirs);
  const cosine =
    student.config.width === teacher.config.width
      ? ours.map((a) => theirs.map((b) => mean(rowCosines(a, b))))
      : undefined;
  return { cka, cosine, tokens: ours[0].dims[0], images: seen };
}
