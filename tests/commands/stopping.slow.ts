// Every command and every stage of it, stopped.
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { RunControls } from "wecolora/node";
import { compare, distill, evaluate, exportModel, inspect, report, rollout, segment, similarity } from "wecolora/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { noiseFolder } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";
import { stopAtEach } from "../support/stopping.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
let stopped = 0;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await noiseFolder("stopping-all");
  await distill({ teacher, data: at("data"), out: at("run"), judgeBank: 12, judgeQueries: 6 });
});
afterAll(async () => {
  console.log(`${stopped} runs were stopped, each at another stage`);
  await rm(folder, { recursive: true });
});

const scans = referencePath("data-sets/brats");
const works: Readonly<Record<string, (out: string, controls: RunControls) => Promise<unknown>>> = {
  "distill, steps": (out, controls) =>
    distill({
      ...{ teacher, data: at("data"), out, recipe: "paper", rank: 2, steps: 6, effectiveBatch: 4, evaluateSteps: 2 },
      ...{ keptViews: 2, judgeBank: 12, judgeQueries: 6, ...controls },
    }),
  "distill, searched": (out, controls) =>
    distill({ teacher, data: at("data"), out, keep: "auto", judge: false, ...controls }),
  compare: (out, controls) =>
    compare({
      ...{ teacher, data: at("data"), out, grid: { method: ["weight-copy", "refit"] } },
      ...{ base: { judgeBank: 12, judgeQueries: 6 }, ...controls },
    }),
  "evaluate, two models": (out, controls) =>
    evaluate({
      ...{ model: [at("run", "student"), teacher], teacher, data: at("data"), out, cache: false, probeEpochs: 2 },
      ...{ logistic: true, ...controls },
    }),
  export: (out, controls) =>
    exportModel({ model: at("run"), to: ["onnx", "onnx-int8"], out, pictures: 6, ...controls }),
  rollout: (out, controls) => rollout({ model: teacher, data: at("data"), out, pictures: 4, ...controls }),
  similarity: (out, controls) =>
    similarity({ model: at("run", "student"), teacher, data: at("data"), out, pictures: 6, ...controls }),
  inspect: (out, controls) =>
    inspect({
      ...{ model: teacher, data: at("data"), out, pictures: 6, search: true, frontier: true, budget: "0.6x" },
      ...controls,
    }),
  segment: (out, controls) =>
    segment({ model: [teacher], data: scans, out, epochs: 1, yardstick: true, split: "blocks", ...controls }),
  report: async (out, controls) => {
    await cp(at("run"), out, { recursive: true });
    return report({ runs: [out], ...controls });
  },
};

test.each(Object.keys(works))("%s stops at each of its stages", async (name) => {
  const stages = await stopAtEach(works[name]);
  expect(stages.length).toBeGreaterThan(0);
  stopped += stages.length;
});
