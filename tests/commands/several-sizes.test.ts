// `distill --sizes`: several students from one run, each the one that a run of its own would make.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distill, readDefinition } from "wecolora/node";
import { parameterCount } from "../../src/models/definition.ts";
import { noiseFolder, wecolora } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/hf-dinov2");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await noiseFolder("sizes");
});
afterAll(() => rm(folder, { recursive: true }));

describe.each(["balanced", "by-block"] as const)("students of several sizes, %s", (shape) => {
  test("each has at most its share, and the weights that a run for it alone gives", async () => {
    const shared = { teacher, data: at("data"), shape, report: false, seed: 3 };
    const out = at(shape);
    const { results, sizes = [] } = await distill({ ...shared, out, sizes: ["0.5x", "0.9x", "0.7x"] });
    expect(sizes.map(({ size, student }) => [size, student])).toEqual([
      ["0.7x", "students/0.7x"],
      ["0.5x", "students/0.5x"],
    ]);
    expect(results.map(({ name }) => name)).toEqual([
      "teacher",
      "weight copy",
      "student",
      "student 0.7x",
      "student 0.5x",
    ]);
    // Each has a card with its own figures and the command that makes it.
    const card = await readFile(join(out, "students/0.5x/README.md"), "utf8");
    expect(card).toContain("--budget 0.5x");
    expect(card).not.toContain("0.7x");
    const whole = parameterCount(await readDefinition(teacher));
    for (const [path, share] of [
      ["student", 0.9],
      ["students/0.7x", 0.7],
      ["students/0.5x", 0.5],
    ] as const) {
      const alone = at(`${shape}-${share}`);
      await distill({ ...shared, out: alone, budget: `${share}x`, evaluate: false });
      const [together, single] = [join(out, path), join(alone, "student")];
      expect(parameterCount(await readDefinition(together))).toBeLessThanOrEqual(share * whole);
      const bytes = (model: string) => readFile(join(model, "model.safetensors"));
      expect((await bytes(together)).equals(await bytes(single)), path).toBe(true);
    }
  });
});

test.each([
  ["--budget", "0.5x"],
  ["--reduction-factor", "2"],
])("sizes and %s are refused together", async (option, value) => {
  const { code, err } = await wecolora(
    ...["distill", teacher, at("data"), at("never"), "--sizes", "0.5x,0.7x", option, value],
  );
  expect([code, err]).toEqual([2, expect.stringContaining(`Give --sizes or ${option}, not both.`)]);
});

test("sizes are refused where students are trained", async () => {
  const { code, err } = await wecolora(
    ...["distill", teacher, at("data"), at("never"), "--sizes", "0.5x", "--method", "kd"],
  );
  expect([code, err]).toEqual([
    2,
    expect.stringContaining("--sizes makes students in closed form alone (--method refit), got the method kd."),
  ]);
});
