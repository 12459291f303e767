// Every command and every stage of it, stopped; and how soon a process ends that a signal stops.
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { RunControls } from "wecolora/node";
import { compare, distill, evaluate, exportModel, inspect, report, rollout, segment, similarity } from "wecolora/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { noiseFolder, wecoloraProcess } from "../support/cli.ts";
import { referencePath, root } from "../support/reference.ts";
import { stopAtEach } from "../support/stopping.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
let stopped = 0;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await noiseFolder("stopping-all");
  await distill({ teacher, data: at("data"), out: at("run"), labelledImages: 12, evaluationImages: 6 });
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
      ...{ cachedCrops: 2, labelledImages: 12, evaluationImages: 6, ...controls },
    }),
  "distill, searched": (out, controls) =>
    distill({ teacher, data: at("data"), out, keep: "auto", evaluate: false, ...controls }),
  compare: (out, controls) =>
    compare({
      ...{ teacher, data: at("data"), out, grid: { method: ["weight-copy", "refit"] } },
      ...{ base: { labelledImages: 12, evaluationImages: 6 }, ...controls },
    }),
  "evaluate, two models": (out, controls) =>
    evaluate({
      ...{ model: [at("run", "student"), teacher], teacher, data: at("data"), out, cache: false, probeEpochs: 2 },
      ...{ logistic: true, ...controls },
    }),
  export: (out, controls) =>
    exportModel({ model: at("run"), to: ["onnx", "onnx-int8"], out, maxImages: 6, ...controls }),
  rollout: (out, controls) => rollout({ model: teacher, data: at("data"), out, maxImages: 4, ...controls }),
  similarity: (out, controls) =>
    similarity({ model: at("run", "student"), teacher, data: at("data"), out, maxImages: 6, ...controls }),
  inspect: (out, controls) =>
    inspect({
      ...{ model: teacher, data: at("data"), out, maxImages: 6, search: true, frontier: true, budget: "0.6x" },
      ...controls,
    }),
  segment: (out, controls) =>
    segment({
      ...{ model: [teacher], data: scans, out, epochs: 1, warmupEpochs: 0, batch: 4, kinds: ["t1", "t2"] },
      ...{ baseline: true, ...controls },
    }),
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

const signals = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const;

/** Stages of the default recipe: what the command has said when they begin, and how long it then works on them. */
const demoStages: readonly (readonly [stage: string, pattern: RegExp, wait: number])[] = [
  ["reading images", /^reading images/m, 0],
  ["refit", /have as many weights/, 3000],
  ["evaluation", /^saving the student/m, 2500],
  ["latency", /^measuring latency/m, 300],
  ["report", /^writing the report/m, 300],
  ["export", /^exporting onnx/m, 300],
  ["comparison of the export", /^exporting onnx/m, 4000],
];

// Within 2 s on an idle machine is what is wanted. The times are printed, since another machine or a busy one takes longer.
test("the demo, stopped by each signal in each stage, and resumed to its end", async () => {
  const run = at("demo");
  const begin = [
    ...["distill", "--teacher", join(root, "demo/teacher"), "--data", join(root, "demo/pictures"), "--out", run],
    ...["--few-shot-count", "1", "--labelled-images", "60", "--evaluation-images", "30", "--export", "onnx"],
  ];
  const resume = ["distill", "--resume", run];
  let command = begin;
  const times: string[] = [];
  for (const [i, [stage, pattern, wait]] of demoStages.entries()) {
    const [signal, code] = signals[i % signals.length];
    const child = wecoloraProcess(...command);
    await child.hasPrinted(pattern);
    await new Promise((resolve) => setTimeout(resolve, wait));
    const sent = performance.now();
    child.kill(signal);
    const ended = await child.ended;
    times.push(`${stage}: ${signal} ${((performance.now() - sent) / 1000).toFixed(2)} s`);
    expect(ended.code, `${stage}, ${signal}: ${ended.err}`).toBe(code);
    // Before anything is written there is nothing to resume.
    const isBegun = ended.err.includes(`Resume with: wecolora ${resume.join(" ")}`);
    if (!isBegun) expect(ended.err).toContain("Run the same command again");
    command = isBegun ? resume : command;
  }
  console.log(["Time from the signal to the end of the process:", ...times].join("\n  "));
  const { code, err } = await wecoloraProcess(...command).ended;
  expect(code, err).toBe(0);
});

const [demoTeacher, demoImages] = [join(root, "demo/teacher"), join(root, "demo/pictures")];
const rounding = ["export", "--model", demoTeacher, "--data", demoImages, "--to", "onnx-q4", "--max-images", "8"];
/** Work that takes seconds without a call of the device, which would see the signal by itself. */
const computing: readonly (readonly [string, readonly string[], RegExp, readonly number[]])[] = [
  ["rounding to 4 bits", rounding, /^exporting onnx-q4/m, [500, 3000]],
  ["rounding to 4 bits for images", [...rounding, "--images", demoImages], /^weights are rounded for/m, [8000]],
  ["CORP", ["distill", demoTeacher, demoImages, "--method", "corp", "--no-evaluate"], /^pruning blocks/m, [8000]],
  ["SnapViT", ["distill", demoTeacher, demoImages, "--method", "snapvit", "--no-evaluate"], /^pruning blocks/m, [8000]],
  [
    "ranking of cuts",
    ["distill", demoTeacher, demoImages, "--budget", "12MB", "--shape", "by-block", "--no-evaluate"],
    /^ranking cuts/m,
    [8000],
  ],
];

test.each(computing)("%s is stopped while it computes", async (name, args, pattern, waits) => {
  for (const wait of waits) {
    const out = at("computing");
    const child = wecoloraProcess(...args, "--out", out);
    await child.hasPrinted(pattern);
    await new Promise((resolve) => setTimeout(resolve, wait));
    const sent = performance.now();
    child.kill("SIGINT");
    const { code, err } = await child.ended;
    console.log(`${name}: ${((performance.now() - sent) / 1000).toFixed(2)} s from the signal to the end`);
    expect(code, err).toBe(130);
    expect(err).toContain("Run the same command again");
    await rm(out, { recursive: true, force: true });
  }
});
