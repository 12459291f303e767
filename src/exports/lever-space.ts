// What the search over levers (`students/search/lever-search.ts`) chooses from: students of a teacher by the share of
// its block weights, image sizes and token merging (`students/search/token-settings.ts`), and the exports that a search knows.
//
// Bytes and milliseconds are those of the file itself: each candidate is written into memory and opened as its reader
// would. Fidelity is measured on a model with the numbers that the file stands for, on crops that nothing was fitted on.
import { parameterCount } from "../models/definition.ts";
import type { ModelDefinition } from "../models/definition.ts";
import { Model } from "../models/model.ts";
import { mean, rowCosines, sameAnswers } from "../evaluation/metrics.ts";
import { timeInRounds } from "../evaluation/latency.ts";
import { memoryDirectory } from "../files/memory-directory.ts";
import type { RunContext } from "../context/run-context.ts";
import { resizePixels } from "../data/resize-pixels.ts";
import type { Ladder } from "../students/search/ladder.ts";
import type { Candidate, Fidelity, SearchSpace } from "../students/search/lever-search.ts";
import type { TokenLevers, TokenSetting } from "../students/search/token-settings.ts";
import { tokenSettings, withTokens } from "../students/search/token-settings.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { rows } from "../utils/tensor.ts";
import type { Embedder, ExportFormat } from "./export-format.ts";
import { weightBytes } from "./measure.ts";

/** An export with the options that it is tried with. */
export interface TriedExport {
  readonly format: ExportFormat;
  readonly options: Readonly<Record<string, unknown>>;
  /** Whether it may be chosen; predictions are built on one that need not be. */
  readonly offered: boolean;
}

/** Crops that candidates are compared with the teacher on, and what the teacher makes of them. */
export interface ComparedCrops {
  readonly pixels: FloatTensor;
  readonly pooled: FloatTensor;
  /** Where the teacher has a head. */
  readonly logits?: FloatTensor;
}

interface SpaceSettings {
  readonly teacher: Model;
  readonly ladder: Ladder;
  /** The first computes as the model itself. */
  readonly formats: readonly TriedExport[];
  /** Images that exports round weights for, batch by batch. */
  readonly fitted: readonly FloatTensor[];
  readonly tokens: TokenLevers;
  readonly crops: readonly ComparedCrops[];
  readonly context: RunContext;
}

const sizeKey = ({ shape, tokens, format }: Candidate) => `${shape} ${tokens} ${format}`;

/** There are tens of candidates, whose times need not be as exact as those of a table. */
const searchRounds = { runs: 5, milliseconds: 300 };

/** Candidates whose sessions are open at once while they are timed: they take turns. */
const timedTogether = 4;

/** Images that candidates' weights are rounded for, at least: what is shipped is rounded for all. */
const roundedImages = 48;

/** The first batches, of so many images at least where there are as many. */
function firstOf(batches: readonly FloatTensor[], images: number): readonly FloatTensor[] {
  let count = 0;
  return batches.filter(({ dims }) => {
    const taken = count < images;
    count += dims[0];
    return taken;
  });
}

/** Crops in the image size of a model. */
const cropsFor = ({ config, preprocessing }: ModelDefinition, pixels: FloatTensor): FloatTensor =>
  resizePixels(pixels, config.imageSize, preprocessing.interpolation);

/** The space of one teacher. */
export class LeverSpace implements SearchSpace {
  readonly shares: readonly number[];
  readonly tokenSettings: number;
  readonly formats: number;
  private readonly settings: SpaceSettings;
  private readonly tokens: readonly TokenSetting[];
  private readonly students = new Map<number, ModelDefinition>();
  private readonly sizes = new Map<string, number>();

  constructor(settings: SpaceSettings) {
    this.settings = settings;
    this.shares = settings.ladder.shares;
    this.tokens = tokenSettings(settings.teacher, settings.tokens);
    this.tokenSettings = this.tokens.length;
    this.formats = settings.formats.length;
  }

  bytes({ shape, format }: Candidate): number {
    const { ladder, formats, teacher } = this.settings;
    const { format: tried, options } = formats[format];
    return parameterCount(ladder.blank(shape)) * tried.bytesPerWeight(teacher.origin.weightType, options);
  }

  offers({ format }: Candidate): boolean {
    return this.settings.formats[format].offered;
  }

  parameters(shape: number): number {
    const { ladder, teacher } = this.settings;
    return parameterCount(ladder.blank(shape)) / parameterCount(teacher);
  }

  /** Merging has operators of its own, whose time the format changes less than that of products. */
  tokenKind(tokens: number): string {
    return this.tokens[tokens].merging ? "merged" : "whole";
  }

  /** A model with the tokens of a candidate. */
  withTokens(definition: ModelDefinition, tokens: number): ModelDefinition {
    return withTokens(definition, this.tokens[tokens]);
  }

  async time(candidates: readonly Candidate[]): Promise<number[]> {
    const { listener } = this.settings.context;
    listener.stage?.("timing candidates", candidates.length);
    const times: number[] = [];
    for (let i = 0; i < candidates.length; i += timedTogether) {
      times.push(...(await this.timeSome(candidates.slice(i, i + timedTogether))));
      listener.progress?.(times.length);
    }
    return times;
  }

  private async timeSome(candidates: readonly Candidate[]): Promise<number[]> {
    const { crops, context } = this.settings;
    const image = rows(crops[0].pixels, 0, 1);
    const opened = [];
    try {
      for (const candidate of candidates) opened.push(await this.written(candidate));
      const runs = opened.map(({ embedder, model }) => {
        const pixels = cropsFor(model, image);
        return () => embedder.pooled(pixels);
      });
      const times = await timeInRounds(runs, () => context.environment.now(), searchRounds);
      return times.map(({ median }) => median);
    } finally {
      for (const { embedder } of opened) await embedder.dispose();
    }
  }

  /** A candidate without its weights, written into memory and opened again. */
  private async written(candidate: Candidate): Promise<{ embedder: Embedder; model: Model }> {
    const { formats, teacher, context } = this.settings;
    const { directory, definition } = await this.write(candidate);
    const model = new Model(definition, teacher.device);
    const { format } = formats[candidate.format];
    return { embedder: await format.open({ directory, model, context, warn: () => undefined }), model };
  }

  private async write(candidate: Candidate) {
    const { ladder, formats, teacher, context } = this.settings;
    const { shape, tokens, format } = candidate;
    const definition = this.withTokens(ladder.blank(shape), tokens);
    const { format: tried, options } = formats[format];
    const directory = memoryDirectory();
    const { weightType } = teacher.origin;
    const { signal } = context;
    await tried.write({ model: definition, directory, weightType, options, signal, warn: () => undefined });
    const bytes = await weightBytes(directory, tried);
    this.sizes.set(sizeKey(candidate), bytes);
    return { directory, definition, bytes };
  }

  /** Writes a file and forgets it again, where none was written yet. */
  async weigh(candidate: Candidate): Promise<number> {
    return this.sizes.get(sizeKey(candidate)) ?? (await this.write(candidate)).bytes;
  }

  /** The student of a shape, refitted once. */
  private async student(shape: number): Promise<ModelDefinition> {
    const student = this.students.get(shape);
    if (student) return student;
    const made = shape === 0 ? this.settings.teacher : await this.settings.ladder.fitted(shape);
    this.students.set(shape, made);
    return made;
  }

  async fidelity({ shape, tokens, format }: Candidate): Promise<Fidelity> {
    const { formats, teacher, crops, fitted, context } = this.settings;
    const definition = this.withTokens(await this.student(shape), tokens);
    context.listener.stage?.("comparing a candidate with the teacher", crops.length);
    const { format: tried, options } = formats[format];
    if (!tried.search) throw new Error(`the export ${tried.name} can't be searched`);
    const { device } = teacher;
    const images = () => firstOf(fitted, roundedImages).map((pixels) => cropsFor(definition, pixels));
    const calibration = tried.readsImages ? { calibration: { device, images: images() } } : {};
    const { signal } = context;
    const model = await tried.search.asComputed(definition, { device, options, signal, ...calibration });
    try {
      const cosines: number[] = [];
      const agree: boolean[] = [];
      for (const [i, { pixels, pooled, logits }] of crops.entries()) {
        const outputs = await model.outputs(cropsFor(definition, pixels), logits ? ["pooled", "logits"] : ["pooled"]);
        cosines.push(...rowCosines(outputs.pooled, pooled));
        if (logits) agree.push(...sameAnswers(outputs.logits, logits));
        context.listener.progress?.(i + 1);
      }
      const loss = Math.max(0, 1 - mean(cosines));
      return { loss, agreement: agree.length > 0 ? mean(agree.map(Number)) : 1 - loss };
    } finally {
      await model.dispose();
    }
  }
}
