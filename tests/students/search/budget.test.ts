// What students of each size cost: the frontier, and what fits a budget.
import { readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, Model, readDefinition } from "wecolora/node";
import { parameterCount } from "../../../src/models/definition.ts";
import { blocksWithin, plainFormat } from "../../../src/students/search/budget.ts";
import type { FrontierPoint } from "../../../src/students/search/frontier.ts";
import type { Proposal } from "../../../src/commands/proposal.ts";
import { blankOf, shapeFor, shapeKinds } from "../../../src/students/search/shape.ts";
import { noiseFolder, wecolora } from "../../support/cli.ts";
import { inlineDevice } from "../../support/device.ts";
import { noise } from "../../support/noise.ts";
import { referencePath } from "../../support/reference.ts";

const device = inlineDevice();
const pictures = noise([6, 3, 32, 32], 99);
let folder: string;
beforeAll(async () => {
  folder = await noiseFolder("budget");
});
afterAll(async () => {
  await device.dispose();
  await rm(folder, { recursive: true });
});

test("students of each size are measured, in 8 bits too, and drawn", async () => {
  const out = join(folder, "frontier");
  const teacher = referencePath("teachers/hf-dinov2");
  const { code, out: text } = await wecolora(
    ...["inspect", teacher, "--data", join(folder, "data"), "--longest", "2", "--frontier", "--out", out, "--json"],
  );
  expect(code).toBe(0);
  const { blocks } = JSON.parse(text.trimEnd().split("\n").at(-1) as string);
  const points = blocks.frontier as FrontierPoint[];
  // 1, 2, 3, 4 and 5 blocks' weights, and the teacher.
  expect(points.length).toBe(2 * 6);
  const plain = points.filter(({ format }) => format !== "int8");
  for (const point of points) {
    expect(point.milliseconds).toBeGreaterThan(0);
    expect(point.bytes).toBe(point.parameters * (point.format === "int8" ? 1 : 4));
    const cheaper = points.filter((p) => p !== point && p.bytes <= point.bytes);
    expect(point.bestForSize).toBe(cheaper.every((p) => p.difference >= point.difference));
  }
  const sizes = plain.map(({ parameters }) => parameters);
  expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
  const whole = plain.at(-1) as FrontierPoint;
  expect(whole.keptBlocks.length).toBe(6);
  expect(whole.difference).toBe(0);
  expect(plain[0].difference).toBeGreaterThan(plain.at(-2)?.difference as number);
  const rows = (await readFile(join(out, "frontier.csv"), "utf8")).trimEnd().split("\n");
  expect(rows.length).toBe(1 + points.length);
  expect(await readFile(join(out, "frontier.svg"), "utf8")).toContain("megabytes of weights");
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
      const { pooled } = await model.outputs(pictures, ["pooled"]);
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
    const { code, out } = await wecolora(
      ...["inspect", teacher, "--data", data, "--longest", "2", "--budget", budget, ...more, "--json"],
    );
    expect(code).toBe(0);
    const { blocks } = JSON.parse(out.trimEnd().split("\n").at(-1) as string);
    return { proposal: blocks.proposal as Proposal, points: blocks.frontier as FrontierPoint[] };
  }

  test("is the nearest of what fits, in 8 bits where that leaves room for more, and its command makes it", async () => {
    const parameters = parameterCount(await readDefinition(teacher));
    const most = 0.7 * parameters;
    const { proposal, points } = await proposed(`${most / 1e6}MB`, "--mean", "0.4,0.5,0.6");
    expect(proposal.format).toBe("int8");
    expect(proposal.bytes).toBeLessThanOrEqual(most);
    expect(points.filter((p) => p.bytes <= most).every((p) => p.difference >= proposal.difference)).toBe(true);
    const [name, ...args] = (proposal.command as string).split(" ");
    expect(name).toBe("wecolora");
    // What says how the model is to be read stands in the command too.
    expect(args.join(" ")).toContain("--mean 0.4,0.5,0.6");
    const out = join(folder, "proposed");
    const made = await wecolora(...args.map((word) => (word === "RUN" ? out : word)), "--no-judge", "--no-report");
    expect([made.code, made.err]).toEqual([0, expect.anything()]);
    // What was not wanted is not said to be there.
    expect(made.out).toContain(`student: ${join(out, "student")}`);
    expect(made.out).not.toContain("report:");
    const student = await readDefinition(join(out, "student"));
    // LayerScale may be folded into the maps where a class of transformers holds the student so.
    const scales = 2 * student.config.width * student.config.depth;
    expect([proposal.parameters, proposal.parameters - scales]).toContain(parameterCount(student));
    expect([student.config.depth, student.config.heads, student.config.mlpWidth]).toEqual([
      proposal.keptBlocks.length,
      proposal.heads,
      proposal.mlpWidth,
    ]);
    expect((await stat(join(out, "exports/onnx-int8/onnx/model_int8.onnx"))).size).toBeGreaterThan(0);
  });

  test("is the teacher where that fits, in 8 bits or as it is, and a message where nothing does", async () => {
    const parameters = parameterCount(await readDefinition(teacher));
    const int8 = await proposed(`${(1.5 * parameters) / 1e6}MB`, "--std", "0.5,0.5,0.4");
    expect(int8.proposal.command).toBe(
      `wecolora export --model ${teacher} --to onnx-int8 --out SMALLER --std 0.5,0.5,0.4`,
    );
    const plain = await proposed("1x");
    expect([plain.proposal.format, plain.proposal.difference, plain.proposal.command]).toEqual([
      "float32",
      0,
      undefined,
    ]);
    const { code, err } = await wecolora(
      ...["inspect", teacher, "--data", join(folder, "data"), "--budget", "0.0001MB"],
    );
    expect([code, err]).toEqual([2, expect.stringContaining("No student fits the budget: one block alone takes")]);
  });
});
