// Every vision transformer of timm's registry, built tiny with random weights and saved by timm itself, read by us: right
// within 1e-4, or refused by its name. WECOLORA_PYTHON names a Python that has timm.
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadModel, saveModel } from "wecolora/node";
import { root } from "../../support/reference.ts";
import type { Reading } from "../../support/timm-reading.ts";
import { readTimmModel } from "../../support/timm-reading.ts";

const python = process.env.WECOLORA_PYTHON;

interface Saved {
  model_args?: { img_size?: readonly number[] };
}

const run = (script: string, ...args: string[]): string =>
  execFileSync(python as string, [join(root, "tests/reference", script), ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });

function report(title: string, readings: ReadonlyMap<string, Reading>): void {
  const of = (state: Reading["state"]) => [...readings].filter(([, reading]) => reading.state === state);
  console.log(`${title}: ${of("right").length} right, ${of("refused").length} refused, ${of("wrong").length} wrong`);
  for (const [name, reading] of readings)
    if (reading.state === "wrong") console.log(`${name}: off by ${reading.difference}`);
  expect(of("wrong").map(([name]) => name)).toEqual([]);
  for (const [name, reading] of readings) if (reading.state === "refused") expect(reading.reason).toContain(name);
}

test.skipIf(!python)("timm's whole list (skipped unless WECOLORA_PYTHON names a Python that has timm)", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-timm-"));
  try {
    const names = JSON.parse(run("make_timm_tiny.py", folder)) as string[];
    const readings = new Map<string, Reading>();
    for (const name of names) readings.set(name, await readTimmModel(join(folder, name)));
    report("as timm saves them", readings);
    const right = names.filter((name) => readings.get(name)?.state === "right");
    // 198 of the 297 of timm 1.0.31; another release may have others.
    expect(right.length).toBeGreaterThan(0.6 * names.length);

    // What we save for timm, read by timm.
    for (const name of right) {
      const model = await loadModel(join(folder, name));
      await saveModel(model, join(folder, name, "ours"), { format: "timm", weightType: "float32" });
      await model.dispose();
    }
    const differences = JSON.parse(run("check_timm_exports.py", folder, ...right)) as Record<string, number | string>;
    const wrong = Object.entries(differences).filter(([, value]) => typeof value === "string" || value > 1e-4);
    console.log(`saved by us and read by timm: ${right.length - wrong.length} right, ${wrong.length} wrong`);
    expect(wrong).toEqual([]);

    // Published repositories have no model_args: all that shapes don't tell is the table's. Rotary positions leave no
    // table in the weights that shows the size.
    const published = new Map<string, Reading>();
    for (const name of right) {
      const path = join(folder, name, "config.json");
      const config = JSON.parse(await readFile(path, "utf8")) as Saved;
      const imageSize = config.model_args?.img_size?.[0];
      delete config.model_args;
      await writeFile(path, JSON.stringify(config));
      published.set(name, await readTimmModel(join(folder, name), { imageSize }));
    }
    report("without model_args", published);
    expect([...published].filter(([, { state }]) => state !== "right")).toEqual([]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
