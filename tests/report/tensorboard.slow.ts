// TensorBoard's own reader, from its Python package, reads what a run writes.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { distillArguments, wecolora } from "../support/cli.ts";
import { referencePath, root } from "../support/reference.ts";

const script = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1]); a.Reload()
tags = a.Tags()
print(json.dumps({
  "scalars": {t: [[e.step, e.value] for e in a.Scalars(t)] for t in tags["scalars"]},
  "images": [[a.Images(t)[0].width, a.Images(t)[0].height] for t in tags["images"]],
  "settings": a.Tensors("settings")[0].tensor_proto.string_val[0].decode(),
}))`;

test("scalars, images and settings", async () => {
  const python = join(root, ".bench/tensorboard/bin/python");
  if (!existsSync(python)) {
    execFileSync("python3", ["-m", "venv", join(root, ".bench/tensorboard")]);
    execFileSync(python, ["-m", "pip", "install", "-q", "tensorboard"], { stdio: "inherit" });
  }
  const folder = await mkdtemp(join(tmpdir(), "wecolora-tensorboard-"));
  try {
    const run = join(folder, "run");
    const args = [
      "--recipe",
      "paper",
      "--rank",
      "2",
      "--epochs",
      "2",
      "--warmup-epochs",
      "0",
      "--few-shot-count",
      "2",
      "--no-evaluate",
    ];
    const teacher = referencePath("teachers/timm-vit");
    const data = join(root, "demo/pictures");
    expect(await wecolora(...distillArguments(teacher, data, run), ...args)).toMatchObject({
      code: 0,
    });
    const read = JSON.parse(execFileSync(python, ["-c", script, join(run, "tensorboard")], { encoding: "utf8" }));
    const log = (await readFile(join(run, "log.jsonl"), "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const steps = log.filter(({ kind }) => kind === "step");
    expect(read.scalars["train/loss"]).toEqual(steps.map(({ step, loss }) => [step, Math.fround(loss)]));
    const evaluations = log.filter(({ kind }) => kind === "evaluation");
    expect(read.scalars["held_out/difference"]).toEqual(
      evaluations.map(({ step, meanAbsoluteDifference }) => [step, Math.fround(meanAbsoluteDifference)]),
    );
    expect(read.images).toEqual(Array.from({ length: 4 }, () => [32, 32]));
    expect(read.settings).toContain('"command": "distill"');
  } finally {
    await rm(folder, { recursive: true });
  }
});
