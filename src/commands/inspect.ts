// `wecolora inspect MODEL`: what a model is and, with images, how much its blocks matter.
import { z } from "zod";
import { pathOption, readOptions, readSchema } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest } from "../context/run-context.ts";
import { launchOptions } from "../launchers/launch-options.ts";
import { UserError } from "../utils/errors.ts";
import { kebab } from "../utils/option-names.ts";
import { badWeight } from "../models/finite-outputs.ts";
import type { Model } from "../models/model.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { withOptionalOutput } from "../workspace/output-folder.ts";
import type { Division } from "./division.ts";
import { defineDivision } from "./division.ts";
import type { BlocksRunResult } from "./inspect-blocks.ts";
import { blocksRunSchema } from "./inspect-blocks.ts";
import type { ModelDescription } from "./inspect-text.ts";
import { blocksText, describeModel, inspectText } from "./inspect-text.ts";
import type { BlocksPart, BlocksUnit } from "./inspect-work.ts";
import { blocksPartSchema, BlocksWork, blocksUnitSchema } from "./inspect-work.ts";
import type { Launched } from "./launch.ts";
import { divisibleCommand, runDivided } from "./launch.ts";

/** `wecolora inspect` */
export const inspectRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory or file of weights"),
  ...blocksRunSchema.partial({ data: true }).shape,
  ...launchOptions,
});

export type InspectRunInput = z.input<typeof inspectRunSchema>;
type InspectOptions = z.output<typeof inspectRunSchema>;

export interface InspectRunResult extends ModelDescription {
  readonly model: string;
  /** How much its blocks matter, where images were given. */
  readonly blocks?: BlocksRunResult;
}

/**
 * Describes a model, with images as tasks where the options say so. Throws a UserError where it can't be read, and where an
 * option needs images that are not given.
 */
export async function runInspection(context: RunContext, input: InspectRunInput): Promise<InspectRunResult | Launched> {
  const { model: path, data, ...options } = parseOptions(inspectRunSchema, input, "options of inspect");
  if (data !== undefined) return runDivided(context, division, input);
  const given = Object.keys(input).find((name) => name !== "model" && !(name in readSchema.shape));
  if (given !== undefined)
    throw new UserError(`--${kebab(given)} needs images: add --data <folder>.`, { code: "INVALID_OPTION" });
  const model = await context.environment.loadModel(path, loadRequest(context, readOptions(options)));
  try {
    return describe(context, path, model);
  } finally {
    await model.dispose();
  }
}

/** What a model is, with a warning where its figures would be meaningless. */
function describe({ listener }: RunContext, path: string, model: Model): InspectRunResult {
  const bad = badWeight(model.weights);
  if (bad)
    listener.warn?.(`The weight ${bad.name} of ${path} holds ${bad.value}: figures of this model are meaningless`);
  return { model: path, ...describeModel(model) };
}

/** The options of a run with images. */
function withImages({ data, ...options }: InspectOptions) {
  if (data === undefined) throw new UserError("inspect needs --data here.", { code: "INVALID_OPTION" });
  return { ...options, data };
}

const inspectionText = ({ model, blocks, ...description }: InspectRunResult): string =>
  [inspectText(model, description), ...(blocks ? [blocksText(blocks)] : [])].join("\n");

/** With images: runs of blocks, and each model of the frontier. */
export const division: Division<typeof inspectRunSchema, BlocksUnit, BlocksPart, InspectRunResult> = defineDivision({
  name: "inspect",
  schema: inspectRunSchema,
  unit: blocksUnitSchema,
  out: ({ out }) => out,
  within(context, options, use) {
    const { model, data, out } = withImages(options);
    const inputs = [
      { option: "the model", path: model },
      { option: "--data", path: data },
    ];
    return withOptionalOutput(context, { path: out, kind: "inspection", inputs }, use);
  },
  async open(context, options, settled) {
    const work = new BlocksWork(context, withImages(options), settled);
    return {
      units: (forPlan, earlier) => work.units(forPlan, earlier),
      settled: () => work.settled(),
      inputs: () => work.inputs(),
      run: (units) => work.run(units),
      async merge(parts, output) {
        const description = describe(context, options.model, await work.model());
        return { ...description, blocks: await work.merge(parts, output) };
      },
      dispose: () => work.dispose(),
    };
  },
  store: (value) => ({ value, tensors: new Map() }),
  read: ({ value }) => blocksPartSchema.parse(value),
  text: inspectionText,
});

/** Without images there is nothing to cut into tasks. */
export const command = {
  ...divisibleCommand(division, "Describe a model and, with --data, measure how much its blocks matter.", {
    positional: ["model"],
  }),
  run: runInspection,
};
