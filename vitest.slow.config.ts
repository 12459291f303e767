import { defineConfig, mergeConfig } from "vitest/config";
import fast from "./vitest.config.ts";

const { include: _, ...test } = fast.test ?? {};

export default mergeConfig(
  { ...fast, test },
  defineConfig({ test: { include: ["tests/**/*.slow.ts"], maxWorkers: 1 } }),
);
