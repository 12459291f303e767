// `wecolora similarity`: a student's layers beside its teacher's.
import { z } from "zod";
import { commonSchema, countOption, pathOption, readOptions, readSchema } from "../context/common-options.ts";
import type { RunContext } from "../context/run-context.ts";
import { loadRequest, SkippedImages } from "../context/run-context.ts";
import { compareLayers } from "../evaluation/compare-layers.ts";
import { limitItems } from "../evaluation/evaluate-candidates.ts";
import type { LayerSimilarity } from "../evaluation/layer-similarity.ts";
import { countText } from "../report/results.ts";
import type { Directory } from "../files/storage.ts";
import type { OutputFolder } from "../workspace/output-folder.ts";
import { modelInputs, withOptionalOutput } from "../workspace/output-folder.ts";
import { parseOptions } from "../utils/parse-options.ts";
import { textChunks, writeFigure } from "../workspace/output-files.ts";
import { defineCommand } from "./command.ts";
import { similarityText } from "./result-text.ts";

/** `wecolora similarity` */
export const similarityRunSchema = z.strictObject({
  model: pathOption.describe("the student: its directory, file of weights, or hub name"),
  teacher: pathOption.describe("the teacher"),
  data: pathOption.describe("a folder of images"),
  out: pathOption.optional().describe("output folder for similarity.csv, .svg and .png (default: print only)"),
  maxImages: countOption.default(64).describe("at most so many images, drawn evenly"),
  ...readSchema.shape,
  ...commonSchema.shape,
});

export type SimilarityRunInput = z.input<typeof similarityRunSchema>;

export interface SimilarityRunResult extends LayerSimilarity {
  readonly out?: string;
  readonly skipped: number;
}

/** Compares a student's blocks with a teacher's, and writes the table and a heat map where a folder is given. */
export async function runSimilarity(context: RunContext, input: SimilarityRunInput): Promise<SimilarityRunResult> {
  const options = parseOptions(similarityRunSchema, input, "options of similarity");
  const request = { path: options.out, kind: "similarity" as const, inputs: modelInputs(options) };
  return withOptionalOutput(context, request, (output) => similarityInto(context, options, output));
}

async function similarityInto(
  context: RunContext,
  options: z.output<typeof similarityRunSchema>,
  output: OutputFolder | undefined,
): Promise<SimilarityRunResult> {
  const { environment, listener } = context;
  const data = await environment.openImages(options.data);
  const teacher = await environment.loadModel(options.teacher, loadRequest(context, readOptions(options)));
  const student = await environment.loadModel(options.model, loadRequest(context, readOptions(options)));
  const source = environment.createImageSource(data.path);
  const skipped = new SkippedImages(options.strict);
  try {
    const items = limitItems(data.items, options.maxImages, options.seed);
    skipped.open(context, data.skipped);
    listener.stage?.("comparing layers");
    const layers = await compareLayers(student, teacher, source, items, skipped.add);
    skipped.report(context);
    if (output) await writeSimilarity(context, output.directory, layers);
    return { ...layers, out: options.out, skipped: skipped.count };
  } finally {
    await source.dispose();
    await student.dispose();
    await teacher.dispose();
  }
}

async function writeSimilarity(
  context: RunContext,
  directory: Directory,
  { cka, cosine }: LayerSimilarity,
): Promise<void> {
  const lines = cka.flatMap((row, s) => row.map((value, t) => [s, t, value, cosine?.[s][t] ?? ""].join(",")));
  await directory.write(
    "similarity.csv",
    textChunks(["student_block,teacher_block,cka,cosine", ...lines, ""].join("\n")),
  );
  const title = "Centred kernel alignment of each block's output (rows: student)";
  await writeFigure(context, directory, "similarity", title, ({ heatMap }, document) =>
    heatMap(cka, [], title, document),
  );
}

export const command = defineCommand({
  name: "similarity",
  summary: "Compare a student's blocks with its teacher's.",
  schema: similarityRunSchema,
  run: runSimilarity,
  text: ({ cka, cosine, tokens, images, out }) =>
    [
      `Compared over ${tokens} tokens of ${countText([images, images])}.`,
      similarityText("centred kernel alignment", cka),
      ...(cosine ? [similarityText("mean cosine of tokens", cosine)] : []),
      ...(out === undefined ? [] : [`${out}: similarity.csv, similarity.svg, similarity.png`]),
    ].join("\n"),
});
