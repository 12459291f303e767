// Stops runs at the beginning of each of their stages.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProgressEvent, RunControls } from "wecolora/node";
import { expect } from "vitest";

/** Runs something into an output of its own. */
export type Work = (out: string, controls: RunControls) => Promise<unknown>;

const stagesInto = (stages: string[]) => (event: ProgressEvent) => {
  if (event.status === "stage") stages.push(event.stage);
};

/** The stages of a run that nobody stops. */
export async function stagesOf(work: Work, out: string): Promise<string[]> {
  const stages: string[] = [];
  await work(out, { onProgress: stagesInto(stages) });
  return stages;
}

/** Stops a run when its `k`-th stage begins; no later one may begin. */
export async function stopAt(work: Work, out: string, k: number): Promise<void> {
  const stop = new AbortController();
  const stages: string[] = [];
  const record = stagesInto(stages);
  const running = work(out, {
    signal: stop.signal,
    onProgress(event) {
      record(event);
      if (stages.length === k + 1) stop.abort();
    },
  });
  await expect(running).rejects.toMatchObject({ name: "AbortError", code: "INTERRUPTED" });
  expect(stages).toHaveLength(k + 1);
}

/** Stops a run at each of its stages in turn, each time in a new folder; gives the stages. */
export async function stopAtEach(work: Work): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-stopping-"));
  try {
    const stages = await stagesOf(work, join(folder, "whole"));
    for (let k = 0; k < stages.length; k++) await stopAt(work, join(folder, `stopped-${k}`), k);
    return stages;
  } finally {
    await rm(folder, { recursive: true });
  }
}
