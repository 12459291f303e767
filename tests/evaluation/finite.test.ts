// NaN and infinity never become figures: models that give them are refused by name, and metrics count what can't be
// ordered as wrong.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  analyticStart,
  createDistillation,
  createNodeDevice,
  distill,
  evaluate,
  exportModel,
  features,
  inspect,
  loadModel,
  Model,
  rollout,
  saveModel,
  similarity,
  UserError,
} from "wecolora/node";
import { bootstrapInterval, resampled } from "../../src/evaluation/confidence.ts";
import { knnVotes, votesOf } from "../../src/evaluation/knn.ts";
import { fitLogistic } from "../../src/evaluation/logistic.ts";
import {
  absoluteDifferences,
  aurocs,
  mean,
  noClass,
  predictions,
  rowCosines,
  sameAnswers,
  topAccuracy,
} from "../../src/evaluation/metrics.ts";
import { probeDefaults, trainProbe } from "../../src/evaluation/probe.ts";
import { centredKernelAlignment } from "../../src/evaluation/layer-similarity.ts";
import { firstNotFinite } from "../../src/utils/finite.ts";
import { randomStream } from "../../src/utils/random.ts";
import type { FloatTensor } from "../../src/utils/tensor.ts";
import { noiseImage } from "../support/cli.ts";
import { messagesInto } from "../support/progress.ts";
import { referencePath } from "../support/reference.ts";

const device = createNodeDevice();
const good = referencePath("teachers/timm-vit");
const weight = "blocks.2.mlp.fc1.weight";
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

/** A copy of a model with one number of a weight's replaced, as bytes: no code of ours reads or writes it. */
async function damagedCopy(name: string, value: number): Promise<string> {
  await cp(good, at(name), { recursive: true });
  const file = at(name, "model.safetensors");
  await rm(at(name, "model.pth"));
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Record<string, { data_offsets: number[] }>;
  bytes.writeFloatLE(value, 8 + length + header[weight].data_offsets[0] + 20);
  await writeFile(file, bytes);
  return at(name);
}

let bad: string;
let infinite: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-finite-"));
  bad = await damagedCopy("nan", Number.NaN);
  infinite = await damagedCopy("infinite", Number.POSITIVE_INFINITY);
  for (let i = 0; i < 12; i++)
    await noiseImage(at("data", ["a", "b"][i % 2], `p${String(i).padStart(2, "0")}.jpg`), i, i % 2);
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

/** The model's path, the output, an image of the data set, and the weight. */
const named = (path: string) =>
  new RegExp(
    `${path}.*(NaN|Infinity) in .*for the image ([ab]/)?p\\d\\d\\.jpg.*weight ${weight.replaceAll(".", "\\.")} holds (NaN|Infinity)`,
  );

const refused = async (run: Promise<unknown>, message: RegExp) => {
  const error: unknown = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  expect((error as Error).message).toMatch(message);
};

describe("a model whose weight holds NaN or infinity", () => {
  test("evaluate names model, first image and weight, with and without a teacher, cache and labels", async () => {
    for (const model of [bad, infinite]) {
      await refused(evaluate({ model, data: at("data"), cache: false }), named(model));
      await refused(evaluate({ model, data: at("data", "a"), cache: false }), named(model));
    }
    await refused(evaluate({ model: good, teacher: bad, data: at("data"), cache: false }), named(bad));
    await refused(evaluate({ model: bad, data: at("data"), cacheDir: at("cache") }), named(bad));
    // Nothing of it was kept for a second run to find.
    await refused(evaluate({ model: bad, data: at("data"), cacheDir: at("cache") }), named(bad));
  });

  test("features, similarity, rollout and export do, and write nothing", async () => {
    const data = at("data");
    await refused(features({ model: bad, data, out: at("rows.safetensors") }), named(bad));
    await expect(readFile(at("rows.safetensors"))).rejects.toThrow("ENOENT");
    await refused(similarity({ model: good, teacher: bad, data }), named(bad));
    await refused(similarity({ model: bad, teacher: good, data }), named(bad));
    await refused(rollout({ model: bad, data, out: at("looks") }), named(bad));
    await refused(exportModel({ model: bad, to: "onnx", data, out: at("exported") }), named(bad));
    await refused(inspect({ model: bad, data }), new RegExp(`${bad}.*${weight}`));
    const warnings: string[] = [];
    await inspect({ model: bad, onProgress: messagesInto(warnings) });
    expect(warnings.join("\n")).toContain(`The weight ${weight} of ${bad} holds NaN`);
  });

  test("distill refuses it as a teacher by every method, whatever it evaluates", async () => {
    const run = (out: string, more: object) =>
      distill({ teacher: bad, data: at("data"), out: at(out), evaluate: false, report: false, ...more });
    await refused(run("closed", {}), new RegExp(`${bad}.*block.*2.*closed form.*${weight}`));
    await refused(
      run("copied", { method: "weight-copy", keptBlocks: [0, 2] }),
      new RegExp(`written.*blocks.1.mlp.fc1`),
    );
    const trained = { recipe: "paper", rank: 2, steps: 2, effectiveBatch: 4 };
    await refused(run("looked", trained), named(bad));
    await refused(run("trained", { ...trained, evaluateSteps: 0, heldOut: 0 }), new RegExp(`${bad}.*${weight}`));
    await refused(run("views", { ...trained, evaluateSteps: 0, cachedCrops: 2 }), named(bad));
  });

  test("the closed form names the blocks, also where heads and channels are narrowed", async () => {
    const model = await loadModel(bad, { device });
    const random = randomStream(3, "pixels");
    const data = Float32Array.from({ length: 8 * 3 * 32 * 32 }, () => random.normal());
    const batches: FloatTensor[] = [{ type: "float32", dims: [8, 3, 32, 32], data }];
    const settings = { maps: ["v", "proj", "fc1", "fc2"], ridges: [0.2, 1], attentionStep: 0.5 } as const;
    for (const widths of [{}, { mlpWidth: 64, keptHeads: 2 }])
      await expect(
        analyticStart(model, [0, 2, 4], batches, { ...settings, tokensPerUnknown: 5, sweeps: 1, ...widths }),
      ).rejects.toThrow(/in blocks 2 to 3.*weight blocks\.2\.mlp\.fc1\.weight holds NaN/);
    await model.dispose();
  });

  test("a loss names the teacher's weight, and overflow without a bad weight is said to be that", async () => {
    const model = await loadModel(bad, { device });
    const pixels: FloatTensor = { type: "float32", dims: [2, 3, 32, 32], data: new Float32Array(2 * 3 * 32 * 32) };
    const distillation = await createDistillation(model, { rank: 2 });
    await expect(distillation.step([pixels])).rejects.toThrow(`its weight ${weight} holds NaN`);
    await distillation.dispose();
    await model.dispose();
    const whole = await loadModel(good, { device });
    const proj = whole.weights.get("blocks.5.mlp.fc2.weight") as FloatTensor;
    const huge = { ...proj, data: proj.data.map(() => 3e38) };
    const large = new Model(
      {
        ...whole,
        origin: { ...whole.origin, path: undefined },
        weights: new Map(whole.weights).set("blocks.5.mlp.fc2.weight", huge),
      },
      device,
    );
    const one: FloatTensor = { ...pixels, data: pixels.data.map((_, i) => Math.sin(i)) };
    await expect(large.outputs(one, ["pooled"], { images: ["first.jpg", "second.jpg"] })).rejects.toThrow(
      /for the image first\.jpg\. All its weights are finite, so numbers overflow/,
    );
    await large.dispose();
    const broken = { ...one, data: one.data.map((v, i) => (i === 3 * 32 * 32 ? Number.NaN : v)) };
    await expect(whole.outputs(broken, ["pooled"], { images: ["first.jpg", "second.jpg"] })).rejects.toThrow(
      /for the image second\.jpg\. The image's normalized pixels are not finite/,
    );
    const bias = whole.weights.get("head.bias") as FloatTensor;
    const wide = {
      ...whole,
      weights: new Map(whole.weights).set("head.bias", { ...bias, data: bias.data.map(() => 1e5) }),
    };
    await expect(saveModel(wide, at("half"), { weightType: "float16", format: "timm" })).rejects.toThrow(
      "its weight head.bias holds 100000, and float16 ends at 65504",
    );
    await whole.dispose();
  });
});

describe("metrics", () => {
  const scores = (...rows: number[][]): FloatTensor => ({
    type: "float32",
    dims: [rows.length, rows[0].length],
    data: Float32Array.from(rows.flat()),
  });
  const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

  test("finds the first value that is not finite", () => {
    expect(firstNotFinite([1, -2, 3e38, 0])).toBe(-1);
    expect(firstNotFinite([])).toBe(-1);
    for (const value of [nan, infinity, -infinity]) expect(firstNotFinite([1, value, nan])).toBe(1);
  });

  test("NaN and ties count as wrong, wherever the label stands", () => {
    for (const label of [0, 1, 2]) {
      expect(topAccuracy(scores([nan, nan, nan]), [label], 1)).toBe(0);
      expect(topAccuracy(scores([nan, nan, nan]), [label], 5)).toBe(0);
      expect(topAccuracy(scores([infinity, infinity, infinity]), [label], 5)).toBe(0);
      expect(topAccuracy(scores([2, 2, 2]), [label], 1)).toBe(0);
      expect(topAccuracy(scores([2, 2, 2]), [label], 2)).toBe(0);
      expect(topAccuracy(scores([2, 2, 2]), [label], 3)).toBe(1);
    }
    // A class that nothing voted for is not among the five, for all that no other got a vote either.
    expect(topAccuracy(scores([3, 0, 0, 0, 0, 0, 0]), [1], 5)).toBe(0);
    expect(topAccuracy(scores([3, 0, 0, 0, 0, 0, 0]), [0], 1)).toBe(1);
    expect(topAccuracy(scores([1, nan, 0]), [0], 1)).toBe(0);
    expect(topAccuracy(scores([1, 0, 0]), [0], 1)).toBe(1);
    expect(topAccuracy(scores([1, 2, 0], [5, 4, 6]), [0, 2], 1)).toBe(0.5);
  });

  test("turning the order of classes round changes nothing", () => {
    const random = randomStream(4, "ties");
    const rows = Array.from({ length: 200 }, () => Array.from({ length: 6 }, () => Math.floor(3 * random.uniform())));
    const labels = rows.map(() => Math.floor(6 * random.uniform()));
    const turned = rows.map((row) => [...row].reverse());
    for (const k of [1, 2, 5])
      expect(
        topAccuracy(
          scores(...turned),
          labels.map((label) => 5 - label),
          k,
        ),
      ).toBe(topAccuracy(scores(...rows), labels, k));
    const answers = predictions(scores(...rows));
    expect(predictions(scores(...turned))).toEqual(
      answers.map((answer) => (answer === noClass ? noClass : 5 - answer)),
    );
    const right = answers.filter((answer, i) => answer === labels[i]).length / labels.length;
    expect(topAccuracy(scores(...rows), labels, 1)).toBe(right);
  });

  test("rows without one highest score predict nothing and agree with nothing", () => {
    const rows = scores([1, 1, 0], [nan, nan, nan], [nan, 2, 1], [0, infinity, 1], [0, 2, 1]);
    expect(predictions(rows)).toEqual([noClass, noClass, noClass, noClass, 1]);
    expect(sameAnswers(rows, rows)).toEqual([false, false, false, false, true]);
  });

  test("features, differences, areas and intervals of NaN are errors", async () => {
    const rows = scores([1, 2], [3, nan], [0, 1]);
    const whole = scores([1, 2], [3, 4], [0, 1]);
    const targets = { kind: "class", count: 2, labels: [0, 1, 0] } as const;
    expect(() => rowCosines(rows, whole)).toThrow("value 2 of 3 is NaN");
    expect(() => absoluteDifferences(whole, rows)).toThrow("value 2 of 3 is NaN");
    expect(rowCosines(scores([0, 0]), scores([1, 2]))).toEqual([0]);
    expect(() => aurocs(rows, targets)).toThrow("Scores must be finite");
    expect(() => mean([])).toThrow("The mean of 0 values");
    expect(() => mean([1, infinity])).toThrow("must be a finite number");
    expect(() => bootstrapInterval([1, nan])).toThrow("must be finite");
    expect(() => resampled(3, 10, () => nan)).toThrow("must be a finite number");
    await expect(knnVotes(device, rows, targets, whole)).rejects.toThrow("Features of the bank");
    await expect(knnVotes(device, whole, targets, rows)).rejects.toThrow("Features of the queries");
    await expect(trainProbe(device, rows, targets, probeDefaults)).rejects.toThrow("Features of the linear probe");
    await expect(fitLogistic(device, rows, targets)).rejects.toThrow("Features of the logistic regression");
    await expect(centredKernelAlignment(device, [rows], [whole])).rejects.toThrow("must be finite");
  });

  test("votes at a very low temperature stay finite, in the same order", () => {
    const actual = [[0.99, 0.98, 0.5].map((value, index) => ({ index, similarity: value }))];
    const { data } = votesOf(actual, { kind: "class", count: 3, labels: [2, 1, 0] }, 1e-3);
    expect(firstNotFinite(data)).toBe(-1);
    expect(data[2]).toBeGreaterThan(data[1]);
    expect(data[1] / data[2]).toBeCloseTo(Math.exp(-10), 6);
  });
});
