import { defineConfig, mergeConfig } from "vitest/config";
import fast from "./vitest.config.ts";

const { include: _, ...test } = fast.test ?? {};

export default mergeConfig(
  { ...fast, test },
  // The hub's servers are fast to test, but their number belongs to those that this suite prints. The documentation's code is
  // run here on all pages.
  defineConfig({
    test: {
      include: ["tests/**/*.slow.ts", "tests/platform/node/hub-servers.test.ts", "tests/readme.test.ts"],
      env: { ALL_PAGES: "1" },
      // As in the other suite a bound against hanging alone; whole lists of models take an hour where others use the machine.
      testTimeout: 7_200_000,
      hookTimeout: 7_200_000,
      maxWorkers: 1,
    },
  }),
);
