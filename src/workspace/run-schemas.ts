// What the files of a run folder hold. config.json and result.json carry a format and a version; the version in config.json is
// that of the lines in log.jsonl, manifest.jsonl and predictions.jsonl too, which are never read without it.
import { z } from "zod";
import type { Comparison } from "../report/findings.ts";
import type { LoadingFacts } from "../report/loading.ts";
import type { ResultRow } from "../report/results.ts";

export const configFormat = { format: "wecolora-run", version: 1 } as const;
// Version 2 has other names for some keys (earlier-names.ts).
export const resultFormat = { format: "wecolora-result", version: 2 } as const;
export const exportsFormat = { format: "wecolora-exports", version: 2 } as const;
export const studentRowFormat = { format: "wecolora-student-row", version: 2 } as const;
export const teacherFormat = { format: "wecolora-teacher", version: 2 } as const;

const count = z.number().int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** JSON has no word for what is not a number: such figures are written as null. */
const figure = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);
const interval = z.tuple([figure, figure]).readonly();
const widths = {
  mlpWidth: count.optional(),
  keptHeads: count.optional(),
  /** What each kept block keeps, where blocks differ. */
  shapes: z
    .array(z.object({ heads: count, mlpWidth: count, queryWidth: count.optional(), valueWidth: count.optional() }))
    .readonly()
    .optional(),
};

const planSchema = z.object({
  batch: z.number().int().positive(),
  steps: count,
  notes: z.array(z.string()).readonly(),
});

/** config.json: all that decides a run's bits. */
/** A combination of levers that a search built and measured. */
const triedSchema = z.object({
  export: z.string(),
  /** The export's own options that it was tried with. */
  exportOptions: z.record(z.string(), z.unknown()).optional(),
  /** Pixels per side of the images, where they are smaller than the teacher's own. */
  imageSize: count.optional(),
  /** Tokens that each block merges away. */
  merging: z.array(count).readonly().optional(),
  /** Share of the teacher's block weights. */
  blockShare: z.number(),
  bytes: z.number(),
  /** Share of the teacher's parameters. */
  share: z.number(),
  milliseconds: z.number().optional(),
  /** 1 - the mean cosine similarity of pooled features, on crops that nothing was fitted on. */
  loss: z.number(),
  agreement: z.number(),
});
export type TriedCandidate = z.output<typeof triedSchema>;

/** What a search over shape, image size, token merging and exports chose. */
const deploymentSchema = triedSchema.extend({
  /** The shape, as options that make it. */
  choice: z.object({
    keptBlocks: z.array(count).readonly(),
    mlpWidth: z.number().optional(),
    keptHeads: z.number().optional(),
    blockShapes: z.array(z.string()).readonly().optional(),
    copied: z.array(count).readonly(),
  }),
  tried: z.array(triedSchema).readonly(),
});
/** A student of a run that makes several. */
const sizedSchema = z.object({
  size: z.string(),
  /** Its directory in the run's folder. */
  student: z.string(),
  keptBlocks: z.array(count).readonly(),
  ...widths,
});
export type SizedResult = z.output<typeof sizedSchema>;

export type Deployment = z.output<typeof deploymentSchema>;

export const runConfigSchema = z.object({
  command: z.literal("distill"),
  /** As distillOptions reads them, with the precision that was settled. */
  options: z.record(z.string(), z.unknown()),
  /** What of the options was settled by measuring, as it was asked for. */
  requested: z.strictObject({ precision: z.string(), int8Parts: z.array(z.string()).readonly() }),
  teacher: z.object({
    /** Of weights, configuration and preprocessing. */
    sha256,
    /** The commit that a model on the hub was read at. */
    commit: z.string().optional(),
  }),
  data: z.object({
    /** Of all images' names and classes. */
    listing: sha256,
    classes: z.array(z.string()).readonly().optional(),
    /** Whether images to evaluate on are set aside; those trained on are evaluated on otherwise. */
    heldOut: z.boolean(),
  }),
  /** Products in 8 bits, where there are any. */
  int8: z.object({ largest: z.number(), parts: z.array(z.string()).readonly() }).optional(),
  plan: planSchema,
  keptBlocks: z.array(count).readonly(),
  ...widths,
  /** Blocks whose weight copy has as many weights. */
  copied: z.array(count).readonly().optional(),
  /** What a search over all levers chose, where a budget or an agreement asked for one. */
  deployment: deploymentSchema.optional(),
  /** Threads of ONNX Runtime, where the device has a number of them. */
  threads: z.number().int().positive().optional(),
  fewShot: z.unknown(),
  about: z.record(z.string(), z.unknown()),
});
export type RunConfig = z.output<typeof runConfigSchema>;

const accuracySchema = z.object({
  top1: figure,
  top5: figure,
  interval: interval.optional(),
  top5Interval: interval.optional(),
});
const areaSchema = z.object({
  each: z
    .array(
      z
        .number()
        .nullish()
        .transform((value) => value ?? undefined),
    )
    .readonly(),
  mean: z.number().optional(),
  interval: interval.optional(),
});

/** A row of a result table. */
export const resultRowSchema = z.object({
  name: z.string(),
  /** Evaluation images; runs of earlier versions don't say how many. */
  images: count.optional(),
  knn: accuracySchema.optional(),
  probe: accuracySchema.optional(),
  logistic: accuracySchema.optional(),
  head: accuracySchema.optional(),
  auroc: z
    .looseObject({
      knn: areaSchema.optional(),
      probe: areaSchema.optional(),
      logistic: areaSchema.optional(),
      head: areaSchema.optional(),
    })
    .optional(),
  fidelity: z
    .looseObject({
      meanAbsoluteDifference: figure,
      cosine: figure,
      agreement: figure.optional(),
      intervals: z
        .object({
          meanAbsoluteDifference: interval.optional(),
          cosine: interval.optional(),
          agreement: interval.optional(),
        })
        .optional(),
    })
    .optional(),
  /** The probe's, where it was chosen. */
  probeLearningRate: figure.optional(),
  probeBest: z.object({ epoch: count, top1: figure.optional(), auroc: figure.optional() }).optional(),
  parameters: z.number().optional(),
  bytes: z.number().optional(),
  millisecondsPerImage: figure.optional(),
  millisecondsQuartiles: interval.optional(),
}) satisfies z.ZodType<ResultRow>;

const comparisonSchema = z.object({
  metric: z.enum(["knn", "probe", "head"]),
  model: z.string(),
  than: z.string(),
  difference: figure,
  interval: interval.optional(),
}) satisfies z.ZodType<Comparison>;

const evaluationSchema = z.object({
  step: count,
  meanAbsoluteDifference: figure,
  cosine: figure,
  knn: figure.optional(),
});

const loadingSchema = z.object({
  task: z.enum(["image-classification", "image-feature-extraction"]),
  inTransformers: z.boolean(),
  needsTransformers5: z.boolean(),
}) satisfies z.ZodType<LoadingFacts>;

/** result.json: what a run came to. */
export const runResultSchema = z.object({
  teacherFromHub: z.boolean(),
  images: count,
  keptBlocks: z.array(count).readonly(),
  ...widths,
  /** The other students of a run that makes several. */
  sizes: z.array(sizedSchema).readonly().optional(),
  steps: count,
  firstLoss: figure.optional(),
  lastLoss: figure.optional(),
  trainingSeconds: z.number(),
  evaluations: z.array(evaluationSchema).readonly(),
  bestStep: count.optional(),
  startSeconds: z.number(),
  skipped: count,
  results: z.array(resultRowSchema).readonly(),
  comparisons: z.array(comparisonSchema).readonly(),
  evaluatedOnTrainingImages: z.boolean(),
  /** The licence of the teacher, where its model card states one. */
  teacherLicense: z.object({ id: z.string(), name: z.string().optional(), link: z.string().optional() }).optional(),
  /** What decides who loads the student; runs of earlier versions don't say it. */
  loading: loadingSchema.optional(),
});
export type RunResult = z.output<typeof runResultSchema>;

const measuredExportSchema = z.object({
  format: z.string(),
  bytes: z.number(),
  relativeDifference: figure,
  cosine: figure,
  images: count,
  intervals: z.object({ relativeDifference: interval.optional(), cosine: interval.optional() }),
  knn: z
    .object({
      exported: figure,
      original: figure,
      intervals: z.object({ exported: interval.optional(), original: interval.optional() }),
    })
    .optional(),
  millisecondsPerImage: figure,
  millisecondsQuartiles: interval.optional(),
  imageSize: count.optional(),
  merging: z.array(count).readonly().optional(),
});
/** exports.json: what was measured of each export in the run's folder. */
export const exportsSchema = z.object({ exports: z.array(measuredExportSchema).readonly() });
export type MeasuredExport = z.output<typeof measuredExportSchema>;

const time = z.number();
/** A line of log.jsonl. */
export const logEntrySchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("step"),
    step: count,
    epoch: z.number(),
    loss: z.number(),
    learningRate: z.number(),
    seconds: z.number(),
    time,
  }),
  z.object({ kind: z.literal("evaluation"), ...evaluationSchema.shape, time }),
  z.object({ kind: z.literal("result"), ...resultRowSchema.shape, time }),
]);
export type LogEntry = z.output<typeof logEntrySchema>;

/** What a run uses an image for. */
export const imageUses = ["train", "bank", "evaluation", "tracking bank", "tracking"] as const;
export type ImageUse = (typeof imageUses)[number];

/** A line of manifest.jsonl: an image that the run uses, in the run's order. */
export const manifestLineSchema = z.object({
  name: z.string(),
  class: z.string().optional(),
  /** All that apply, where several may. */
  labels: z.array(z.string()).readonly().optional(),
  uses: z.array(z.enum(imageUses)).min(1).readonly(),
  /** Left out where an image to evaluate on can't be read. */
  sha256: sha256.optional(),
  bytes: count.optional(),
  width: count.optional(),
  height: count.optional(),
});
export type ManifestLine = z.output<typeof manifestLineSchema>;

const modelPredictionsSchema = z.object({
  knn: z.string().optional(),
  probe: z.string().optional(),
  head: z.string().optional(),
  /** The most similar images of the bank, nearest first. */
  nearest: z.array(z.string()).readonly().optional(),
  meanAbsoluteDifference: figure.optional(),
  cosine: figure.optional(),
});

/** A line of predictions.jsonl: an image that was evaluated on, with its class and what models take it for by name. */
export const predictionLineSchema = z.object({
  name: z.string(),
  class: z.string().optional(),
  models: z.record(z.string(), modelPredictionsSchema),
});
export type PredictionLine = z.output<typeof predictionLineSchema>;

/** evaluation.json: what `wecolora evaluate --out` found. */
export const evaluationFormat = { format: "wecolora-evaluation", version: 2 } as const;
export const evaluationFileSchema = z.object({
  options: z.record(z.string(), z.unknown()),
  comparisons: z.array(comparisonSchema).readonly(),
  queries: count,
  bank: count,
  skipped: count,
  duplicates: z.array(z.object({ judged: z.string(), learned: z.string() })).readonly(),
  results: z.array(resultRowSchema).readonly(),
});

/** A student on a further data set of a comparison, with the options, the model and the data that the row follows from. */
export const studentRowSchema = z.object({
  settings: z.string(),
  student: sha256,
  data: sha256,
  row: resultRowSchema,
});
/** A teacher's row of a comparison, kept so that it is evaluated once. */
export const teacherRowSchema = z.object({ teacher: sha256, data: sha256, row: resultRowSchema });
