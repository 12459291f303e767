// Worker threads of Node 20 can't run TypeScript: before the tests, their scripts are built from the source into a
// temporary folder, which worker-files.ts here points to.
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "tsdown";
import { workerEntries } from "../../tsdown.config.ts";

export default async function setup(): Promise<() => Promise<void>> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  // In the project's folder, where packages that stay outside of a bundle are found.
  const outDir = await mkdtemp(join(root, "node_modules", ".wecolora-workers-"));
  await build({
    config: false,
    entry: workerEntries,
    cwd: root,
    outDir,
    format: "esm",
    platform: "node",
    target: "es2023",
    fixedExtension: false,
    dts: false,
    clean: false,
    logLevel: "error",
  });
  process.env.WECOLORA_TEST_WORKERS = outDir;
  return () => rm(outDir, { recursive: true });
}
