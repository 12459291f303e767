import { defineConfig } from "tsdown";

export default defineConfig({
  entry: {
    index: "src/index.ts",
    node: "src/platform/node.ts",
    cli: "src/cli/main.ts",
    "session-worker": "src/platform/session-worker.ts",
    "picture-worker": "src/platform/picture-worker.ts",
  },
  format: "esm",
  platform: "node",
  target: "es2023",
  outDir: "dist",
  fixedExtension: false,
  dts: { sourcemap: false },
  sourcemap: true,
  clean: true,
});
