// Loading ViT-B (346 MB) from safetensors: seconds from a warm disk, and how far the process grows.
//   node bench/load.js
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readDefinition, saveModel } from "wecolora/node";
import { randomModel, steps } from "./models.js";

const resident = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) / 1024;
const [path] = process.argv.slice(2);
if (path) {
  // In a process of its own, so that nothing else is counted.
  await readDefinition(join(path, "missing")).catch(() => undefined);
  const before = resident();
  const begin = performance.now();
  const { weights } = await readDefinition(path);
  const seconds = (performance.now() - begin) / 1000;
  console.log(JSON.stringify({ seconds, grownMB: resident() - before, weights: weights.size }));
} else {
  const { execFileSync } = await import("node:child_process");
  const folder = await mkdtemp(join(tmpdir(), "wecolora-load-"));
  try {
    const rows = [];
    for (const format of ["huggingface", "timm"]) {
      const directory = join(folder, format);
      await saveModel(randomModel(steps["vit-b"]), directory, { format });
      const file = join(directory, "model.safetensors");
      await readFile(file);
      const bytes = (await stat(file)).size;
      const measured = JSON.parse(
        execFileSync(process.execPath, [import.meta.filename, directory], { encoding: "utf8" }),
      );
      rows.push({ format, fileMB: bytes / 2 ** 20, ...measured, timesTheFile: (measured.grownMB * 2 ** 20) / bytes });
    }
    console.log(JSON.stringify(rows, null, 2));
  } finally {
    await rm(folder, { recursive: true });
  }
}
process.exit(0);
