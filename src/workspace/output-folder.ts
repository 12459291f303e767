// Output folders: what we wrote stands in a journal (.wecolora.jsonl), so that nothing else is ever replaced or removed.
//
// The journal's first line says whose folder it is ({"format":"wecolora-output","version":1,"kind":"run"}); each other line is
// an event: a file is about to be written for the first time, was removed, an older output is being replaced, all that was
// asked for is there. A file is entered before it is written, so a process may be killed at any moment: what it leaves is
// either not there or entered. A last line that was cut off speaks of a file that was not written yet, and is left out.
import { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import { lockEntry } from "../context/outputs.ts";
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import { notWritable, outputError } from "../utils/errors.ts";
import { textChunks } from "./output-files.ts";
import { filesWithoutJournal } from "./run-entries.ts";
import { checkVersion, parseJson } from "./versioned.ts";

export const outputKinds = [
  "run",
  "comparison",
  "evaluation",
  "export",
  "rollout",
  "similarity",
  "segmentation",
  "inspection",
  "cache",
  "plan",
  "task",
] as const;
export type OutputKind = (typeof outputKinds)[number];

/** What messages call them. */
const described: Readonly<Record<OutputKind, string>> = {
  run: "a run of wecolora distill",
  comparison: "the output of wecolora compare",
  evaluation: "the output of wecolora evaluate",
  export: "the output of wecolora export",
  rollout: "the output of wecolora rollout",
  similarity: "the output of wecolora similarity",
  segmentation: "the output of wecolora segment",
  inspection: "the output of wecolora inspect",
  cache: "the output of wecolora cache",
  plan: "a plan of tasks",
  task: "the result of a task of a plan",
};

export const journalEntry = ".wecolora.jsonl";
const format = "wecolora-output";
const version = 1;

const headerSchema = z.looseObject({ kind: z.enum(outputKinds) });
/**
 * A file in the folder. A list that someone else made must not reach files outside: entries are removed by name. Backslashes
 * and drive letters are paths on Windows.
 */
const entrySchema = z
  .string()
  .refine(
    (entry) => !/[\\\0]|^[a-z]:/i.test(entry) && entry.split("/").every((part) => !["", ".", ".."].includes(part)),
  );
const eventSchema = z.union([
  z.strictObject({ file: entrySchema }),
  z.strictObject({ removed: entrySchema }),
  z.strictObject({ replacing: z.literal(true) }),
  z.strictObject({ finished: z.boolean() }),
]);
type Event = z.output<typeof eventSchema>;

const line = (value: unknown) => `${JSON.stringify(value)}\n`;

/** Left in folders by systems; a folder with nothing else is empty. */
const litter = new Set([".ds_store", "thumbs.db", "desktop.ini"]);

/** Our own files that say nothing of what is in the folder. */
const isAside = (name: string) =>
  name === lockEntry ||
  litter.has(name.toLowerCase()) ||
  (name.endsWith(".partial") && (name.startsWith(`${lockEntry}.`) || name.startsWith(`${journalEntry}.`)));

/** Files that runs of versions without a journal have. */
const olderRun = ["config.json", "log.jsonl"];

const folderOf = (entry: string) => entry.slice(0, Math.max(0, entry.lastIndexOf("/")));

/** All folders that an entry lies in, the innermost first. */
function foldersAbove(entry: string): string[] {
  const folders: string[] = [];
  for (let at = folderOf(entry); at !== ""; at = folderOf(at)) folders.push(at);
  return folders;
}

/** A folder that this process has for itself (`withOutput`). */
export class OutputFolder {
  /** Writes only what is ours, and refuses to touch what is not. */
  readonly directory: Directory;
  private readonly raw: Directory;
  private readonly kind: OutputKind;
  private readonly files: Set<string>;
  private readonly written = new Set<string>();
  private journal: "missing" | "whole" | "cut";
  private replacing: boolean;
  private finished: boolean;
  /** Entries are made one after the other. */
  private last: Promise<void> = Promise.resolve();

  private constructor(
    raw: Directory,
    kind: OutputKind,
    journal: "missing" | "whole" | "cut",
    events: readonly Event[],
  ) {
    this.raw = raw;
    this.kind = kind;
    this.journal = journal;
    const { files, replacing, finished } = replay(events);
    this.files = files;
    this.replacing = replacing;
    this.finished = finished;
    this.directory = this.guarded("");
  }

  /** Throws a UserError where the folder holds anything but an output of this kind. */
  static async open(raw: Directory, kind: OutputKind): Promise<OutputFolder> {
    const path = raw.describe("");
    const names = (await raw.list()).filter((name) => !isAside(name));
    const text = names.includes(journalEntry) ? ((await readText(raw, journalEntry)) ?? "") : "";
    const lines = text.split("\n");
    const cut = lines.pop() !== "";
    const [first, ...rest] = lines;
    if (first === undefined) {
      const others = names.filter((name) => name !== journalEntry);
      if (others.length === 0) return new OutputFolder(raw, kind, text === "" ? "missing" : "cut", []);
      const files = kind === "run" ? await filesWithoutJournal(raw) : undefined;
      if (files) {
        const events = [...files.map((file) => ({ file })), { finished: files.includes("result.json") }];
        return new OutputFolder(raw, kind, "cut", events);
      }
      throw foreign(path, others);
    }
    const file = raw.describe(journalEntry);
    const header = checkVersion(headerSchema, parseJson(first, file), file, { format, version });
    if (header.kind !== kind)
      throw outputError(
        `${path} holds ${described[header.kind]}, and is not replaced by ${described[kind]}. Give another output folder.`,
      );
    const events = rest.map((text, i) => {
      const where = `line ${i + 2} of ${file}`;
      const event = eventSchema.safeParse(parseJson(text, where));
      if (!event.success) throw outputError(`${where} is not an entry of a list of files that this version knows.`);
      return event.data;
    });
    return new OutputFolder(raw, kind, cut ? "cut" : "whole", events);
  }

  /** Whether a file stands in the journal: it was written, or begun. */
  has(entry: string): boolean {
    return this.files.has(entry);
  }

  /** Whether an older output was being removed when its process ended: what is left of it is of no use. */
  get isReplacing(): boolean {
    return this.replacing;
  }

  /** Whether all that was asked for is there. */
  get isFinished(): boolean {
    return this.finished;
  }

  async markFinished(finished = true): Promise<void> {
    if (this.finished === finished) return;
    await this.enter({ finished });
    this.finished = finished;
  }

  /**
   * Says that the folder is ours before a file of ours is in it: a comparison's runs write in folders below it first, and a
   * process that is killed then must find its folder again.
   */
  async begin(): Promise<void> {
    if (this.journal !== "whole") await this.writeJournal();
  }

  /** Removes what killed processes had begun to write beside our files. */
  async sweep(): Promise<void> {
    const folders = new Set(["", ...[...this.files].map(folderOf)]);
    for (const folder of folders) {
      const before = folder === "" ? "" : `${folder}/`;
      for (const name of await this.raw.list(folder)) {
        const [, file] = /^(.+?)\.[0-9a-f-]+\.partial$/.exec(name) ?? [];
        if (file !== undefined && (this.files.has(before + file) || (folder === "" && file === journalEntry)))
          await this.raw.remove(before + name);
      }
    }
  }

  /** Removes all that we wrote here, file by file. A process that is killed meanwhile leaves a mark that says so. */
  async clear(): Promise<void> {
    if (this.files.size > 0) {
      await this.enter({ replacing: true });
      this.replacing = true;
      await this.sweep();
      await this.removeAll([...this.files]);
      this.files.clear();
    }
    if (this.journal !== "missing") await this.writeJournal();
    this.replacing = false;
    this.finished = false;
  }

  /** Removes what an earlier output of this kind had and this one has not. */
  async removeStale(): Promise<void> {
    for (const file of [...this.files]) if (!this.written.has(file)) await this.removeOwn(file);
  }

  private async removeAll(files: readonly string[]): Promise<void> {
    for (const file of files) await this.raw.remove(file);
    const folders = [...new Set(files.flatMap(foldersAbove))].sort((a, b) => b.length - a.length);
    for (const folder of folders) await this.raw.removeEmpty(folder);
  }

  /** Removes a file, or all of ours in a folder. */
  private async removeOwn(entry: string): Promise<void> {
    const owned = [...this.files].filter((file) => file === entry || file.startsWith(`${entry}/`));
    await this.removeAll(owned);
    for (const file of owned) {
      await this.enter({ removed: file });
      this.files.delete(file);
    }
  }

  /** The journal as it is now, written anew. */
  private async writeJournal(): Promise<void> {
    const events: Event[] = [...this.files].map((file) => ({ file }));
    if (this.finished) events.push({ finished: true });
    if (this.replacing && this.files.size > 0) events.push({ replacing: true });
    const header = { format, version, kind: this.kind };
    await this.raw.write(journalEntry, textChunks([header, ...events].map(line).join("")));
    this.journal = "whole";
  }

  private enter(event: Event): Promise<void> {
    const entered = this.last.then(async () => {
      if (this.journal !== "whole") await this.writeJournal();
      await this.raw.append(journalEntry, line(event));
    });
    this.last = entered.catch(() => undefined);
    return entered;
  }

  /** Makes a file ours before it is written. Throws a UserError where there is one that is not. */
  private async claim(entry: string): Promise<void> {
    this.written.add(entry);
    if (this.files.has(entry)) return;
    // Opened rather than looked for in a list: where names ignore the case of letters, so must this.
    const there = await this.raw.open(entry);
    await there?.close();
    if (there)
      throw outputError(
        `${this.raw.describe(entry)} was not written by wecolora, so it is not replaced. Move it, or give another output folder.`,
      );
    await this.enter({ file: entry });
    this.files.add(entry);
  }

  private guarded(before: string): Directory {
    const { raw } = this;
    return {
      describe: (entry) => raw.describe(before + entry),
      open: (entry) => raw.open(before + entry),
      list: (entry = "") => raw.list((before + entry).replace(/\/$/, "")),
      below: (entry) => this.guarded(`${before}${entry}/`),
      write: async (entry, chunks) => {
        await this.claim(before + entry);
        await raw.write(before + entry, chunks);
      },
      append: async (entry, content) => {
        await this.claim(before + entry);
        await raw.append(before + entry, content);
      },
      remove: (entry) => this.removeOwn(before + entry),
      removeEmpty: (entry) => raw.removeEmpty(before + entry),
    };
  }
}

function replay(events: readonly Event[]): { files: Set<string>; replacing: boolean; finished: boolean } {
  const files = new Set<string>();
  let [replacing, finished] = [false, false];
  for (const event of events) {
    if ("file" in event) files.add(event.file);
    else if ("removed" in event) files.delete(event.removed);
    else if ("replacing" in event) replacing = true;
    else finished = event.finished;
  }
  return { files, replacing, finished };
}

function foreign(path: string, names: readonly string[]): Error {
  if (olderRun.every((name) => names.includes(name)))
    return outputError(
      `${path} already holds a run of an older wecolora, which kept no list of its files, so it is neither resumed nor replaced. ` +
        "Give another output folder.",
    );
  const shown = names.slice(0, 3).join(", ");
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  return outputError(
    `${path} holds files that wecolora did not write (${shown}${more}). Give an output folder that is empty or does not exist.`,
  );
}

/** A path that a command reads, and the option that names it. */
export interface NamedInput {
  readonly option: string;
  readonly path: string;
}

/** What a command with a model, maybe a teacher, and images reads. */
export const modelInputs = ({
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

/** Where a command writes, and what it reads. */
export interface OutputRequest {
  readonly path: string;
  readonly kind: OutputKind;
  readonly inputs: readonly NamedInput[];
  /** The option that names the output; --out where left out. */
  readonly option?: string;
}

/** Throws a UserError where an output and an input are the same or lie in each other. */
export async function checkApart(
  { environment: { outputs } }: RunContext,
  path: string,
  inputs: readonly NamedInput[],
  option = "--out",
): Promise<void> {
  for (const input of inputs) {
    const relation = await outputs.relation(path, input.path);
    if (relation === "apart") continue;
    const how = {
      same: `is the same as ${input.option}`,
      inside: `lies in ${input.option}`,
      around: `holds ${input.option}`,
    }[relation];
    throw outputError(
      `${option} ${path} ${how} ${input.path}. Give an output folder outside of what is read, so that nothing is overwritten.`,
    );
  }
}

/**
 * Has a folder for one command: looks that no input lies in it, takes it for this process, looks that it is empty or an output
 * of ours, and gives it back in the end.
 */
export async function withOutput<T>(
  context: RunContext,
  { path, kind, inputs, option }: OutputRequest,
  use: (output: OutputFolder) => Promise<T>,
): Promise<T> {
  const { environment } = context;
  await checkApart(context, path, inputs, option);
  const lock = await environment.outputs.lock(path);
  try {
    const output = await OutputFolder.open(environment.directory(path), kind);
    await output.sweep();
    return await use(output);
  } finally {
    await lock.release();
  }
}

/** The same where a command writes only if it is asked to. */
export function withOptionalOutput<T>(
  context: RunContext,
  request: Omit<OutputRequest, "path"> & { readonly path: string | undefined },
  use: (output: OutputFolder | undefined) => Promise<T>,
): Promise<T> {
  const { path } = request;
  return path === undefined ? use(undefined) : withOutput(context, { ...request, path }, use);
}

/** Bytes as people read them. */
const sizeText = (bytes: number) =>
  bytes < 1e6
    ? `${(bytes / 1e3).toFixed(0)} KB`
    : bytes < 1e9
      ? `${(bytes / 1e6).toFixed(1)} MB`
      : `${(bytes / 1e9).toFixed(2)} GB`;

/** Throws a UserError where the disk surely has no room for so many bytes. */
export async function checkRoom({ environment: { outputs } }: RunContext, path: string, bytes: number): Promise<void> {
  const free = await outputs.freeBytes(path);
  if (free === undefined || free >= bytes) return;
  throw notWritable(
    `The disk of ${path} has ${sizeText(free)} left, and at least ${sizeText(bytes)} will be written. Make room, or give another output folder.`,
  );
}

/**
 * Looks, before any work, that a file may be written: its folder can be, no input is in the way, and what is there was written
 * by us, which `isOurs` tells from its first bytes.
 */
export async function checkOutputFile(
  { environment }: RunContext,
  path: string,
  inputs: readonly NamedInput[],
  isOurs: (head: string) => boolean,
): Promise<void> {
  for (const input of inputs) {
    const relation = await environment.outputs.relation(path, input.path);
    if (relation === "same" || relation === "inside")
      throw outputError(
        `--out ${path} ${relation === "same" ? "is the same as" : "lies in"} ${input.option} ${input.path}. Give another file for the output.`,
      );
  }
  await environment.outputs.checkFile(path);
  const [, folder = ".", name] = /^(?:(.*)[\\/])?([^\\/]+)$/.exec(path) ?? [];
  const file = name === undefined ? undefined : await environment.directory(folder === "" ? "/" : folder).open(name);
  if (!file) return;
  try {
    const head = new Uint8Array(Math.min(file.size, 4096));
    await file.readInto(0, head);
    if (file.size > 0 && !isOurs(new TextDecoder().decode(head)))
      throw outputError(
        `${path} exists and was not written by this command, so it is not replaced. Give another file.`,
      );
  } finally {
    await file.close();
  }
}
