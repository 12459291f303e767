// Students of all kinds of teachers in Python's libraries: each loads with its own image processor and gives the same
// features of images that need resizing. WECOLORA_PYTHON names a Python that has transformers 5, timm and Pillow,
// WECOLORA_TRANSFORMERS_4 a folder that transformers 4.57 was installed into (`pip install --target`).
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Model } from "wecolora/node";
import { saveModel } from "wecolora/node";
import { isHeldBy } from "../../src/models/conform.ts";
import { difference, featuresOf, kinds, studentOf, writeImages } from "../support/kinds.ts";
import { root } from "../support/reference.ts";

const python = process.env.WECOLORA_PYTHON;
const transformers4 = process.env.WECOLORA_TRANSFORMERS_4;

interface Result {
  readonly version: string;
  /** By folder and image. */
  readonly features: readonly (readonly (readonly number[])[])[];
}

let folder: string;
let images: string[];
const students = new Map<string, Model>();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-python-"));
  images = await writeImages(join(folder, "images"));
  for (const kind of kinds) students.set(kind.name, await studentOf(kind, folder));
});
afterAll(async () => {
  for (const student of students.values()) await student.dispose();
  await rm(folder, { recursive: true });
});

async function runLoaders(
  library: "transformers" | "timm",
  folders: readonly string[],
  pythonPath?: string,
): Promise<Result> {
  const out = join(folder, "out.json");
  const script = join(root, "tests/support/run_loaders.py");
  await promisify(execFile)(python ?? "python", [script, library, out, ...images, "--", ...folders], {
    env: { ...process.env, ...(pythonPath ? { PYTHONPATH: pythonPath } : {}), HF_HUB_OFFLINE: "1" },
    maxBuffer: 2 ** 26,
  });
  return JSON.parse(await readFile(out, "utf8")) as Result;
}

/** Saves the students that a library holds, runs them there and compares; `bound` is of the whole, as its root mean square. */
async function compare(
  library: "transformers" | "timm",
  version: RegExp,
  bound: number,
  pythonPath?: string,
): Promise<void> {
  const format = library === "timm" ? "timm" : "huggingface";
  const loadable = [...students].filter(([, student]) => isHeldBy(student, library));
  const folders = loadable.map(([name]) => join(folder, `${format} ${name}`));
  for (const [i, [, student]] of loadable.entries()) await saveModel(student, folders[i], { format });
  const result = await runLoaders(library, folders, pythonPath);
  expect(result.version).toMatch(version);
  const lines: string[] = [];
  for (const [i, [name, student]] of loadable.entries()) {
    let worst = 0;
    for (const [j, image] of images.entries()) {
      const ours = await featuresOf(student, image, library === "timm" ? undefined : "down");
      const { data } = library === "timm" ? ours.pooled : ours.tokens;
      worst = Math.max(worst, difference(result.features[i][j], data));
    }
    lines.push(`${name} ${worst.toExponential(1)}`);
    expect(worst, `${name} in ${library} ${result.version}`).toBeLessThan(bound);
  }
  console.log(`${library} ${result.version}: ${lines.join(", ")}`);
}

const without = python ? "" : " (skipped: set WECOLORA_PYTHON to a Python that has torch, transformers 5 and timm)";
const without4 =
  python && transformers4
    ? ""
    : " (skipped: set WECOLORA_PYTHON and WECOLORA_TRANSFORMERS_4, a folder with transformers 4.57)";

// torch rounds once where Pillow rounds after each pass, so pixels differ by up to one level of 255.
test.skipIf(!python)(`transformers 5${without}`, () => compare("transformers", /^5\./, 1e-2));

test.skipIf(!python || !transformers4)(`transformers 4.57${without4}`, () =>
  compare("transformers", /^4\.57/, 1e-2, transformers4),
);

test.skipIf(!python)(`timm${without}`, () => compare("timm", /^1\./, 1e-4));
