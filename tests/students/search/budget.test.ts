// What students of each size cost: the frontier, and what fits a budget.
import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, Model, readDefinition } from "wecolora/node";
import { parameterCount } from "../../../src/models/definition.ts";
import { blocksWithin, plainFormat } from "../../../src/students/search/budget.ts";
import type { PricedModel, Proposal } from "../../../src/commands/proposal.ts";
import { blankOf, shapeFor, shapeKinds } from "../../../src/students/search/shape.ts";
import { noiseFolder, wecolora } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";

const device = inlineDevice();
const images = noise([6, 3, 32, 32], 99);
let folder: string;
beforeAll(async () => {
  folder = await noiseFolder("budget");
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

test("what there is at each price is measured and drawn: exports, merged tokens and shapes together", async () => {
  const out = join(folder, "frontier");
  const teacher = referencePath("teachers/hf-dinov2");
  const { code, out: text } = await wecolora(
    ...["inspect", teacher, "--data", join(folder, "data"), "--longest", "2", "--frontier", "--out", out, "--json"],
  );
  expect(code).toBe(0);
  const { blocks } = JSON.parse(text.trimEnd().split("\n").at(-1) as string);
  const points = blocks.frontier as PricedModel[];
  expect(points.map(({ bytes }) => bytes)).toEqual(points.map(({ bytes }) => bytes).sort((a, b) => a - b));
  for (const point of points) {
    expect(point.milliseconds).toBeGreaterThan(0);
    const cheaper = points.filter((p) => p !== point && p.bytes <= point.bytes);
    expect(point.bestForSize).toBe(cheaper.every((p) => p.loss >= point.loss));
  }
  // Each lever is tried: whole and smaller shapes, merged and unmerged tokens, floats, 8 bits and 4.
  expect(new Set(points.map(({ blockShare }) => blockShare === 1)).size).toBe(2);
  expect(new Set(points.map(({ merging }) => merging === undefined)).size).toBe(2);
  expect(new Set(points.map((p) => p.export))).toContain("onnx-int8");
  const fourBits = points.filter((p) => p.export === "onnx-q4").map(({ exportOptions }) => exportOptions?.blockSize);
  expect(new Set(fourBits)).toEqual(new Set([32, 64, 128]));
  const rows = (await readFile(join(out, "frontier.csv"), "utf8")).trimEnd().split("\n");
  expect(rows.length).toBe(1 + points.length);
  expect(await readFile(join(out, "frontier.svg"), "utf8")).toContain("megabytes of the file");
  expect((await readFile(join(out, "frontier.png"))).subarray(1, 4).toString()).toBe("PNG");
});

test("budgets count what a student of that shape really weighs", async () => {
  const teacher = await loadModel(referencePath("teachers/hf-dinov2"), { device });
  const { depth } = teacher.config;
  const half = plainFormat(teacher, "float16");
  const now = () => performance.now();
  for (const kind of shapeKinds) {
    const studentOf = (count: number) => blankOf(teacher, shapeFor(teacher, count, kind));
    const weights = Array.from({ length: depth }, (_, i) => parameterCount(studentOf(i + 1)));
    expect(weights).toEqual([...weights].sort((a, b) => a - b));
    for (let count = 1; count <= depth; count++) {
      const model = new Model(studentOf(count), device);
      const { pooled } = await model.outputs(images, ["pooled"]);
      expect(pooled.data.every(Number.isFinite)).toBe(true);
      await model.dispose();
      const within = (most: number) =>
        blocksWithin({ teacher, budget: { kind: "bytes", most }, format: half, studentOf, now });
      expect(await within(2 * weights[count - 1])).toBe(count);
      if (count > 1) expect(await within(2 * weights[count - 1] - 1)).toBe(count - 1);
    }
  }
  // A time that all can keep, and one that none can.
  const studentOf = (count: number) => blankOf(teacher, shapeFor(teacher, count, "balanced"));
  const inTime = (most: number) =>
    blocksWithin({ teacher, budget: { kind: "milliseconds", most }, format: half, studentOf, now });
  expect(await inTime(1e4)).toBe(depth);
  await expect(inTime(1e-4)).rejects.toThrow(/No student fits the budget: one block alone takes .* ms, all 6 take/);
  await teacher.dispose();
});

describe("a budget's proposal", () => {
  const teacher = referencePath("teachers/hf-dinov2");
  async function proposed(budget: string, ...more: string[]) {
    const data = join(folder, "data");
    const { code, out, err } = await wecolora(
      ...["inspect", teacher, "--data", data, "--longest", "2", "--budget", budget, ...more, "--json"],
    );
    expect([code, err]).toEqual([0, expect.anything()]);
    const { blocks } = JSON.parse(out.trimEnd().split("\n").at(-1) as string);
    return blocks.proposal as Proposal;
  }

  /** Runs a proposal's command, with these folders for its own. */
  async function run(command: string | undefined, folders: Readonly<Record<string, string>>) {
    const [name, ...args] = (command as string).split(" ");
    expect(name).toBe("wecolora");
    return wecolora(...args.map((word) => folders[word] ?? word));
  }

  test("of less than the teacher is made by its command, within the budget", async () => {
    const parameters = parameterCount(await readDefinition(teacher));
    const most = 0.45 * parameters;
    const proposal = await proposed(`${(most / 1e6).toFixed(6)}MB`, "--mean", "0.4,0.5,0.6");
    expect(proposal.bytes).toBeLessThanOrEqual(most);
    expect(proposal.blockShare).toBeLessThan(1);
    // What says how the model is to be read stands in the command too.
    expect(proposal.command).toContain("--mean 0.4,0.5,0.6");
    const out = join(folder, "proposed");
    const made = await run(proposal.command, { RUN: out });
    expect([made.code, made.err]).toEqual([0, expect.anything()]);
    const { deployment } = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    const files = await readdir(join(out, "exports", deployment.export, "onnx"));
    expect(files).toHaveLength(1);
    const { size } = await stat(join(out, "exports", deployment.export, "onnx", files[0]));
    expect(size).toBeLessThanOrEqual(most);
  });

  test("is an export of the teacher where that fits, and its command writes it", async () => {
    const parameters = parameterCount(await readDefinition(teacher));
    const most = 2.5 * parameters;
    const proposal = await proposed(`${(most / 1e6).toFixed(6)}MB`, "--std", "0.5,0.5,0.4");
    expect([proposal.blockShare, proposal.merging]).toEqual([1, undefined]);
    expect(proposal.command).toContain(`wecolora export --model ${teacher} --to ${proposal.export} --out SMALLER`);
    expect(proposal.command).toContain("--std 0.5,0.5,0.4");
    const out = join(folder, "smaller");
    const made = await run(proposal.command, { SMALLER: out });
    expect([made.code, made.err]).toEqual([0, expect.anything()]);
    const [file] = await readdir(join(out, "onnx"));
    expect((await stat(join(out, "onnx", file))).size).toBeLessThanOrEqual(most);
  });

  test("is the teacher as it is where that fits, and a message where nothing does", async () => {
    const plain = await proposed("1x");
    expect([plain.export, plain.command]).toEqual(["onnx", undefined]);
    // Its cosines are 1 but for their rounding.
    expect(plain.loss).toBeCloseTo(0, 12);
    const { code, err } = await wecolora(
      ...["inspect", teacher, "--data", join(folder, "data"), "--budget", "0.0001MB"],
    );
    expect([code, err]).toEqual([2, expect.stringContaining("No model fits the budget of 0.000 MB (the smallest is")]);
  });
});
