// `wecolora rollout` and `wecolora similarity`, and what they share with a run's report.
import { z } from "zod";
import type { PictureSource } from "../data/loader.ts";
import { evaluationBatches } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { denormalise } from "../data/transforms.ts";
import type { RolloutOptions } from "../evaluation/rollout.ts";
import { attentionViewer } from "../evaluation/rollout.ts";
import type { LayerSimilarity } from "../evaluation/similarity.ts";
import { layerSimilarity } from "../evaluation/similarity.ts";
import type { Model } from "../models/model.ts";
import { standalone } from "../report/chart.ts";
import { heatMap } from "../report/figures.ts";
import { attentionOverlay, sideBySide } from "../report/overlay.ts";
import { UserError } from "../utils/errors.ts";
import { parseOptions } from "../utils/parse-options.ts";
import type { Picture } from "../utils/image.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { rows } from "../utils/tensor.ts";
import type { Environment, Listener } from "../context/environment.ts";
import { loadRequest, SkippedPictures } from "../context/environment.ts";
import type { Directory } from "../files/storage.ts";
import { textChunks, writeChart } from "../workspace/output-files.ts";
import type { NamedInput, OutputFolder, OutputRequest } from "../workspace/output-folder.ts";
import { withOptionalOutput, withOutput } from "../workspace/output-folder.ts";
import { limitItems } from "../evaluation/evaluate-candidates.ts";
import { commonSchema, countOption, pathOption, readOptions, readSchema } from "../context/common-options.ts";
import { headFusions, rolloutDefaults, rolloutMethods } from "../evaluation/rollout.ts";

/** `wecolora rollout` */
export const rolloutRunSchema = z.strictObject({
  model: pathOption.describe("the model: its directory, file of weights, or hub name"),
  teacher: pathOption.optional().describe("a model to show beside it"),
  data: pathOption.describe("a folder of pictures"),
  out: pathOption.describe("the folder to write one PNG a picture into"),
  attention: z
    .enum(rolloutMethods)
    .default(rolloutDefaults.method)
    .describe("attention followed through all blocks, or that of the last block alone"),
  fusion: z.enum(headFusions).default(rolloutDefaults.fusion).describe("how the heads of a block become one"),
  discard: z
    .number()
    .min(0)
    .lt(1)
    .default(rolloutDefaults.discard)
    .describe("share of a block's smallest entries that rollout leaves out"),
  pictures: countOption.default(16).describe("at most so many pictures, drawn evenly"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

/** `wecolora similarity` */
export const similarityRunSchema = z.strictObject({
  model: pathOption.describe("the student: its directory, file of weights, or hub name"),
  teacher: pathOption.describe("the teacher"),
  data: pathOption.describe("a folder of pictures"),
  out: pathOption.optional().describe("a folder for similarity.csv, .svg and .png (only the table where left out)"),
  pictures: countOption.default(64).describe("at most so many pictures, drawn evenly"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

export type RolloutRunInput = z.input<typeof rolloutRunSchema>;
export type SimilarityRunInput = z.input<typeof similarityRunSchema>;

/** Pictures at once: attention maps of all blocks are large. */
const batch = 4;

/** A picture, and overlays of where models look in it. */
export interface Overlays {
  readonly item: Item;
  readonly picture: Picture;
  readonly overlays: ReadonlyMap<string, Picture>;
}

/** Where models look in pictures, one picture after the other. The models must see pictures in the same way. */
export async function* attentionOverlays(
  models: ReadonlyMap<string, Model>,
  source: PictureSource,
  items: readonly Item[],
  options: RolloutOptions | undefined,
  skip: SkippedPictures["add"],
): AsyncGenerator<Overlays> {
  const { preprocessing } = [...models.values()][0];
  if ([...models.values()].some((model) => JSON.stringify(model.preprocessing) !== JSON.stringify(preprocessing)))
    throw new UserError("the models see pictures through different transforms (preprocessor_config.json)");
  const viewers = new Map(
    await Promise.all([...models].map(async ([name, model]) => [name, await attentionViewer(model, options)] as const)),
  );
  try {
    for await (const { items: read, pixels } of evaluationBatches(source, items, batch, preprocessing, skip)) {
      const maps = new Map<string, FloatTensor>();
      for (const [name, viewer] of viewers) maps.set(name, await viewer.maps(pixels));
      const size = pixels.data.length / read.length;
      for (const [i, item] of read.entries()) {
        const picture = denormalise(pixels.data.subarray(i * size, (i + 1) * size), preprocessing);
        const overlays = [...maps].map(
          ([name, map]) => [name, attentionOverlay(picture, rows(map, i, i + 1).data)] as const,
        );
        yield { item, picture, overlays: new Map(overlays) };
      }
    }
  } finally {
    for (const viewer of viewers.values()) await viewer.dispose();
  }
}

/** Similarity of two models' blocks over pictures. */
export function compareLayers(
  student: Model,
  teacher: Model,
  source: PictureSource,
  items: readonly Item[],
  skip: SkippedPictures["add"],
): Promise<LayerSimilarity> {
  async function* batches() {
    for await (const { pixels } of evaluationBatches(source, items, batch, teacher.preprocessing, skip)) yield pixels;
  }
  return layerSimilarity(student, teacher, batches(), items.length);
}

export interface RolloutRunResult {
  readonly out: string;
  /** The PNG files in it, by picture. */
  readonly files: Readonly<Record<string, string>>;
  /** What stands in each from left to right. */
  readonly columns: readonly string[];
  readonly skipped: number;
}

/** Writes one PNG a picture: the picture, and where the teacher (where one is given) and the model look in it. */
export async function runRollout(
  environment: Environment,
  input: RolloutRunInput,
  listener: Listener = {},
): Promise<RolloutRunResult> {
  const options = parseOptions(rolloutRunSchema, input, "options of rollout");
  const request: OutputRequest = { path: options.out, kind: "rollout", inputs: inputsOf(options) };
  return withOutput(environment, request, (output) => rolloutInto(environment, options, output, listener));
}

/** What is read, and must not be written over. */
const inputsOf = ({
  model,
  teacher,
  data,
}: {
  readonly model: string;
  readonly teacher?: string;
  readonly data: string;
}): NamedInput[] => [
  { option: "--model", path: model },
  ...(teacher === undefined ? [] : [{ option: "--teacher", path: teacher }]),
  { option: "--data", path: data },
];

async function rolloutInto(
  environment: Environment,
  options: z.output<typeof rolloutRunSchema>,
  output: OutputFolder,
  listener: Listener,
): Promise<RolloutRunResult> {
  const data = await environment.openPictures(options.data);
  const models = new Map<string, Model>();
  if (options.teacher !== undefined)
    models.set("teacher", await environment.loadModel(options.teacher, loadRequest(readOptions(options), listener)));
  models.set("model", await environment.loadModel(options.model, loadRequest(readOptions(options), listener)));
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  const { directory } = output;
  const files: Record<string, string> = {};
  try {
    const items = limitItems(data.items, options.pictures, options.seed);
    listener.stage?.("looking", items.length);
    const { attention: method, fusion, discard } = options;
    for await (const { item, picture, overlays } of attentionOverlays(
      models,
      source,
      items,
      { method, fusion, discard },
      skipped.add,
    )) {
      const file = `${item.name.replace(/\.[^./]*$/, "").replaceAll("/", "__")}.png`;
      await directory.write(file, [await environment.encodePng(sideBySide([picture, ...overlays.values()]))]);
      files[item.name] = file;
      listener.progress?.(Object.keys(files).length);
    }
    if (Object.keys(files).length === 0) throw new UserError(`none of the pictures in ${options.data} can be read`);
    await output.removeStale();
    skipped.report(listener);
    return { out: options.out, files, columns: ["picture", ...models.keys()], skipped: skipped.count };
  } finally {
    await source.dispose();
    for (const model of models.values()) await model.dispose();
  }
}

export interface SimilarityRunResult extends LayerSimilarity {
  readonly out?: string;
  readonly skipped: number;
}

/** Compares a student's blocks with a teacher's, and writes the table and a heat map where a folder is given. */
export async function runSimilarity(
  environment: Environment,
  input: SimilarityRunInput,
  listener: Listener = {},
): Promise<SimilarityRunResult> {
  const options = parseOptions(similarityRunSchema, input, "options of similarity");
  const request = { path: options.out, kind: "similarity" as const, inputs: inputsOf(options) };
  return withOptionalOutput(environment, request, (output) => similarityInto(environment, options, output, listener));
}

async function similarityInto(
  environment: Environment,
  options: z.output<typeof similarityRunSchema>,
  output: OutputFolder | undefined,
  listener: Listener,
): Promise<SimilarityRunResult> {
  const data = await environment.openPictures(options.data);
  const teacher = await environment.loadModel(options.teacher, loadRequest(readOptions(options), listener));
  const student = await environment.loadModel(options.model, loadRequest(readOptions(options), listener));
  const source = environment.createPictureSource(data.path);
  const skipped = new SkippedPictures(options.strict);
  try {
    const items = limitItems(data.items, options.pictures, options.seed);
    listener.stage?.("comparing layers");
    const found = await compareLayers(student, teacher, source, items, skipped.add);
    skipped.report(listener);
    if (output) await writeSimilarity(environment, output.directory, found);
    return { ...found, out: options.out, skipped: skipped.count };
  } finally {
    await source.dispose();
    await student.dispose();
    await teacher.dispose();
  }
}

async function writeSimilarity(
  environment: Environment,
  directory: Directory,
  { cka, cosine }: LayerSimilarity,
): Promise<void> {
  const lines = cka.flatMap((row, s) => row.map((value, t) => [s, t, value, cosine?.[s][t] ?? ""].join(",")));
  await directory.write(
    "similarity.csv",
    textChunks(["student_block,teacher_block,cka,cosine", ...lines, ""].join("\n")),
  );
  const title = "Centred kernel alignment of each block's output (rows: student)";
  const { svg, width, height } = heatMap(cka, [], title, environment.createDocument());
  const whole = standalone(svg, { title, legend: [], width, height });
  await writeChart(environment, directory, "similarity", whole);
}
