// What a report is made of: rollout and similarity against references, intervals, words, and markup from text.
import { afterAll, describe, expect, test } from "vitest";
import { createNodeDevice, loadModel } from "wecolora/node";
import { bootstrapInterval } from "../../src/evaluation/confidence.ts";
import { attentionViewer, rollout } from "../../src/evaluation/attention-rollout.ts";
import { centredKernelAlignment, layerSimilarity } from "../../src/evaluation/layer-similarity.ts";
import { findings } from "../../src/report/findings.ts";
import { html } from "../../src/report/html.ts";
import { attentionOverlay, sideBySide } from "../../src/report/overlay.ts";
import { resultTable, resultText } from "../../src/report/results.ts";
import { keptText } from "../../src/report/run-report.ts";
import { drawStream } from "../../src/utils/random.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { readReference, referencePath, relativeError } from "../support/reference.ts";

const device = createNodeDevice();
afterAll(() => device.dispose());

/** Normal numbers `[rows, columns]`, columns of very different size. */
function randomMatrix(rows: number, columns: number, seed: number): FloatTensor {
  const random = drawStream(seed, "matrix");
  const data = Float32Array.from({ length: rows * columns }, (_, i) => random.normal() * (1 + (i % columns)) + (i % 3));
  return { type: "float32", dims: [rows, columns], data };
}

test("says what a student keeps", () => {
  const half = { keptBlocks: [0, 2, 4], widths: "" };
  expect(keptText(half)).toBe("blocks 0, 2, 4 kept");
  expect(keptText({ ...half, teacherDepth: 6 })).toBe("blocks 0, 2, 4 of 6 kept");
  expect(keptText({ ...half, teacherDepth: 3, widths: "2 heads" })).toBe("all 3 blocks kept, each with 2 heads");
});

describe("attention rollout", () => {
  test.each(["max", "mean"] as const)("follows PyTorch, heads fused by their %s", async (fusion) => {
    const reference = await readReference("rollout.safetensors");
    for (const discard of ["0.0", "0.9"]) {
      const expected = reference.get(`${fusion}_${discard}`) as FloatTensor;
      const blocks = Array.from({ length: 6 }, (_, i) => {
        const { data, dims } = reference.get(`attention.${i}`) as FloatTensor;
        const [, heads, n] = dims;
        return Float32Array.from({ length: n * n }, (_, at) => {
          const values = Array.from({ length: heads }, (_, h) => data[h * n * n + at]);
          return fusion === "max" ? Math.max(...values) : values.reduce((a, b) => a + b) / heads;
        });
      });
      const map = rollout(blocks, { discard: Number(discard), prefix: 1 });
      expect(relativeError(map, expected.data), `${fusion} ${discard}`).toBeLessThan(1e-5);

      // And from the image on, through the model's own attention.
      const model = await loadModel(referencePath("teachers/timm-vit"), { device, numHeads: 4 });
      const viewer = await attentionViewer(model, { method: "rollout", fusion, discard: Number(discard) });
      const maps = await viewer.maps(reference.get("input") as FloatTensor);
      await viewer.dispose();
      await model.dispose();
      expect(maps.dims).toEqual([1, 16]);
      expect(relativeError(maps.data, expected.data), `${fusion} ${discard} from pixels`).toBeLessThan(1e-4);
    }
  });

  test("shows what the last block's class token looks at", async () => {
    const reference = await readReference("rollout.safetensors");
    const { data } = reference.get("attention.5") as FloatTensor;
    const model = await loadModel(referencePath("teachers/timm-vit"), { device, numHeads: 4 });
    const viewer = await attentionViewer(model, { method: "last-attention", fusion: "mean", discard: 0 });
    const maps = await viewer.maps(reference.get("input") as FloatTensor);
    const row = Array.from({ length: 16 }, (_, p) =>
      [0, 1, 2, 3].reduce((sum, h) => sum + data[h * 17 * 17 + 1 + p] / 4, 0),
    );
    expect(
      relativeError(
        maps.data,
        row.map((v) => v / Math.max(...row)),
      ),
    ).toBeLessThan(1e-4);
    await viewer.dispose();
    await model.dispose();
  });

  test("works without a class token", async () => {
    const model = await loadModel(referencePath("teachers/more-hf-siglip"), { device });
    const viewer = await attentionViewer(model);
    const { channels, imageSize } = model.config;
    const pixels = {
      ...randomMatrix(2 * channels * imageSize, imageSize, 3),
      dims: [2, channels, imageSize, imageSize],
    };
    const { data } = await viewer.maps(pixels);
    expect(Math.max(...data)).toBe(1);
    expect(data.every((v) => v >= 0 && v <= 1)).toBe(true);
    await viewer.dispose();
    await model.dispose();
  });
});

describe("similarity of layers", () => {
  /** Through features, in float64: |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms (arXiv 1905.00414, section 3). */
  function alignment(x: FloatTensor, y: FloatTensor): number {
    const centred = ({ dims: [n, d], data }: FloatTensor) => {
      const out = Float64Array.from(data);
      for (let c = 0; c < d; c++) {
        let mean = 0;
        for (let i = 0; i < n; i++) mean += out[i * d + c] / n;
        for (let i = 0; i < n; i++) out[i * d + c] -= mean;
      }
      return { n, d, out };
    };
    const square = (a: ReturnType<typeof centred>, b: ReturnType<typeof centred>) => {
      let sum = 0;
      for (let i = 0; i < a.d; i++) {
        for (let j = 0; j < b.d; j++) {
          let dot = 0;
          for (let r = 0; r < a.n; r++) dot += a.out[r * a.d + i] * b.out[r * b.d + j];
          sum += dot * dot;
        }
      }
      return sum;
    };
    const [a, b] = [centred(x), centred(y)];
    return square(a, b) / Math.sqrt(square(a, a) * square(b, b));
  }

  test("is the alignment that features give in float64, whatever the widths", async () => {
    const xs = [randomMatrix(40, 5, 1), randomMatrix(40, 12, 2)];
    const ys = [randomMatrix(40, 7, 3), xs[1]];
    const actual = await centredKernelAlignment(device, xs, ys);
    xs.forEach((x, i) => {
      ys.forEach((y, j) => expect(actual[i][j]).toBeCloseTo(alignment(x, y), 10));
    });
    // Of rotations and scales alignment knows nothing.
    const scaled = { ...xs[0], data: xs[0].data.map((v) => -3 * v) };
    expect((await centredKernelAlignment(device, [xs[0]], [scaled]))[0][0]).toBeCloseTo(1, 6);
    const flat = { ...xs[0], data: new Float32Array(xs[0].data.length).fill(2) };
    expect((await centredKernelAlignment(device, [flat], ys))[0]).toEqual([0, 0]);
  });

  test("of a model with itself is 1", async () => {
    const model = await loadModel(referencePath("teachers/timm-vit"), { device, numHeads: 4 });
    async function* batches() {
      for (const seed of [1, 2]) yield { ...randomMatrix(3 * 3 * 32, 32, seed), dims: [3, 3, 32, 32] };
    }
    const { cka, cosine, images, tokens } = await layerSimilarity(model, model, batches(), 6);
    expect([images, tokens]).toEqual([6, 6 * 17]);
    cka.forEach((row, i) => {
      expect(row[i]).toBeCloseTo(1, 10);
      expect(cosine?.[i][i]).toBeCloseTo(1, 6);
      row.forEach((value, j) => expect(value).toBeCloseTo(cka[j][i], 10));
    });
    await model.dispose();
  });
});

describe("intervals", () => {
  test("agree with the normal approximation where that holds", () => {
    const values = Array.from({ length: 400 }, (_, i) => Number(i % 4 === 0));
    const [low, high] = bootstrapInterval(values) as [number, number];
    const half = 1.96 * Math.sqrt((0.25 * 0.75) / 400);
    // Ends of 2,000 resamples vary by about a twentieth of the half width.
    expect(Math.abs(0.25 - half - low)).toBeLessThan(0.15 * half);
    expect(Math.abs(0.25 + half - high)).toBeLessThan(0.15 * half);
    expect(bootstrapInterval(values)).toEqual([low, high]);
  });

  test("cover the truth about as often as they say", () => {
    let covered = 0;
    for (let trial = 0; trial < 200; trial++) {
      const random = drawStream(trial, "coverage");
      const [low, high] = bootstrapInterval(Array.from({ length: 80 }, () => Number(random.uniform() < 0.4))) as [
        number,
        number,
      ];
      if (low <= 0.4 && 0.4 <= high) covered++;
    }
    // 95 % of 200 is 190, with a standard error of 3; the percentile method runs a little below at this size.
    expect(covered).toBeGreaterThan(178);
  });

  test("of one value there is none, of equal ones a point", () => {
    expect(bootstrapInterval([1])).toBeUndefined();
    expect(bootstrapInterval([1, 1, 1])).toEqual([1, 1]);
  });
});

test("findings claim no more than the figures", () => {
  const lines = findings([
    { metric: "knn", model: "student", than: "teacher", difference: -0.263, interval: [-0.317, -0.21] },
    { metric: "knn", model: "student", than: "weight copy", difference: 0.01, interval: [-0.023, 0.043] },
    { metric: "probe", model: "student", than: "teacher", difference: 0 },
  ]);
  expect(lines).toEqual([
    "k-NN accuracy: the student is 26.3 points below the teacher (95 % confidence interval 21.0 to 31.7), and 1.0 points above the weight copy (95 % confidence interval 2.3 below to 4.3 above: no difference shown on these images).",
    "Linear-probe accuracy: the student is equal to the teacher.",
  ]);
});

test("the result table marks the better of the small models, where one is", () => {
  const row = (name: string, top1: number, difference: number, ms: number) => ({
    name,
    knn: { top1, top5: 0.9, interval: [top1 - 0.05, top1 + 0.05] as const },
    fidelity: { meanAbsoluteDifference: difference, cosine: 0.5 },
    millisecondsPerImage: ms,
    millisecondsQuartiles: [ms - 0.5, ms + 0.5] as const,
  });
  const rows = [row("teacher", 0.9, 0, 20), row("weight copy", 0.4, 1.3, 10), row("student", 0.5, 1.1, 10.4)];
  expect(resultText(rows).rows).toEqual([
    ["teacher", "90.0 ", "0.000 ", "0.500 ", "20.0 "],
    ["weight copy", "40.0 ", "1.300 ", "0.500 ", "10.0 "],
    // Neither equal figures nor a clock's noise make a better one.
    ["student", "50.0*", "1.100*", "0.500 ", "10.4 "],
  ]);
  expect(resultTable(rows).rows[2].slice(1, 3).map(String)).toEqual(["**50.0 (45–55)**", "90.0"]);
});

test("markup from text shows the text", () => {
  const name = `<img src=x onerror="alert('1')">&amp;`;
  expect(html`<p title="${name}">${[name, 1]}${undefined}${html`<b>${name}</b>`}</p>`.text).toBe(
    '<p title="&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;">' +
      "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;1<b>&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;</b></p>",
  );
});

test("overlays are warm where a model looks, and stand side by side", () => {
  const image = { width: 8, height: 8, data: new Uint8Array(3 * 64).fill(128) };
  const overlay = attentionOverlay(image, [1, 0, 0, 0]);
  const pixel = (x: number, y: number) => Array.from(overlay.data.subarray(3 * (8 * y + x), 3 * (8 * y + x) + 3));
  expect(pixel(0, 0)[0]).toBeGreaterThan(pixel(0, 0)[2]);
  expect(pixel(7, 7)[2]).toBeGreaterThan(pixel(7, 7)[0]);
  const both = sideBySide([image, overlay], 2);
  expect([both.width, both.height]).toEqual([18, 8]);
  expect(Array.from(both.data.subarray(3 * 8, 3 * 10))).toEqual(new Array(6).fill(255));
  expect(Array.from(both.data.subarray(3 * 10, 3 * 18))).toEqual(Array.from(overlay.data.subarray(0, 24)));
});
