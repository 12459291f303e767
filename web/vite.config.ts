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
const imagesAClass = 4;

async function sample(to: string): Promise<void> {
  await mkdir(join(to, "teacher"), { recursive: true });
  for (const name of ["config.json", "preprocessor_config.json", "model.safetensors"])
    await cp(join(demo, "teacher", name), join(to, "teacher", name));
  const names: string[] = [];
  for (const split of ["train", "val"])
    for (const group of (await readdir(join(demo, "pictures", split))).sort())
      for (const name of (await readdir(join(demo, "pictures", split, group))).sort().slice(0, imagesAClass))
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

/** A page hands no tasks over to schedulers, so that it need not load what does. */
const ownLaunchers = (): Plugin => ({
  name: "wecolora-launchers",
  enforce: "pre",
  resolveId: (source, importer) =>
    source === "./registry.ts" && importer?.includes("/src/launchers/") ? join(root, "launchers.ts") : undefined,
});

export default defineConfig({
  root,
  base: "./",
  plugins: [page, ownLaunchers()],
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
  worker: { format: "es", plugins: () => [ownLaunchers()] },
  preview: { host: "127.0.0.1", port: 5180, headers },
});
