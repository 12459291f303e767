// The run folder: settings, images used, log, checkpoints, student and report.
//
// A run is begun when config.json is there, which is written last of what it begins with; it has its result when result.json is
// there; it is finished when the journal says that report and exports, where they were asked for, are there too.
import type { z } from "zod";
import { readSafetensors, writeSafetensors } from "../checkpoints/safetensors-file.ts";
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import type { ImageFacts } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { DistillationState } from "./training-state.ts";
import { eventFile, scalarEvents } from "../report/tensorboard.ts";
import type { LoggedImage } from "../report/tensorboard.ts";
import { outputError, UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { textChunks } from "./output-files.ts";
import type { OutputFolder } from "./output-folder.ts";
import type {
  ImageUse,
  PredictionLine,
  LogEntry,
  ManifestLine,
  MeasuredExport,
  RunConfig,
  RunResult,
} from "./run-schemas.ts";
import {
  configFormat,
  exportsFormat,
  exportsSchema,
  predictionLineSchema,
  logEntrySchema,
  manifestLineSchema,
  resultFormat,
  runConfigSchema,
  runResultSchema,
} from "./run-schemas.ts";
import { cachedFeaturesEntry, earlierEntries, eventsEntry, stateName, statePattern } from "./run-entries.ts";
import { currentExports, currentLogEntry, currentPrediction, currentResult } from "./earlier-names.ts";
import { checkVersion, parseJson, parseLines } from "./versioned.ts";

export { cachedFeaturesEntry } from "./run-entries.ts";
export type { ImageUse, PredictionLine, LogEntry, ManifestLine, RunConfig, RunResult } from "./run-schemas.ts";

/** An image of a run: what it is used for, and what is known of its file. */
export interface ManifestEntry extends Partial<ImageFacts> {
  readonly item: Item;
  readonly uses: readonly ImageUse[];
}

/** An entry of the log as it is handed in; the time is added. */
export type LoggedEntry = {
  readonly [K in LogEntry["kind"]]: Omit<Extract<LogEntry, { kind: K }>, "time">;
}[LogEntry["kind"]];

/** How far a run has come. */
export type RunStage = "absent" | "begun" | "measured" | "finished";

const jsonChunks = (value: unknown) => textChunks(`${JSON.stringify(value, null, 2)}\n`);
const lineChunks = (values: readonly unknown[]) =>
  textChunks(values.map((value) => `${JSON.stringify(value)}\n`).join(""));

/** A run as its files say, for whoever reads it; written to only by the process that holds its folder (`OutputFolder`). */
export class RunFolder {
  readonly directory: Directory;
  private readonly output: OutputFolder | undefined;

  constructor(from: Directory | OutputFolder) {
    this.output = "directory" in from ? from : undefined;
    this.directory = "directory" in from ? from.directory : from;
  }

  private get path(): string {
    return this.directory.describe("");
  }

  /** The folder as it is held for writing. */
  private get heldOutput(): OutputFolder {
    if (!this.output) throw new Error(`${this.path} was opened for reading`);
    return this.output;
  }

  /** How far the run in this folder has come; a run that is being replaced is none. */
  async stage(): Promise<RunStage> {
    if (this.heldOutput.isReplacing || !this.heldOutput.has("config.json")) return "absent";
    const names = await this.directory.list();
    if (!names.includes("config.json")) return "absent";
    if (!names.includes("result.json")) return "begun";
    return this.heldOutput.isFinished ? "finished" : "measured";
  }

  /** Throws a UserError where a run is there already. */
  async refuseRun(): Promise<void> {
    const stage = await this.stage();
    if (stage === "absent") return;
    throw outputError(
      stage === "finished"
        ? `${this.path} already holds a run, which is finished. Give another folder, or --overwrite to replace it.`
        : `${this.path} already holds a run, which is not finished. Resume it with --resume ${this.path}, give another folder, or --overwrite to replace it.`,
    );
  }

  /**
   * Begins a run in place of what an earlier one has written here: its student must not be taken for this one's. The settings
   * come last, so that there either is a run to resume or none.
   */
  async begin(
    config: RunConfig,
    manifest: readonly ManifestEntry[],
    classes: readonly string[] | undefined,
  ): Promise<void> {
    await this.heldOutput.clear();
    await this.directory.write("log.jsonl", []);
    await this.writeManifest(manifest, classes);
    await this.directory.write("config.json", jsonChunks({ ...configFormat, ...config }));
  }

  /** Says that all that was asked for is there. */
  markFinished(): Promise<void> {
    return this.heldOutput.markFinished();
  }

  /** What `begin` wrote. Throws a UserError where there is no run. */
  async readConfig(): Promise<RunConfig> {
    const written = await readText(this.directory, "config.json");
    if (written === undefined) {
      const again = this.output?.isReplacing
        ? "the one that was there was being replaced when its process ended, so run the same command again"
        : "there is no config.json";
      throw new UserError(`${this.path} holds no run to resume: ${again}.`, { code: "RUN_NOT_FOUND" });
    }
    const file = this.directory.describe("config.json");
    return checkVersion(runConfigSchema, parseJson(written, file), file, configFormat);
  }

  /** One line an image. */
  private writeManifest(entries: readonly ManifestEntry[], classes: readonly string[] | undefined): Promise<void> {
    const lines = entries.map(({ item, uses, ...facts }): ManifestLine => ({
      name: item.name,
      ...(item.label !== undefined && classes ? { class: classes[item.label] } : {}),
      ...(item.labels && classes ? { labels: item.labels.map((label) => classes[label]) } : {}),
      uses: [...uses],
      ...facts,
    }));
    return this.directory.write("manifest.jsonl", lineChunks(lines));
  }

  /** Names and hashes of the images that the run uses, in its order. */
  async readManifest(): Promise<ManifestLine[]> {
    const file = this.directory.describe("manifest.jsonl");
    const written = await readText(this.directory, "manifest.jsonl");
    if (written === undefined)
      throw new UserError(`There is no ${file}, so the run's images are not known.`, { code: "RUN_NOT_FOUND" });
    return parseLines(manifestLineSchema, written, file);
  }

  /** Appends to the log and, where it is begun, to TensorBoard's events. */
  async log(given: LoggedEntry): Promise<void> {
    const time = Math.round(Date.now()) / 1000;
    const entry = { ...given, time };
    await this.directory.append("log.jsonl", `${JSON.stringify(entry)}\n`);
    for (const event of scalarEvents(entry, time)) await this.directory.append(eventsEntry, event);
  }

  /** All that was logged; a last line that was cut off is left out. */
  async readLog(): Promise<LogEntry[]> {
    const written = (await readText(this.directory, "log.jsonl")) ?? "";
    const whole = written.slice(0, written.lastIndexOf("\n") + 1);
    return parseLines(logEntrySchema, whole, this.directory.describe("log.jsonl"), currentLogEntry);
  }

  /** Takes the folder back to where a run resumes: the log before its last state, and as many states as are kept. */
  async prepareResume(entries: readonly LogEntry[], keep: number): Promise<void> {
    await this.directory.write("log.jsonl", lineChunks(entries));
    for (const entry of [cachedFeaturesEntry, earlierEntries.cachedFeatures]) await this.directory.remove(entry);
    await this.removeOlderStates(keep);
  }

  /** Begins TensorBoard's event file: the settings, a few images, and what was logged before. */
  writeEvents(entries: readonly LogEntry[], settings: unknown, images: readonly LoggedImage[]): Promise<void> {
    const written = JSON.stringify(settings, null, 2);
    return this.directory.write(eventsEntry, eventFile(entries, written, images, Date.now() / 1000));
  }

  /** Writes a state and removes older ones, but for the last `keep`. The best one has a name of its own and stays. */
  async writeState({ steps, tensors }: DistillationState, losses: readonly number[], keep: number): Promise<void> {
    const metadata = { format: "wecolora-state", steps: String(steps), losses: JSON.stringify(losses) };
    await this.directory.write(`checkpoints/${stateName(steps)}`, writeSafetensors(tensors, metadata));
    await this.removeOlderStates(keep);
  }

  private async removeOlderStates(keep: number): Promise<void> {
    const older = (await this.stateFiles()).slice(0, -keep);
    for (const name of older) await this.directory.remove(`checkpoints/${name}`);
  }

  private async stateFiles(): Promise<string[]> {
    return (await this.directory.list("checkpoints")).filter((name) => statePattern.test(name)).sort();
  }

  /** The last state that can be read; undefined where none was written yet. */
  async readState(): Promise<(DistillationState & { readonly losses: readonly number[] }) | undefined> {
    const last = (await this.stateFiles()).at(-1);
    if (last === undefined) return undefined;
    return this.readStateFile(`checkpoints/${last}`);
  }

  private async readStateFile(entry: string): Promise<DistillationState & { readonly losses: readonly number[] }> {
    const file = await this.directory.open(entry);
    if (!file) throw new UserError(`There is no ${this.directory.describe(entry)}`, { code: "FILE_NOT_FOUND" });
    try {
      const { tensors, metadata } = await readSafetensors(file);
      const steps = Number(metadata.steps);
      const losses: unknown = JSON.parse(metadata.losses ?? "[]");
      if (metadata.format !== "wecolora-state" || !Number.isInteger(steps) || !Array.isArray(losses)) {
        throw new UserError(`${file.name} is not a checkpoint of a run`, { code: "FILE_NOT_READABLE" });
      }
      return { steps, tensors: tensors as Map<string, FloatTensor>, losses: losses.map(Number) };
    } finally {
      await file.close();
    }
  }

  /** The state with the best held-out fidelity so far. */
  writeBest({ steps, tensors }: DistillationState): Promise<void> {
    const metadata = { format: "wecolora-state", steps: String(steps) };
    return this.directory.write("checkpoints/best.safetensors", writeSafetensors(tensors, metadata));
  }

  readBest(): Promise<DistillationState> {
    return this.readStateFile("checkpoints/best.safetensors");
  }

  writeAdapters(adapters: ReadonlyMap<string, FloatTensor>, step: number): Promise<void> {
    const metadata = { format: "wecolora-adapters", step: String(step) };
    return this.directory.write("checkpoints/final/adapters.safetensors", writeSafetensors(adapters, metadata));
  }

  /** One line an image that was evaluated on: what each model makes of it. */
  async writePredictions(lines: readonly PredictionLine[]): Promise<void> {
    await this.directory.write("predictions.jsonl", lineChunks(lines));
    await this.directory.remove(earlierEntries.predictions);
  }

  /** What `writePredictions` wrote; nothing where the run was not evaluated. */
  async readPredictions(): Promise<PredictionLine[]> {
    for (const entry of ["predictions.jsonl", earlierEntries.predictions]) {
      const written = await readText(this.directory, entry);
      if (written !== undefined)
        return parseLines(predictionLineSchema, written, this.directory.describe(entry), currentPrediction);
    }
    return [];
  }

  async writeReport(markdown: string, page: string): Promise<void> {
    await this.directory.write("report.md", textChunks(markdown));
    await this.directory.write("report.html", textChunks(page));
  }

  /** The run's result: with it nothing is left but report and exports. */
  writeResult(result: z.input<typeof runResultSchema>): Promise<void> {
    return this.directory.write("result.json", jsonChunks({ ...resultFormat, ...result }));
  }

  /** Adds what was measured of exports, in place of what was measured of the same ones before. */
  async writeExports(measured: readonly MeasuredExport[]): Promise<void> {
    const renewed = new Set(measured.map(({ format }) => format));
    const kept = (await this.readExports()).filter(({ format }) => !renewed.has(format));
    await this.directory.write("exports.json", jsonChunks({ ...exportsFormat, exports: [...kept, ...measured] }));
  }

  /** What was measured of the exports in the folder; nothing where there are none. */
  async readExports(): Promise<readonly MeasuredExport[]> {
    const written = await readText(this.directory, "exports.json");
    if (written === undefined) return [];
    const file = this.directory.describe("exports.json");
    return checkVersion(exportsSchema, parseJson(written, file), file, {
      ...exportsFormat,
      earlier: { 1: currentExports },
    }).exports;
  }

  /** The result of a run; undefined where it has none yet. */
  async readResult(): Promise<RunResult | undefined> {
    const written = await readText(this.directory, "result.json");
    if (written === undefined) return undefined;
    const file = this.directory.describe("result.json");
    return checkVersion(runResultSchema, parseJson(written, file), file, {
      ...resultFormat,
      earlier: { 1: currentResult },
    });
  }
}
