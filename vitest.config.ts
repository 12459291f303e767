import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    testTimeout: 120_000,
    // Some hooks make a whole run.
    hookTimeout: 120_000,
    // Each test file may use all cores through ONNX Runtime; more than two at once would only wait for each other.
    maxWorkers: 2,
  },
});
