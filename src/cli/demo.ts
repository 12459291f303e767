// `wecolora demo`: the whole way on the teacher and images of the package wecolora-demo, which is the repository's `demo/`.
import { existsSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { defineCommand } from "../commands/command.ts";
import { command as distill, distillText } from "../commands/distill.ts";
import type { DistillRunInput } from "../commands/distill-options.ts";
import { demoSchema, demoSummary } from "./demo-options.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";

const packageName = "wecolora-demo";

/**
 * Where the demo's teacher and images lie: beside `dist/` in the repository, else in the package, installed beside this one or
 * in the working folder. Throws a UserError that says how to get the package where it is in none of these.
 */
function demoFolder(): string {
  // From dist/ and from src/cli/.
  for (const path of ["../demo", "../../demo"].map((path) => fileURLToPath(new URL(path, import.meta.url))))
    if (existsSync(join(path, "teacher"))) return path;
  for (const from of [import.meta.url, join(process.cwd(), "package.json")]) {
    try {
      return dirname(createRequire(from).resolve(`${packageName}/package.json`));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  throw new UserError(
    `The demo's teacher and images are in the package ${packageName} (45 MB), which is not installed. Run: npx --package wecolora --package ${packageName} wecolora demo`,
    { code: "FILE_NOT_FOUND" },
  );
}

/** What the demo distils with. */
export async function demoOptions(options: z.output<typeof demoSchema>): Promise<DistillRunInput> {
  const folder = demoFolder();
  const { quick, ...given } = options;
  return {
    ...given,
    out: options.out ?? join(await mkdtemp(join(tmpdir(), "wecolora-demo-")), "run"),
    teacher: join(folder, "teacher"),
    data: join(folder, "pictures"),
    fewShotCount: 3,
    // Half of the block weights, where no other size is asked for.
    ...((options.budget ?? options.agreement ?? options.sizes) ? {} : { reductionFactor: 2 }),
    // Rank 64 suits 90 images; the closed form has no adapters.
    ...(given.recipe === "paper" || given.recipe === "refined" ? { rank: 64 } : {}),
    ...(quick ? { labelledImages: 90, evaluationImages: 30, evaluateSteps: 0 } : {}),
  };
}

export const command = defineCommand({
  name: "demo",
  summary: demoSummary,
  schema: demoSchema,
  run: async (context, options) =>
    distill.run(context, await demoOptions(parseOptions(demoSchema, options, "options of demo"))),
  text: distillText,
});
