#!/usr/bin/env node
// `wecolora`: parses, calls, prints.
import { Command, CommanderError } from "commander";
import type { z } from "zod";
import {
  compare,
  distill,
  evaluate,
  exportModel,
  features,
  inspectBlocks,
  packageVersion,
  readDefinition,
  report,
  rollout,
  segment,
  similarity,
} from "../platform/node/node.ts";
import { comparisonTable } from "../report/comparison.ts";
import { textTable } from "../report/table.ts";
import type { CompareRunInput } from "../commands/compare.ts";
import { compareRunSchema } from "../commands/compare.ts";
import type { Listener } from "../context/environment.ts";
import { Interrupted, loadRequest } from "../context/environment.ts";
import type { DistillRunInput, ResumeInput } from "../commands/distill-options.ts";
import type { EvaluateRunInput, FeaturesRunInput } from "../commands/evaluate.ts";
import type { ExportRunInput } from "../commands/export.ts";
import type { ReportRunInput } from "../commands/report.ts";
import type { RolloutRunInput, SimilarityRunInput } from "../commands/rollout.ts";
import type { SegmentRunInput } from "../commands/segment.ts";
import { segmentTable } from "../commands/segment.ts";
import { exportTable } from "../commands/export.ts";
import { blocksRunSchema } from "../commands/inspect.ts";
import { distillRunSchema, resumeSchema } from "../commands/distill-options.ts";
import { evaluateRunSchema, featuresRunSchema } from "../commands/evaluate.ts";
import { exportRunSchema } from "../commands/export.ts";
import { readOptions, readSchema } from "../context/common-options.ts";
import { reportRunSchema } from "../commands/report.ts";
import { rolloutRunSchema, similarityRunSchema } from "../commands/rollout.ts";
import { segmentRunSchema } from "../commands/segment.ts";
import { nearestName, UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { kebab } from "../utils/option-names.ts";
import { demoOptions, demoSchema } from "./demo.ts";
import type { BlocksRunResult } from "../commands/inspect.ts";
import { blocksText, describeModel, inspectText } from "./inspect.ts";
import { addOptions, collectOptions } from "./flags.ts";
import { printJson, printResults, printSimilarity } from "./output.ts";
import { createProgress } from "./progress.ts";

const program = new Command("wecolora");

interface OutputOptions {
  readonly json?: boolean;
  readonly config?: string;
  readonly verbose?: boolean;
}

type Progress = Listener & { end(): void };

/** A command whose options come from a schema. */
function schemaCommand(
  name: string,
  summary: string,
  schema: z.ZodObject,
  run: (options: Record<string, unknown>, progress: Progress, output: OutputOptions) => Promise<void>,
  { insteadOfAll, positional }: { readonly insteadOfAll?: string; readonly positional?: string } = {},
): void {
  const command = program.command(name).description(summary);
  if (positional !== undefined) command.argument(`<${positional}...>`, schema.shape[positional].description);
  addOptions(command, positional === undefined ? schema : schema.omit({ [positional]: true } as never));
  command.option("--config <file>", "read options from a YAML or JSON file (camelCase); the command line wins");
  command.action(async () => {
    const output = command.optsWithGlobals<OutputOptions>();
    const options = await collectOptions(command, schema, output.config);
    if (positional !== undefined) options[positional] = command.args;
    const complete = insteadOfAll !== undefined && options[insteadOfAll] !== undefined;
    const missing = complete
      ? []
      : schema.safeParse(options).error?.issues.filter((i) => i.code === "invalid_type" && i.path.length === 1);
    const absent = (missing ?? []).map((i) => String(i.path[0])).filter((key) => options[key] === undefined);
    if (absent.length > 0) {
      throw new UserError(
        `${name} needs ${absent.map((key) => `--${kebab(key)}`).join(" and ")}; see wecolora ${name} --help`,
      );
    }
    const progress = createProgress(process.stderr);
    try {
      await run(options, progress, output);
    } finally {
      progress.end();
    }
  });
}

/** The first Ctrl-C lets the step end and saves; the second stops at once. */
function stopOnInterrupt(progress: Progress): Listener & { release(): void } {
  let asked = false;
  const onInterrupt = () => {
    if (asked) process.exit(130);
    asked = true;
    progress.info?.("finishing this step and saving; press Ctrl-C again to stop at once");
  };
  process.on("SIGINT", onInterrupt);
  return { ...progress, stopRequested: () => asked, release: () => process.off("SIGINT", onInterrupt) };
}

async function runDistill(
  options: DistillRunInput | ResumeInput,
  progress: Progress,
  { json }: OutputOptions,
): Promise<void> {
  const listener = stopOnInterrupt(progress);
  const result = await distill(options, listener).finally(listener.release);
  progress.end();
  if (json) return printJson(result);
  printResults(result.results, result.comparisons);
  if (result.exports) {
    const { columns, rows } = exportTable(result.exports);
    process.stdout.write(`\n${textTable(columns, rows)}\n`);
  }
  process.stdout.write(`\nstudent: ${result.student}\n`);
  if (result.report !== undefined) process.stdout.write(`report:  ${result.report}\n`);
}

program
  .description("Makes a vision transformer smaller from a few unlabelled pictures.")
  .version(packageVersion)
  .option("--json", "print the result as one JSON object, the last line of standard output")
  .option("--verbose", "show stack traces of errors")
  .configureHelp({ showGlobalOptions: true })
  .exitOverride()
  .configureOutput({ outputError: () => undefined });

schemaCommand(
  "distill",
  "Distil a teacher into a smaller student.",
  distillRunSchema.extend(resumeSchema.partial().shape),
  (options, progress, output) => runDistill(options as DistillRunInput | ResumeInput, progress, output),
  { insteadOfAll: "resume" },
);

schemaCommand(
  "compare",
  "Run a grid of distillations and table what they give; needs --config.",
  compareRunSchema,
  async (options, progress, { json }) => {
    const listener = stopOnInterrupt(progress);
    const result = await compare(options as CompareRunInput, listener).finally(listener.release);
    progress.end();
    if (json) return printJson(result);
    const { columns, rows } = comparisonTable(result.summaries);
    process.stdout.write(
      `\n${textTable(columns, rows)}\n\n${result.out}: table.md, table.csv, comparison.svg, comparison.png\n`,
    );
  },
);

schemaCommand(
  "evaluate",
  "Judge a model on a folder of pictures.",
  evaluateRunSchema,
  async (options, progress, { json }) => {
    const result = await evaluate(options as EvaluateRunInput, progress);
    progress.end();
    if (json) return printJson(result);
    printResults(result.results, result.comparisons);
    process.stdout.write(
      `judged on ${result.queries} pictures${result.bank > 0 ? `, learned from ${result.bank}` : ""}\n`,
    );
  },
);

schemaCommand(
  "export",
  "Write a model in other formats; each is loaded again and compared.",
  exportRunSchema,
  async (options, progress, { json }) => {
    const result = await exportModel(options as ExportRunInput, progress);
    progress.end();
    if (json) return printJson(result);
    const { columns, rows } = exportTable(result.exports);
    process.stdout.write(`\n${textTable(columns, rows)}\n\ncompared on ${result.pictures} pictures\n`);
  },
);

schemaCommand(
  "features",
  "Write one feature row a picture.",
  featuresRunSchema,
  async (options, progress, { json }) => {
    const result = await features(options as FeaturesRunInput, progress);
    progress.end();
    if (json) return printJson(result);
    process.stdout.write(`${result.out}: ${result.pictures} rows of ${result.width}\n`);
  },
);

schemaCommand(
  "report",
  "Make the report of a run anew, or one page that compares runs.",
  reportRunSchema,
  async (options, progress, { json }) => {
    const result = await report(options as ReportRunInput, progress);
    progress.end();
    if (json) return printJson(result);
    process.stdout.write(`${result.out}\n`);
  },
  { positional: "runs" },
);

schemaCommand(
  "rollout",
  "Draw where a model looks in pictures, its teacher beside it.",
  rolloutRunSchema,
  async (options, progress, { json }) => {
    const result = await rollout(options as RolloutRunInput, progress);
    progress.end();
    if (json) return printJson(result);
    const count = Object.keys(result.files).length;
    process.stdout.write(`${result.out}: ${count} PNG files, each with ${result.columns.join(" | ")}\n`);
  },
);

schemaCommand(
  "segment",
  "Train decoders on models' patch tokens over slices of scans, and judge their masks.",
  segmentRunSchema,
  async (options, progress, { json }) => {
    const listener = stopOnInterrupt(progress);
    const result = await segment(options as SegmentRunInput, listener).finally(listener.release);
    progress.end();
    if (json) return printJson(result);
    const { columns, rows } = segmentTable(result.models);
    process.stdout.write(
      `\n${textTable(columns, rows)}\n\n${result.out}: table.md, table.csv, segmentation.json, pictures/, decoders as safetensors\n`,
    );
  },
);

schemaCommand(
  "similarity",
  "Compare a student's blocks with its teacher's.",
  similarityRunSchema,
  async (options, progress, { json }) => {
    const result = await similarity(options as SimilarityRunInput, progress);
    progress.end();
    if (json) return printJson(result);
    printSimilarity("centred kernel alignment", result.cka);
    if (result.cosine) printSimilarity("mean cosine of tokens", result.cosine);
    process.stdout.write(`\nover ${result.tokens} tokens of ${result.pictures} pictures\n`);
    if (result.out !== undefined)
      process.stdout.write(`${result.out}: similarity.csv, similarity.svg, similarity.png\n`);
  },
);

schemaCommand(
  "demo",
  "Distil the repository's teacher with its pictures.",
  demoSchema,
  async (options, progress, output) =>
    runDistill(await demoOptions(parseOptions(demoSchema, options, "options of demo")), progress, output),
);

const warning = (message: string) => process.stderr.write(`warning: ${message}\n`);

const inspect = program
  .command("inspect")
  .argument("<model>", "the model: its directory or file of weights")
  .description("Show what a model is, and with --data how much its blocks matter.");
const inspectSchema = blocksRunSchema.partial({ data: true });
addOptions(inspect, inspectSchema);
inspect.action(async (path: string) => {
  const given = await collectOptions(inspect, inspectSchema, undefined);
  const options = parseOptions(inspectSchema, given, "options of inspect");
  const description = describeModel(await readDefinition(path, loadRequest(readOptions(options), { warn: warning })));
  const { json } = program.opts<OutputOptions>();
  const { data } = options;
  if (data === undefined) {
    const idle = Object.keys(given).find((name) => !(name in readSchema.shape));
    if (idle !== undefined) throw new UserError(`--${kebab(idle)} says something of pictures: give --data too`);
  }
  if (!json) process.stdout.write(`${inspectText(path, description)}\n`);
  let blocks: BlocksRunResult | undefined;
  if (data !== undefined) {
    const progress = createProgress(process.stderr);
    blocks = await inspectBlocks(path, { ...options, data }, progress).finally(() => progress.end());
  }
  if (json) printJson({ model: path, ...description, ...(blocks ? { blocks } : {}) });
  else if (blocks) process.stdout.write(`${blocksText(blocks)}\n`);
});

/** Commander's own complaint, with the nearest known option or command. */
function usageMessage(error: CommanderError): string {
  const message = error.message.replace(/^error: /, "").split("\n")[0];
  const [, wrong] = /'([^' ]+)/.exec(message) ?? [];
  if (!wrong || !message.startsWith("unknown") || message.includes("Did you mean"))
    return error.message.replace(/^error: /, "").replace("\n", " ");
  // An option of another command is no better here.
  const words = program.commands
    .flatMap((c) => [c.name(), ...c.options.map((o) => o.long ?? "")])
    .concat("--json", "--verbose")
    .filter((word) => word !== wrong);
  const near = nearestName(wrong, words);
  return `${message}${near ? ` (Did you mean ${near}?)` : ""}`;
}

async function main(): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return;
      process.exitCode = 2;
      if (error.code !== "commander.help") process.stderr.write(`wecolora: ${usageMessage(error)}\n`);
      return;
    }
    process.exitCode = error instanceof UserError ? 2 : error instanceof Interrupted ? 130 : 1;
    const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
    process.stderr.write(`wecolora: ${message}\n`);
    if (process.argv.includes("--verbose") && stack) process.stderr.write(`${stack}\n`);
  }
}

await main();
