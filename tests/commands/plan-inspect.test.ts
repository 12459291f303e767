// `wecolora inspect --frontier` as tasks: the bits of one process, whatever the number of tasks.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { nodeEnvironment } from "wecolora/node";
import { command } from "../../src/commands/inspect.ts";
import type { Launched } from "../../src/commands/launch.ts";
import { runMerge } from "../../src/commands/merge.ts";
import { runTask } from "../../src/commands/task.ts";
import { runContext } from "../../src/context/run-context.ts";
import { noiseImage } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const platform = nodeEnvironment({ threads: 1 });
// Each look at this clock is as much later, so that all models take the same time: times are of a machine, not of a plan.
let milliseconds = 0;
const environment = { ...platform, now: () => (milliseconds += 100) };
const context = runContext(environment);
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-plan-inspect-"));
  for (let i = 0; i < 12; i++) await noiseImage(at("data", `p${String(i).padStart(2, "0")}.jpg`), i, i % 3);
});
afterAll(async () => {
  await platform.dispose();
  await rm(folder, { recursive: true });
});

const options = (out: string) => ({
  ...{ model: referencePath("teachers/timm-vit"), data: at("data"), out: at(out), maxImages: 12, threads: 1 },
  ...{ frontier: true, search: true, budget: "0.7x" },
});

test("the frontier, the runs of blocks and the proposal are the bits of one process, with 1, 3 and 7 tasks", async () => {
  const whole = await command.run(context, options("whole"));
  expect(whole).toMatchObject({ blocks: { images: 12, proposal: { budget: "0.7x" } } });
  for (const tasks of [1, 3, 7]) {
    const out = `cut${tasks}`;
    const launched = (await command.run(context, { ...options(out), launcher: "plan", tasks })) as Launched;
    expect(launched.missing).toHaveLength(tasks);
    for (const index of launched.missing.toReversed()) await runTask(context, { plan: launched.plan, index });
    const { result } = await runMerge(context, { plan: launched.plan });
    expect(JSON.parse(JSON.stringify(result).replaceAll(at(out), at("whole")))).toEqual(whole);
    for (const name of ["blocks.csv", "frontier.csv"])
      expect(await readFile(at(out, name), "utf8"), name).toBe(await readFile(at("whole", name), "utf8"));
  }
  // Students were refitted for it, in tasks of their own.
  const lines = (await readFile(at("cut7.tasks", "units", "000006.jsonl"), "utf8")).trim().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toContainEqual(
    expect.objectContaining({ kind: "model", shape: expect.any(Number) }),
  );
});

test("the same command again keeps what was timed, so that finished tasks stay so", async () => {
  // Times of a clock that runs: no two measurements are the same.
  const timed = runContext(platform);
  const given = { ...options("again"), search: false, budget: undefined, launcher: "plan" as const, tasks: 3 };
  const { plan } = (await command.run(timed, given)) as Launched;
  await runTask(timed, { plan, index: 0 });
  expect(await command.run(timed, given)).toMatchObject({ missing: [1, 2] });
});

test("an image that changed is noticed by a task", async () => {
  const launched = (await command.run(context, { ...options("changed"), launcher: "plan", tasks: 2 })) as Launched;
  await writeFile(at("data", "p00.jpg"), await readFile(at("data", "p01.jpg")));
  await expect(runTask(context, { plan: launched.plan, index: 1 })).rejects.toThrow(
    "p00.jpg changed since the plan was made",
  );
});

test("without images there is nothing to cut", async () => {
  const { data: _, ...rest } = options("never");
  await expect(command.run(context, { model: rest.model, tasks: 2 })).rejects.toThrow("--tasks needs images");
  await expect(command.run(context, { ...options("never"), out: undefined, tasks: 2 })).rejects.toThrow(
    "inspect needs out",
  );
});
