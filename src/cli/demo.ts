// `wecolora demo`: the whole way on the teacher and pictures that the repository brings.
import { existsSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { defineCommand } from "../commands/command.ts";
import { command as distill, distillText } from "../commands/distill.ts";
import type { DistillRunInput } from "../commands/distill-options.ts";
import { commonSchema } from "../context/common-options.ts";
import { recipeSchema } from "../commands/distill-options.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";

export const demoSchema = z.strictObject({
  quick: z.boolean().default(false).describe("a short run, evaluated on fewer images"),
  recipe: recipeSchema.optional().describe("settings that go together (closed-form where left out)"),
  out: z.string().min(1).optional().describe("output folder of the run (a new temporary one where left out)"),
  overwrite: z.boolean().default(false).describe("replace a run that is already in the folder"),
  ...commonSchema.pick({ threads: true, device: true, seed: true }).shape,
});

/** What the demo distils with. */
export async function demoOptions(options: z.output<typeof demoSchema>): Promise<DistillRunInput> {
  const folder = fileURLToPath(new URL("../demo", import.meta.url));
  if (!existsSync(join(folder, "teacher"))) {
    throw new UserError(
      "The demo's teacher and images come with the repository, not with the npm package. Clone the repository to run the demo.",
      { code: "FILE_NOT_FOUND" },
    );
  }
  const { quick, ...given } = options;
  return {
    ...given,
    out: options.out ?? join(await mkdtemp(join(tmpdir(), "wecolora-demo-")), "run"),
    teacher: join(folder, "teacher"),
    data: join(folder, "pictures"),
    fewShotCount: 3,
    reductionFactor: 2,
    // Rank 64 suits 90 pictures; the closed form has no adapters.
    ...(given.recipe === "paper" || given.recipe === "refined" ? { rank: 64 } : {}),
    ...(quick ? { judgeBank: 90, judgeQueries: 30, evaluateSteps: 0 } : {}),
  };
}

export const command = defineCommand({
  name: "demo",
  summary: "Distil the demo's teacher with the demo's images.",
  schema: demoSchema,
  run: async (context, options) =>
    distill.run(context, await demoOptions(parseOptions(demoSchema, options, "options of demo"))),
  text: distillText,
});
