import { defineConfig, mergeConfig } from "vitest/config";
import fast from "./vitest.config.ts";

const { include: _, ...test } = fast.test ?? {};

export default mergeConfig(
  { ...fast, test },
  // The hub's servers are fast to test, but their number belongs to those that this suite prints.
  defineConfig({
    test: { include: ["tests/**/*.slow.ts", "tests/platform/node/hub-servers.test.ts"], maxWorkers: 1 },
  }),
);
