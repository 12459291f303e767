// One signal stops a run at any of its stages; what it has saved is resumed.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { distill, evaluate, features, loadModel } from "wecolora/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distillArguments, noiseFolder, wecoloraProcess } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";
import { stagesOf, stopAt, stopAtEach } from "../support/stopping.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
const data = () => join(folder, "data");

beforeAll(async () => {
  folder = await noiseFolder("stopping");
});
afterAll(() => rm(folder, { recursive: true }));

describe("a run in closed form", () => {
  const options = { export: ["onnx" as const], labelledImages: 12, evaluationImages: 6, threads: 1 };

  test("stops at each stage and, resumed, gives the same student, report and exports", async () => {
    const work = (out: string, controls: object) => distill({ teacher, data: data(), out, ...options, ...controls });
    const folders = await mkdtemp(join(tmpdir(), "wecolora-stopped-"));
    try {
      const whole = join(folders, "whole");
      const stages = await stagesOf(work, whole);
      expect(stages).toEqual(expect.arrayContaining(["refitting blocks", "saving the student", "writing the report"]));
      for (let k = 0; k < stages.length; k++) {
        const out = join(folders, `stopped-${k}`);
        await stopAt(work, out, k);
        // Where nothing was written yet, the plain command begins.
        const result = await distill({ resume: out }).catch(() => work(out, {}));
        expect(result).toMatchObject({ student: join(out, "student") });
        for (const file of ["student/model.safetensors", "exports/onnx/onnx/model.onnx"])
          expect((await readFile(join(out, file))).equals(await readFile(join(whole, file)))).toBe(true);
        expect(await readFile(join(out, "report.html"), "utf8")).toContain("</html>");
      }
    } finally {
      await rm(folders, { recursive: true });
    }
  });
});

test.each([
  ["features", (out: string, controls: object) => features({ model: teacher, data: data(), out, ...controls })],
  [
    "evaluate",
    (out: string, controls: object) =>
      evaluate({ model: [teacher], data: data(), out, cache: false, probeEpochs: 2, ...controls }),
  ],
])("%s stops at each stage", async (_, work) => {
  expect((await stopAtEach(work)).length).toBeGreaterThan(0);
});

test("a signal that has fired before stops before anything is read or written", async () => {
  const out = join(folder, "never");
  const stopped = distill({ teacher, data: data(), out, signal: AbortSignal.abort() });
  await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
  await expect(readFile(join(out, "config.json"))).rejects.toMatchObject({ code: "ENOENT" });
  await expect(loadModel(teacher)).resolves.toBeDefined();
});

describe.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const)("%s", (signal, code) => {
  test(`ends a run with ${code}; its message says how to resume`, async () => {
    const more = ["--epochs", "4000", "--rank", "2", "--recipe", "paper", "--effective-batch", "4"];
    const out = join(folder, signal);
    const child = wecoloraProcess(...distillArguments(teacher, data(), out), ...more, "--no-evaluate");
    await child.hasPrinted(/blocks are kept/);
    child.kill(signal);
    const ended = await child.ended;
    expect(ended.code).toBe(code);
    expect(ended.err).toContain(`Stopped. Resume with: wecolora distill --resume ${out}`);
  });
});
