import { defineConfig } from "tsdown";

/** Scripts of worker threads, by their files' names. */
export const workerEntries = {
  "session-worker": "src/platform/node/session-worker.ts",
  "image-worker": "src/platform/node/image-worker.ts",
};

export default defineConfig({
  entry: {
    index: "src/index.ts",
    node: "src/platform/node/node.ts",
    // What it shares with the others is split off, and needs no Node (tests/platform/web/package.test.ts).
    web: "src/platform/web/web.ts",
    "web-client": "src/platform/web/client.ts",
    cli: "src/cli/main.ts",
    ...workerEntries,
  },
  format: "esm",
  // Files that all platforms share must not begin with an import of Node's.
  platform: "neutral",
  external: [/^node:/],
  target: "es2023",
  outDir: "dist",
  fixedExtension: false,
  dts: { sourcemap: false },
  sourcemap: false,
  clean: true,
  // How long plugins take is no warning.
  inputOptions: { checks: { pluginTimings: false } },
});
