// Maps behind norms, refitted for what enters them: against sums and an elimination in plain loops.
import { describe, expect, test } from "vitest";
import type { FloatTensor } from "wecolora/node";
import { analyticDefaults, analyticStart, copyBlocks, loadModel, Model } from "wecolora/node";
import type { ModelDefinition } from "../../../src/models/definition.ts";
import { emptySums, ridgeOf } from "../../../src/engine/linalg/ridge.ts";
import { rows } from "../../../src/utils/tensor.ts";
import { eliminate } from "../../support/elimination.ts";
import { noise } from "../../support/noise.ts";
import { referencePath, relativeError } from "../../support/reference.ts";
import { differenceTo } from "../../support/students.ts";

const kept = [0, 2, 4];
const pixels = noise([60, 3, 32, 32], 1);
const ridge = 0.2;
// All tokens, so that what the sums are of is known here.
const settings = { ...analyticDefaults, ridges: [ridge], tokensPerUnknown: Infinity };
const width = 32;

async function* batches(size: number) {
  for (let i = 0; i < pixels.dims[0]; i += size) yield rows(pixels, i, i + size);
}

const weight = ({ weights }: ModelDefinition, name: string) => weights.get(name) as FloatTensor;

/** Tokens behind some block of a model. */
async function tokensBehind(model: ModelDefinition, block: number, device: Model["device"]): Promise<FloatTensor> {
  const running = new Model(model, device);
  const { hiddenStates } = await running.forward(pixels, { hiddenStates: true });
  await running.dispose();
  return hiddenStates?.[block + 1] as FloatTensor;
}

/** The model whose block gives what its attention half gives: its MLP adds nothing. */
function withoutMlp(model: ModelDefinition, block: number): ModelDefinition {
  const weights = new Map(model.weights);
  for (const part of ["weight", "bias"]) {
    const name = `blocks.${block}.mlp.fc2.${part}`;
    const old = weight(model, name);
    weights.set(name, { ...old, data: new Float32Array(old.data.length) });
  }
  return { ...model, weights };
}

/** Tokens behind a block's norm, as rows. */
function normed(model: ModelDefinition, norm: string, { data }: FloatTensor): Float64Array {
  const [scale, shift] = ["weight", "bias"].map((part) => weight(model, `${norm}.${part}`).data);
  const out = new Float64Array(data.length);
  for (let r = 0; r < data.length; r += width) {
    const row = data.subarray(r, r + width);
    const mean = row.reduce((a, b) => a + b, 0) / width;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
    for (let i = 0; i < width; i++)
      out[r + i] = ((row[i] - mean) / Math.sqrt(variance + model.config.normEpsilon)) * scale[i] + shift[i];
  }
  return out;
}

/** Delta `[width (+ 1), width]` that takes the student's rows to the teacher's, with or without a column of ones. */
function deltaOf(student: Float64Array, teacher: Float64Array, ones: boolean): Float64Array {
  const n = ones ? width + 1 : width;
  const sums = emptySums(n, width);
  for (let r = 0; r < student.length; r += width) {
    const g = [...student.subarray(r, r + width), ...(ones ? [1] : [])];
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) sums.gram[i * n + j] += g[i] * g[j];
      for (let j = 0; j < width; j++) sums.cross[i * width + j] += g[i] * (teacher[r + j] - student[r + j]);
    }
  }
  const ridges = ridgeOf(sums, ridge);
  for (let i = 0; i < n; i++) sums.gram[i * n + i] += ridges[i];
  return eliminate(n, width, sums.gram, sums.cross);
}

/** Rows of W (1 + Delta'), and Delta's part of the bias. */
function folded({ dims: [outputs], data }: FloatTensor, delta: Float64Array): { weight: Float64Array; bias: number[] } {
  const through = (o: number, i: number) => {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += data[o * width + k] * delta[i * width + k];
    return sum;
  };
  return {
    weight: Float64Array.from(data, (v, at) => v + through(Math.floor(at / width), at % width)),
    bias: Array.from({ length: outputs }, (_, o) => (delta.length > width * width ? through(o, width) : 0)),
  };
}

/** The teacher, its q, k and v without a bias. */
function withoutBias(teacher: Model): Model {
  const weights = new Map([...teacher.weights].filter(([name]) => !name.endsWith("qkv.bias")));
  return new Model({ ...teacher, config: { ...teacher.config, qkvBias: false }, weights }, teacher.device);
}

describe.each([
  ["with", (teacher: Model) => teacher],
  ["without", withoutBias],
])("on a teacher %s bias on q, k and v", (_, prepared) => {
  test("v and fc1 read the student's tokens as the teacher's read its own, by least squares", async () => {
    const teacher = prepared(await loadModel(referencePath("teachers/timm-vit")));
    const { device, config } = teacher;
    const { student, refits } = await analyticStart(teacher, kept, batches(10), {
      ...settings,
      maps: ["v", "fc1", "fc2"],
    });
    expect(refits.filter(({ map }) => map === "v").map(({ block }) => block)).toEqual([1, 2]);
    expect(refits.filter(({ map }) => map === "fc1").map(({ block }) => block)).toEqual([0, 1, 2]);

    const copy = copyBlocks(teacher, kept);
    const [old, made] = [copy, student].map((model) => weight(model, "blocks.1.attn.qkv.weight"));
    const vRows = (tensor: FloatTensor) => rows(tensor, 2 * width, 3 * width);
    expect(rows(made, 0, 2 * width).data).toEqual(rows(old, 0, 2 * width).data);
    const [studentTokens, wanted] = [await tokensBehind(student, 0, device), await tokensBehind(teacher, 1, device)];
    const delta = deltaOf(
      normed(student, "blocks.1.norm1", studentTokens),
      normed(teacher, "blocks.2.norm1", wanted),
      config.qkvBias,
    );
    const v = folded(vRows(old), delta);
    // Tokens and sums of a batch are float32.
    expect(relativeError(vRows(made).data, v.weight)).toBeLessThan(1e-4);
    expect(relativeError(vRows(made).data, vRows(old).data)).toBeGreaterThan(0.01);
    if (config.qkvBias) {
      const bias = (model: ModelDefinition) => [...weight(model, "blocks.1.attn.qkv.bias").data].slice(2 * width);
      const moved = bias(student).map((value, o) => value - bias(copy)[o]);
      expect(relativeError(moved, v.bias)).toBeLessThan(1e-3);
    }

    const middle = await Promise.all([
      tokensBehind(withoutMlp(student, 1), 1, device),
      tokensBehind(withoutMlp(teacher, 2), 2, device),
    ]);
    const fc1 = folded(
      weight(copy, "blocks.1.mlp.fc1.weight"),
      deltaOf(normed(student, "blocks.1.norm2", middle[0]), normed(teacher, "blocks.2.norm2", middle[1]), true),
    );
    expect(relativeError(weight(student, "blocks.1.mlp.fc1.weight").data, fc1.weight)).toBeLessThan(1e-4);
    await teacher.dispose();
  });
});

test("only maps that are asked for move, and each that moves brings other images nearer", async () => {
  const teacher = await loadModel(referencePath("teachers/hf-dinov2"));
  const copy = copyBlocks(teacher, kept);
  const heldOut = noise([8, 3, 32, 32], 77);
  const left: number[] = [];
  for (const maps of [["fc2"], ["proj", "fc2"], ["v", "proj", "fc1", "fc2"], ["q", "k"]] as const) {
    const { student } = await analyticStart(teacher, kept, batches(10), { ...settings, maps });
    const movedMaps = [...student.weights].filter(([name, { data }]) => {
      const before = copy.weights.get(name)?.data;
      return name.endsWith(".weight") && data.some((value, i) => value !== before?.[i]);
    });
    const expected = { "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2", "attn.qkv": "q" };
    const names = new Set(movedMaps.map(([name]) => name.replace(/^blocks\.\d+\.|\.weight$/g, "")));
    const behind = maps.some((map) => map === "v" || map === "q");
    for (const [name, map] of Object.entries(expected)) {
      const asked = map === "q" ? behind : map === "fc2" || (maps as readonly string[]).includes(map);
      expect([name, names.has(name)]).toEqual([name, asked]);
    }
    const model = new Model(student, teacher.device);
    left.push(await differenceTo(teacher, model, heldOut));
    await model.dispose();
  }
  expect(left[2]).toBeLessThan(left[1]);
  expect(left[1]).toBeLessThan(left[0]);
  await teacher.dispose();
});
