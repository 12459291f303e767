// TypeScript sources as modules that a script can import: Node 20 can't read TypeScript.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "tsdown";

/**
 * Bundles sources and imports them.
 * @param {string} root folder of the repository
 * @param {Record<string, string>} entry paths below the root, by name
 * @returns {Promise<Record<string, any>>} the modules, by the same names
 */
export async function importSources(root, entry) {
  const outDir = await mkdtemp(join(tmpdir(), "wecolora-sources-"));
  try {
    await build({
      config: false,
      cwd: root,
      entry,
      format: "esm",
      platform: "node",
      outDir,
      outExtensions: () => ({ js: ".mjs" }),
      noExternal: [/./],
      dts: false,
      clean: false,
      logLevel: "error",
    });
    const modules = Object.keys(entry).map(async (name) => [
      name,
      await import(pathToFileURL(join(outDir, `${name}.mjs`)).href),
    ]);
    return Object.fromEntries(await Promise.all(modules));
  } finally {
    await rm(outDir, { recursive: true });
  }
}
