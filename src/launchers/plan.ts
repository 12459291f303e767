// Writes the plan alone: for schedulers that are not known here, and to see what would run.
import { shellWord } from "../utils/option-names.ts";
import { defineLauncher } from "./launcher.ts";

export const launcher = defineLauncher({
  name: "plan",
  summary: "nobody: writes the plan, and prints the commands of its tasks and of the merge",
  options: {},
  check: async () => undefined,
  submit: async (_, { opened: { plan, path }, missing }) => ({
    jobs: [],
    notes: [
      `${missing.length} of ${plan.tasks} tasks are to be run, from any machine that sees ${path}:`,
      `wecolora task --plan ${shellWord(path)} --index <0 to ${plan.tasks - 1}>`,
      `wecolora merge --plan ${shellWord(path)}`,
    ],
  }),
  cancel: async () => "Nobody was asked to run these tasks.",
});
