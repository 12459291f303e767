// Option interfaces against the schemas that they are made from, and functions that take images, models and methods.
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import type {
  CompareOptions,
  DistillOptions,
  EvaluateOptions,
  ExportOptions,
  FeaturesOptions,
  InspectOptions,
  ReportOptions,
  ResumeOptions,
  RolloutOptions,
  SegmentOptions,
  SimilarityOptions,
} from "wecolora/node";
import { createDistillation, defineMethod, distill, evaluate, fromPretrained, methodParts } from "wecolora/node";
import type { command as compareCommand } from "../../../src/commands/compare.ts";
import type { distillInputSchema, ResumeInput } from "../../../src/commands/distill-options.ts";
import type { command as evaluateCommand } from "../../../src/commands/evaluate.ts";
import type { command as exportCommand } from "../../../src/commands/export.ts";
import type { command as featuresCommand } from "../../../src/commands/features.ts";
import type { command as inspectCommand } from "../../../src/commands/inspect.ts";
import type { command as reportCommand } from "../../../src/commands/report.ts";
import type { command as rolloutCommand } from "../../../src/commands/rollout.ts";
import type { command as segmentCommand } from "../../../src/commands/segment.ts";
import type { command as similarityCommand } from "../../../src/commands/similarity.ts";
import { noiseImage } from "../../support/cli.ts";
import { referencePath, root } from "../../support/reference.ts";

describe("option interfaces", () => {
  test("are current", () => {
    execFileSync(process.execPath, ["scripts/generate.js", "--check"], { cwd: root, stdio: "pipe" });
  });

  test("agree with the schemas, both ways", () => {
    type Mutual<A, B> = [A] extends [B] ? ([B] extends [A] ? "agrees" : "schema takes more") : "interface takes more";
    expectTypeOf<Mutual<DistillOptions, z.input<typeof distillInputSchema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<ResumeOptions, ResumeInput>>().toEqualTypeOf<"agrees">();
    // The schema's type knows a metric as any text, its values are listed.
    expectTypeOf<
      Mutual<Omit<CompareOptions, "published">, Omit<z.input<typeof compareCommand.schema>, "published">>
    >().toEqualTypeOf<"agrees">();
    expectTypeOf<
      Mutual<Omit<EvaluateOptions, "published">, Omit<z.input<typeof evaluateCommand.schema>, "published">>
    >().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<ExportOptions, z.input<typeof exportCommand.schema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<FeaturesOptions, z.input<typeof featuresCommand.schema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<InspectOptions, z.input<typeof inspectCommand.schema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<ReportOptions, z.input<typeof reportCommand.schema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<RolloutOptions, z.input<typeof rolloutCommand.schema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<SegmentOptions, z.input<typeof segmentCommand.schema>>>().toEqualTypeOf<"agrees">();
    expectTypeOf<Mutual<SimilarityOptions, z.input<typeof similarityCommand.schema>>>().toEqualTypeOf<"agrees">();
  });

  test("have a doc comment on every property", async () => {
    const text = await readFile(join(root, "src/commands/options.generated.ts"), "utf8");
    const lines = text.split("\n");
    const bare = lines.filter((line, i) => /^ {2}\w+\??:/.test(line) && !/\*\/$/.test(lines[i - 1]));
    expect(bare).toEqual([]);
    expect(text).toContain(
      "/** Temperature of the k-NN weights. Range: a number at least 0.0001, at most 1000. Default: 0.07. */",
    );
  });
});

/** Adapters on all maps, and the squared difference times a factor of its own. */
const squared = defineMethod({
  name: "squared",
  summary: "adapters, and the squared difference of features",
  options: { factor: z.number().positive().max(10).default(1).describe("what the loss is multiplied by") },
  start: "weight-copy",
  trains: true,
  trainables: methodParts.backbone,
  objective: (student, context) =>
    methodParts.features({ ...methodParts.l1, kind: "mse", weight: context.options.factor })(student, context),
});

describe("functions", () => {
  const path = referencePath("teachers/timm-vit");
  let folder: string;
  const at = (...parts: string[]) => join(folder, ...parts);
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wecolora-api-"));
    for (let i = 0; i < 16; i++) await noiseImage(at("images", i % 2 ? "a" : "b", `${i}.jpg`), i, i % 2);
  });
  afterAll(() => rm(folder, { recursive: true }));

  const few = { recipe: undefined, rank: 1, steps: 1, evaluateSteps: 0, evaluate: false, report: false } as const;

  test("take a loaded model and images, as paths", async () => {
    const model = await fromPretrained(path);
    const ofModel = await evaluate({ model, images: at("images"), cache: false });
    const ofPath = await evaluate({ model: [path], data: at("images"), cache: false });
    const bare = (result: typeof ofModel) =>
      result.results.map(({ knn, probe, parameters }) => ({ knn, probe, parameters }));
    expect(bare(ofModel)).toEqual(bare(ofPath));
    await expect(evaluate({ model, images: "a", data: "b" } as never)).rejects.toThrow("Give images or data, not both");
    await expect(evaluate({ model, images: at("images"), imageSize: 64 })).rejects.toThrow(
      "imageSize belongs to fromPretrained",
    );
  });

  test("distil with a method of the caller's, whose options are checked, and whose name is recorded", async () => {
    const teacher = await fromPretrained(path);
    const out = at("run");
    const run = distill({ ...few, teacher, images: at("images"), out, method: squared, factor: 3 });
    expect((await run).method).toBe("squared");
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8")) as {
      options: Record<string, unknown>;
    };
    expect(config.options).toMatchObject({ method: "squared", factor: 3, teacher: path });
    await expect(
      distill({ ...few, teacher, images: at("images"), out: at("no"), method: squared, factor: 11 }),
    ).rejects.toThrow("factor");
    await expect(
      distill({ ...few, teacher, images: at("images"), out: at("no"), method: { ...squared } }),
    ).rejects.toThrow("A method named squared exists already");

    // By its name, now that it is known.
    const pixels = await teacher.preprocess(at("images", "a", "1.jpg"));
    const losses = [];
    for (const factor of [1, 3]) {
      const distillation = await createDistillation(teacher, { method: squared, factor });
      losses.push((await distillation.step([pixels])).loss);
      await distillation.dispose();
    }
    expect(losses[1]).toBeCloseTo(3 * losses[0], 5);
  });

  test("say what to do where a run is resumed without its method", async () => {
    const out = at("other");
    await distill({ ...few, teacher: path, images: at("images"), out, method: { ...squared, name: "mine" as const } });
    await rm(join(out, "result.json"));
    const config = await readFile(join(out, "config.json"), "utf8");
    // A process that never heard of it.
    await writeFile(join(out, "config.json"), config.replace('"mine"', '"unheard"'));
    await expect(distill({ resume: out })).rejects.toThrow(
      `The run in ${out} has the method unheard, which is not part of wecolora. Call registerMethod with it, then resume.`,
    );
  });
});
