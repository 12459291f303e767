import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  // Tests run on the source; `dist` is used where the built command line and the package are tested.
  resolve: {
    alias: [
      { find: /^wecolora\/node$/, replacement: file("src/platform/node/node.ts") },
      { find: /^wecolora\/web$/, replacement: file("src/platform/web/web.ts") },
      { find: /^wecolora\/web\/client$/, replacement: file("src/platform/web/client.ts") },
      { find: /^wecolora$/, replacement: file("src/index.ts") },
      { find: /^\.\/worker-files\.ts$/, replacement: file("tests/support/worker-files.ts") },
    ],
  },
  test: {
    include: ["tests/**/*.test.ts"],
    globalSetup: ["tests/support/build-workers.ts"],
    // A bound against hanging alone: a loaded machine may take many times as long as an idle one.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // Each test file may use all cores through ONNX Runtime; more than two at once would only wait for each other.
    maxWorkers: 2,
  },
});
