// The run folder: settings, pictures used, log, checkpoints, student and report. Its layout is that of ARCHITECTURE.md.
import { readSafetensors, writeSafetensors } from "../checkpoints/safetensors.ts";
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import type { PictureFacts } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import type { DistillationState } from "./training-state.ts";
import { eventFile, scalarEvents } from "../report/tensorboard.ts";
import type { LoggedImage } from "../report/tensorboard.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { textChunks } from "./output-files.ts";

/** Where cached teacher features lie while a run trains. */
export const keptViewsEntry = "kept-views.bin";

/** All that a run writes. */
const runEntries = [
  "config.json",
  "manifest.jsonl",
  "log.jsonl",
  "tensorboard",
  "checkpoints",
  "student",
  "exports",
  "judged.jsonl",
  "report.md",
  "report.html",
  "result.json",
  keptViewsEntry,
];

const eventsEntry = "tensorboard/events.out.tfevents.wecolora";

export interface ManifestEntry extends PictureFacts {
  readonly item: Item;
}

/** A picture that was judged on, with its class and what models take it for by name. */
export interface JudgedLine {
  readonly name: string;
  readonly class?: string;
  readonly models: Readonly<Record<string, JudgedBy>>;
}

export interface JudgedBy extends Partial<Readonly<Record<"neighbours" | "probe" | "head", string>>> {
  /** The most similar pictures of the bank, nearest first. */
  readonly nearest?: readonly string[];
  readonly difference?: number;
  readonly cosine?: number;
}

export type LogEntry = Readonly<Record<string, unknown>>;

/** What a saved state is named by: the steps done, so that names sort as numbers. */
const stateName = (steps: number) => `step-${String(steps).padStart(8, "0")}.safetensors`;
const statePattern = /^step-(\d{8})\.safetensors$/;

export class RunFolder {
  readonly directory: Directory;

  constructor(directory: Directory) {
    this.directory = directory;
  }

  /** Throws a UserError where a run is there already and must not be replaced. */
  async check(overwrite: boolean): Promise<void> {
    const entries = await this.directory.list();
    const holdsRun = entries.some((name) => name === "config.json" || name === "log.jsonl");
    if (holdsRun && !overwrite) {
      const path = this.directory.describe("");
      throw new UserError(
        `${path} already holds a run; go on with --resume ${path}, give another folder, or --overwrite to replace it`,
      );
    }
  }

  /** Removes what a killed process had begun to write beside its files. */
  async sweep(): Promise<void> {
    for (const folder of ["", "checkpoints/", "checkpoints/final/", "student/", "student/onnx/", "tensorboard/"]) {
      const begun = (await this.directory.list(folder)).filter((name) => name.endsWith(".partial"));
      for (const name of begun) await this.directory.remove(folder + name);
    }
  }

  /** Begins with nothing of an earlier run: its student must not be taken for this one's. */
  async begin(): Promise<void> {
    for (const entry of runEntries) await this.directory.remove(entry);
    await this.directory.write("log.jsonl", []);
  }

  writeConfig(config: unknown): Promise<void> {
    return this.directory.write("config.json", textChunks(`${JSON.stringify(config, null, 2)}\n`));
  }

  /** What `writeConfig` wrote. Throws a UserError where there is no run. */
  async readConfig(): Promise<Readonly<Record<string, unknown>>> {
    const written = await readText(this.directory, "config.json");
    if (written === undefined) {
      throw new UserError(`${this.directory.describe("")} holds no run to go on with: there is no config.json`);
    }
    return parseObject(written, this.directory.describe("config.json"));
  }

  /** One line a picture. */
  writeManifest(entries: readonly ManifestEntry[], classes: readonly string[] | undefined): Promise<void> {
    const lines = entries.map(({ item, ...facts }) =>
      JSON.stringify({
        name: item.name,
        ...(item.label !== undefined && classes ? { class: classes[item.label] } : {}),
        ...facts,
      }),
    );
    return this.directory.write("manifest.jsonl", textChunks(lines.map((line) => `${line}\n`).join("")));
  }

  /** Names and hashes of the pictures that the run uses, in its order. */
  async readManifest(): Promise<{ name: string; sha256: string; class?: string }[]> {
    const file = this.directory.describe("manifest.jsonl");
    const written = await readText(this.directory, "manifest.jsonl");
    if (written === undefined) throw new UserError(`there is no ${file}, so the run's pictures are not known`);
    return parseLines(written, file).map(({ name, sha256, class: of }) => ({
      name: String(name),
      sha256: String(sha256),
      ...(typeof of === "string" ? { class: of } : {}),
    }));
  }

  /** Appends to the log and, where it is begun, to TensorBoard's events. */
  async log(given: LogEntry): Promise<void> {
    const entry = { ...given, time: Math.round(Date.now()) / 1000 };
    await this.directory.append("log.jsonl", `${JSON.stringify(entry)}\n`);
    for (const event of scalarEvents(entry, entry.time)) await this.directory.append(eventsEntry, event);
  }

  /** All that was logged; a last line that was cut off is left out. */
  async readLog(): Promise<LogEntry[]> {
    const written = (await readText(this.directory, "log.jsonl")) ?? "";
    const whole = written.slice(0, written.lastIndexOf("\n") + 1);
    return parseLines(whole, this.directory.describe("log.jsonl"));
  }

  /** Replaces the log, where a run goes on from before its last lines. */
  writeLog(entries: readonly LogEntry[]): Promise<void> {
    return this.directory.write("log.jsonl", textChunks(entries.map((entry) => `${JSON.stringify(entry)}\n`).join("")));
  }

  /** Begins TensorBoard's event file: the settings, a few pictures, and what was logged before. */
  writeEvents(entries: readonly LogEntry[], settings: unknown, images: readonly LoggedImage[]): Promise<void> {
    const written = JSON.stringify(settings, null, 2);
    return this.directory.write(eventsEntry, eventFile(entries, written, images, Date.now() / 1000));
  }

  /** Writes a state and removes older ones, but for the last `keep`. The best one has a name of its own and stays. */
  async writeState({ steps, tensors }: DistillationState, losses: readonly number[], keep: number): Promise<void> {
    const metadata = { format: "wecolora-state", steps: String(steps), losses: JSON.stringify(losses) };
    await this.directory.write(`checkpoints/${stateName(steps)}`, writeSafetensors(tensors, metadata));
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
    if (!file) throw new UserError(`there is no ${this.directory.describe(entry)}`);
    try {
      const { tensors, metadata } = await readSafetensors(file);
      const steps = Number(metadata.steps);
      const losses: unknown = JSON.parse(metadata.losses ?? "[]");
      if (metadata.format !== "wecolora-state" || !Number.isInteger(steps) || !Array.isArray(losses)) {
        throw new UserError(`${file.name} is no checkpoint of a run`);
      }
      return { steps, tensors: tensors as Map<string, FloatTensor>, losses: losses as number[] };
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

  /** One line a picture that was judged on: what each model makes of it. */
  writeJudged(lines: readonly JudgedLine[]): Promise<void> {
    return this.directory.write("judged.jsonl", textChunks(lines.map((line) => `${JSON.stringify(line)}\n`).join("")));
  }

  /** What `writeJudged` wrote; nothing where the run was not judged. */
  async readJudged(): Promise<JudgedLine[]> {
    const written = (await readText(this.directory, "judged.jsonl")) ?? "";
    return parseLines(written, this.directory.describe("judged.jsonl")) as unknown as JudgedLine[];
  }

  async writeReport(markdown: string, page: string): Promise<void> {
    await this.directory.write("report.md", textChunks(markdown));
    await this.directory.write("report.html", textChunks(page));
  }

  writeCard(markdown: string): Promise<void> {
    return this.directory.write("student/README.md", textChunks(markdown));
  }

  /** The run's result, written last: a folder that has it is finished. */
  writeResult(result: unknown): Promise<void> {
    return this.directory.write("result.json", textChunks(`${JSON.stringify(result, null, 2)}\n`));
  }

  /** The result of a finished run. */
  async readResult(): Promise<Readonly<Record<string, unknown>> | undefined> {
    const written = await readText(this.directory, "result.json");
    return written === undefined ? undefined : parseObject(written, this.directory.describe("result.json"));
  }
}

function parseObject(written: string, file: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(written);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    throw new UserError(`${file} is not valid JSON: ${(error as Error).message}`);
  }
  throw new UserError(`${file} must hold a JSON object`);
}

function parseLines(written: string, file: string): Readonly<Record<string, unknown>>[] {
  return written
    .split("\n")
    .filter((line) => line !== "")
    .map((line, i) => parseObject(line, `line ${i + 1} of ${file}`));
}
