// The source as modules that Node runs: bundled with the scripts of its workers beside it, since parts of an evaluation are no
// part of the package.
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "tsdown";

const root = fileURLToPath(new URL("../..", import.meta.url));

export async function loadSource() {
  const outDir = join(root, ".bench/source");
  await build({
    config: false,
    entry: {
      source: "bench/leaderboard/source.ts",
      "session-worker": "src/platform/node/session-worker.ts",
      "image-worker": "src/platform/node/image-worker.ts",
    },
    cwd: root,
    outDir,
    format: "esm",
    platform: "node",
    target: "es2023",
    fixedExtension: false,
    dts: false,
    clean: true,
    logLevel: "error",
  });
  return import(pathToFileURL(join(outDir, "source.js")).href);
}
