// The page as static files with relative paths (`npm run web` builds and serves them on loopback).
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Plugin } from "vite";
import { defineConfig } from "vite";
import { policy } from "./policy.ts";

const root = import.meta.dirname;
const demo = join(root, "../demo");
const out = join(root, "../dist-web");

const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Content-Security-Policy": policy,
};

/** Images of each class that the sample has: few, so that it loads at once. */
const imagesPerClass = 4;

async function sample(to: string): Promise<void> {
  await mkdir(join(to, "teacher"), { recursive: true });
  for (const name of ["config.json", "preprocessor_config.json", "model.safetensors"])
    await cp(join(demo, "teacher", name), join(to, "teacher", name));
  const names: string[] = [];
  for (const split of ["train", "val"])
    for (const group of (await readdir(join(demo, "pictures", split))).sort())
      for (const name of (await readdir(join(demo, "pictures", split, group))).sort().slice(0, imagesPerClass))
        names.push(`${split}/${group}/${name}`);
  for (const name of names) await cp(join(demo, "pictures", name), join(to, "images", name));
  await writeFile(join(to, "images.json"), JSON.stringify(names));
}

/** Puts the policy where files name it, and the sample beside the page. */
let folder = out;
const page: Plugin = {
  name: "wecolora-page",
  configResolved({ build }) {
    folder = build.outDir;
  },
  transformIndexHtml: (html) => html.replace("%CSP%", policy),
  async closeBundle() {
    const worker = join(folder, "isolation.js");
    const text = await readFile(worker, "utf8").catch(() => undefined);
    if (text === undefined) return;
    await writeFile(worker, text.replace("%CSP%", policy));
    await sample(join(folder, "sample"));
  },
};

/** Modules that the page has shorter ones of: it need not load what it never uses. */
const shorter: Readonly<Record<string, string>> = {
  "/src/launchers/registry.ts": "launchers.ts",
  "/src/students/methods/registry.ts": "methods.ts",
  "/src/exports/registry.ts": "exports.ts",
  "/@observablehq/plot/src/projection.js": "plot-parts.ts",
  "/@observablehq/plot/src/marks/tip.js": "plot-parts.ts",
  "/@observablehq/plot/src/interactions/pointer.js": "plot-parts.ts",
};
const shortened = (): Plugin => ({
  name: "wecolora-shorter",
  enforce: "pre",
  async resolveId(source, importer, options) {
    if (!/\/(?:registry\.ts|(?:projection|tip|pointer)\.js)$/.test(source)) return undefined;
    const { id = "" } = (await this.resolve(source, importer, { ...options, skipSelf: true })) ?? {};
    const [, replacement] = Object.entries(shorter).find(([end]) => id.endsWith(end)) ?? [];
    return replacement === undefined ? undefined : join(root, replacement);
  },
});

/** Of package.json the page shows the version alone. */
const version: Plugin = {
  name: "wecolora-version",
  enforce: "pre",
  async load(id) {
    if (id !== join(root, "../package.json")) return undefined;
    const { version: installed } = JSON.parse(await readFile(id, "utf8")) as { version: string };
    return { code: JSON.stringify({ version: installed }), moduleType: "json" };
  },
};

export default defineConfig({
  root,
  base: "./",
  plugins: [page, shortened(), version],
  resolve: {
    alias: {
      "wecolora/web/client": join(root, "../src/platform/web/client.ts"),
      "wecolora/web": join(root, "../src/platform/web/web.ts"),
    },
  },
  build: {
    outDir: out,
    emptyOutDir: true,
    target: "es2023",
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1500,
  },
  worker: { format: "es", plugins: () => [shortened(), version] },
  preview: { host: "127.0.0.1", port: 5180, headers },
});
