// Runs that can be trusted: killed at any moment and resumed, a run ends with the same bits; what stands in the way of
// going on is named.
import { readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, nodeEnvironment } from "wecolora/node";
import { resumeDistillation, runDistillation } from "../../src/commands/distill.ts";
import { runContext } from "../../src/context/run-context.ts";
import { bestEvaluation, isSpent, warningsOf } from "../../src/students/training/tracking.ts";
import { drawStream } from "../../src/utils/random.ts";
import { distillArguments, noiseImage, wecolora, wecoloraProcess } from "../support/cli.ts";
import { readTensors, referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-runs-"));
  for (let i = 0; i < 18; i++)
    await noiseImage(at("data", ["a", "b", "c"][i % 3], `p${String(i).padStart(2, "0")}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

const args = (out: string, ...more: string[]) => [
  ...distillArguments(teacher, at("data"), at(out)),
  ...["--rank", "3", "--adapter-dropout", "0.1", "--recipe", "paper"],
  ...["--epochs", "12", "--warmup-epochs", "1", "--effective-batch", "4", "--batch", "2", "--checkpoint-steps", "3"],
  ...["--evaluate-steps", "7", "--no-evaluate", "--threads", "1", ...more],
];

const weights = (run: string) => readFileSync(at(run, "student", "model.safetensors"));

function logOf(run: string) {
  return readFileSync(at(run, "log.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** A log without what differs from run to run: times. */
const timeless = (run: string) => logOf(run).map(({ time: _t, seconds: _s, ...entry }) => entry);

test("with less memory, fewer images at once; resumed where there is more, the same", async () => {
  const environment = nodeEnvironment({ threads: 1 });
  const little = { ...environment, availableMemory: () => 1e6 };
  const run = (out: string) => ({
    ...{ teacher, data: at("data"), out: at(out), recipe: "paper" as const, rank: 3, evaluate: false, report: false },
    ...{ steps: 6, effectiveBatch: 4, checkpointSteps: 2, evaluateSteps: 0 },
  });
  const messages: string[] = [];
  await runDistillation(runContext(little, { listener: { info: (message) => messages.push(message) } }), run("little"));
  expect(messages).toContain("the available memory holds 1 of 4 images at once");
  const stop = new AbortController();
  const listener = { progress: (done: number) => void (done === 2 && stop.abort()) };
  const stopping = runContext(little, { listener, signal: stop.signal });
  await expect(runDistillation(stopping, run("halted"))).rejects.toThrow("Stopped. Resume with: wecolora distill");
  await resumeDistillation(runContext(environment), { resume: at("halted") });
  expect(weights("halted").equals(weights("little"))).toBe(true);
  await runDistillation(runContext(environment), run("much"));
  expect(weights("much").equals(weights("little"))).toBe(false);
  await environment.dispose();
});

describe("killed and resumed", () => {
  beforeAll(async () => {
    expect(await wecolora(...args("whole"))).toMatchObject({ code: 0 });
  });

  const kills = Number(process.env.WECOLORA_KILLS ?? 5);
  test(`${kills} runs, killed at random moments up to three times each, end with the same bits`, async () => {
    const random = drawStream(Date.now() % 1e9);
    let killed = 0;
    for (let i = 0; i < kills; i++) {
      const out = `killed-${i}`;
      let finished = false;
      for (let attempt = 0; attempt < 4 && !finished; attempt++) {
        const begun = await readFile(at(out, "config.json")).then(
          () => true,
          () => false,
        );
        const command = begun ? ["distill", "--resume", at(out)] : args(out, "--overwrite");
        const child = wecoloraProcess(...command);
        const delay = attempt < 3 ? 350 + 1500 * random.uniform() : 120_000;
        const timer = setTimeout(() => child.kill("SIGKILL"), delay);
        const { code, err } = await child.ended;
        clearTimeout(timer);
        if (code === null) killed++;
        // Killed between its last write and its exit, a run is finished all the same.
        finished = code === 0 || (code === 2 && err.includes("is finished"));
        expect({ code, err, finished }).toMatchObject(code === null ? {} : { finished: true });
      }
      expect(finished).toBe(true);
      expect(weights(out).equals(weights("whole"))).toBe(true);
      expect(timeless(out)).toEqual(timeless("whole"));
      const left = readdirSync(at(out), { recursive: true, encoding: "utf8" });
      expect(left.filter((name) => name.endsWith(".partial"))).toEqual([]);
    }
    expect(killed).toBeGreaterThan(0);
  }, 600_000);

  test("a finished run is not gone on with", async () => {
    const outcome = await wecolora("distill", "--resume", at("whole"));
    expect(outcome.code).toBe(2);
    expect(outcome.err).toContain("is finished");
  });

  test("its checkpoints: the last two, and the best", () => {
    expect(readdirSync(at("whole", "checkpoints")).sort()).toEqual([
      "best.safetensors",
      "final",
      "step-00000033.safetensors",
      "step-00000036.safetensors",
    ]);
  });
});

describe("Ctrl-C", () => {
  test("once: the step ends, the state is saved, and the run can go on", async () => {
    const child = wecoloraProcess(...args("stopped", "--epochs", "400", "--checkpoint-steps", "100000"));
    await child.hasPrinted(/distilling/);
    await new Promise((resolve) => setTimeout(resolve, 800));
    child.kill("SIGINT");
    const { code, err } = await child.ended;
    expect(code).toBe(130);
    expect(err).toMatch(/saved the state of step \d+ of 1200[\s\S]*Stopped. Resume with: wecolora distill --resume/);
    const steps = logOf("stopped").filter(({ kind }) => kind === "step").length;
    expect(readdirSync(at("stopped", "checkpoints"))).toContain(`step-${String(steps).padStart(8, "0")}.safetensors`);
  });

  test("twice: it stops at once", async () => {
    const child = wecoloraProcess(...args("stopped-twice", "--epochs", "400"));
    await child.hasPrinted(/distilling/);
    child.kill("SIGINT");
    await child.hasPrinted(/Press Ctrl-C again/);
    child.kill("SIGINT");
    // While Node takes the process down, the system itself ends it: there is no code then, and shells say 130 too.
    expect((await child.ended).code ?? 130).toBe(130);
  });
});

describe("what stands in the way of going on", () => {
  async function halfDone(out: string, data: string): Promise<void> {
    await mkdir(at(data), { recursive: true });
    for (let i = 0; i < 6; i++) await noiseImage(at(data, `p${i}.jpg`), i, 0);
    const child = wecoloraProcess(
      ...args(out, "--data", at(data), "--epochs", "1000", "--held-out", "0", "--checkpoint-steps", "2"),
    );
    await child.hasPrinted(/distilling/);
    await new Promise((resolve) => setTimeout(resolve, 600));
    child.kill("SIGINT");
    await child.ended;
  }

  test("an image that has changed, and one that is gone", async () => {
    await halfDone("changed", "flat");
    await noiseImage(at("flat", "p3.jpg"), 99, 1);
    const changed = await wecolora("distill", "--resume", at("changed"));
    expect(changed).toMatchObject({ code: 2 });
    expect(changed.err).toContain("p3.jpg has changed since the run began");
    await rm(at("flat", "p3.jpg"));
    const gone = await wecolora("distill", "--resume", at("changed"));
    expect(gone).toMatchObject({ code: 2 });
    expect(gone.err).toContain("trains on p3.jpg, which is missing");
  });

  test("no run, a broken configuration, a broken checkpoint", async () => {
    await mkdir(at("nothing"), { recursive: true });
    expect((await wecolora("distill", "--resume", at("nothing"))).err).toContain("holds no run to resume");
    await halfDone("broken", "flat2");
    const [state] = readdirSync(at("broken", "checkpoints"))
      .filter((name) => name.startsWith("step-"))
      .sort()
      .reverse();
    const bytes = await readFile(at("broken", "checkpoints", state));
    await writeFile(at("broken", "checkpoints", state), bytes.subarray(0, bytes.length - 7));
    const cut = await wecolora("distill", "--resume", at("broken"));
    expect(cut).toMatchObject({ code: 2 });
    expect(cut.err).toContain("is it cut off?");
    await writeFile(at("broken", "config.json"), "{");
    expect((await wecolora("distill", "--resume", at("broken"))).err).toContain("is not valid JSON");
  });

  test("a place to write that is lost in mid-run ends it with exit code 1", async () => {
    await mkdir(at("vanishing"), { recursive: true });
    for (let i = 0; i < 6; i++) await noiseImage(at("vanishing", `p${i}.jpg`), i, 0);
    const child = wecoloraProcess(
      ...args("mid-run", "--data", at("vanishing"), "--epochs", "100000", "--held-out", "0", "--checkpoint-steps", "2"),
    );
    await child.hasPrinted(/distilling/);
    await new Promise((resolve) => setTimeout(resolve, 400));
    // The run writes meanwhile, so it may take a few tries to put a file in the folder's place.
    for (let tries = 0; tries < 100; tries++) {
      try {
        await rm(at("mid-run", "checkpoints"), { recursive: true, force: true });
        await writeFile(at("mid-run", "checkpoints"), "in the way", { flag: "wx" });
        break;
      } catch {
        continue;
      }
    }
    const { code, err } = await child.ended;
    expect(code).toBe(1);
    expect(err).toContain("can't be written");
  });
});

test("early stop takes the best student", async () => {
  const more = [
    "--early-stop",
    "1",
    "--evaluate-steps",
    "2",
    "--base-learning-rate",
    "0.5",
    "--epochs",
    "40",
    "--json",
  ];
  const outcome = await wecolora(...args("early", ...more));
  expect(outcome).toMatchObject({ code: 0 });
  const result = JSON.parse(outcome.out.trimEnd().split("\n").at(-1) as string);
  expect(result.steps).toBeLessThan(160);
  const best = bestEvaluation(result.evaluations);
  expect(result.bestStep).toBe(best?.step);
  if (best?.step === 0) {
    const [student, model] = [await loadModel(at("early", "student")), await loadModel(teacher)];
    expect(student.weights.get("blocks.1.mlp.fc1.weight")?.data).toEqual(
      model.weights.get("blocks.2.mlp.fc1.weight")?.data,
    );
  }
});

describe("what figures warn of", () => {
  const evaluation = (step: number, meanAbsoluteDifference: number) => ({ step, meanAbsoluteDifference, cosine: 0 });
  const falling = Array.from({ length: 20 }, (_, i) => 2 - i / 20);
  test("a loss that rises", () => {
    expect(warningsOf([...falling].reverse(), [])).toMatchObject([{ kind: "rising loss" }]);
    expect(warningsOf(falling, [])).toEqual([]);
  });
  test("held-out features that move away while the loss falls", () => {
    const actual = warningsOf(falling, [evaluation(0, 1.2), evaluation(10, 1), evaluation(20, 1.1)]);
    expect(actual).toMatchObject([{ kind: "overfitting" }]);
    expect(actual[0].message).toContain("step 10 (1.000) than now (1.100)");
    expect(warningsOf(falling, [evaluation(0, 1.2), evaluation(10, 1.1), evaluation(20, 1)])).toEqual([]);
  });
  test("patience", () => {
    expect(isSpent([evaluation(0, 1), evaluation(5, 0.9), evaluation(10, 0.95)], 1)).toBe(true);
    expect(isSpent([evaluation(0, 1), evaluation(5, 0.9), evaluation(10, 0.95)], 2)).toBe(false);
    expect(isSpent([], 1)).toBe(false);
  });
});

test("deit learns from class folders that the teacher's head knows", async () => {
  const classifier = referencePath("teachers/hf-vit-classifier");
  for (let i = 0; i < 8; i++) {
    await mkdir(at("labelled", `class ${i % 4}`), { recursive: true });
    await copyFile(at("data", "a", "p00.jpg"), at("labelled", `class ${i % 4}`, `p${i}.jpg`));
  }
  const run = [
    "distill",
    "--teacher",
    classifier,
    "--data",
    at("labelled"),
    "--method",
    "deit",
    "--epochs",
    "2",
    "--evaluate-steps",
    "0",
    "--no-evaluate",
  ];
  expect(await wecolora(...run, "--out", at("deit"))).toMatchObject({ code: 0 });
  const tensors = await readTensors(at("deit", "student", "model.safetensors"));
  expect([...tensors.keys()]).toContain("distillation_classifier.weight");
  const unnamed = await wecolora(...run, "--out", at("deit2"), "--data", at("data"));
  expect(unnamed).toMatchObject({ code: 2 });
  expect(unnamed.err).toContain("The class a is none of the teacher's");
});
