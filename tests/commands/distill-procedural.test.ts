// `distill` without images: procedural ones stand in, by their number, and a run on them is recorded and resumed as any other.
import { readFile } from "node:fs/promises";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { distill, proceduralImage } from "wecolora/node";
import { createHash } from "node:crypto";
import { distillOptions } from "../../src/commands/distill-options.ts";
import { messagesInto } from "../support/progress.ts";
import { referencePath } from "../support/reference.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-procedural-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const teacher = referencePath("teachers/timm-vit");

interface Line {
  readonly name: string;
  readonly uses: readonly string[];
  readonly sha256?: string;
}

const manifestOf = async (out: string): Promise<Line[]> =>
  (await readFile(join(folder, out, "manifest.jsonl"), "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

describe("a run without images", () => {
  test("takes 300 procedural ones", () => {
    expect(distillOptions({ teacher, out: "run" }).data).toBe("procedural:300");
  });

  test("says that they stand in, and records each with the generator's version and its hash", async () => {
    const messages: string[] = [];
    const result = await distill({
      teacher,
      out: join(folder, "run"),
      fewShotCount: 10,
      evaluationImages: 4,
      report: false,
      onProgress: messagesInto(messages),
    });
    expect(messages.join("\n")).toContain("No real images are used (--data procedural:300)");
    expect(result.images).toBe(10);
    const lines = await manifestOf("run");
    expect(lines.filter(({ uses }) => uses.includes("train"))).toHaveLength(10);
    for (const { name, sha256 } of lines) {
      const index = Number(/^procedural-v1-seed0\/(\d+)-[a-z-]+$/.exec(name)?.[1]);
      expect(sha256).toBe(createHash("sha256").update(proceduralImage(0, index).data).digest("hex"));
    }
    expect(result.results.at(-1)?.fidelity?.cosine).toBeGreaterThan(0);
  });

  test("draws others with another seed", async () => {
    const names = await Promise.all(
      [0, 1].map(async (seed) => {
        const out = `seed-${seed}`;
        await distill({ teacher, data: "procedural:6", seed, out: join(folder, out), evaluate: false, report: false });
        return (await manifestOf(out)).map(({ name }) => name);
      }),
    );
    expect(names[0].some((name) => names[1].includes(name))).toBe(false);
  });

  test("is resumed to the same bits", async () => {
    const options = {
      teacher,
      data: "procedural:8",
      method: "wecolora",
      steps: 4,
      rank: 4,
      evaluate: false,
      report: false,
    } as const;
    const whole = await distill({ ...options, out: join(folder, "whole") });
    const controller = new AbortController();
    const out = join(folder, "stopped");
    const stopped = distill({
      ...options,
      out,
      checkpointSteps: 1,
      signal: controller.signal,
      onProgress: (event) => {
        if (event.status === "progress" && event.stage === "distilling" && event.done >= 2) controller.abort();
      },
    });
    await expect(stopped).rejects.toThrow("Resume with");
    await distill({ resume: out });
    const weights = (run: string) => readFile(join(folder, run, "student", "model.safetensors"));
    expect(whole.student).toContain("whole");
    expect(Buffer.compare(await weights("stopped"), await weights("whole"))).toBe(0);
  });
});
