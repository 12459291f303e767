// The run folder: settings, pictures used, log, adapters, student and report. Its layout is that of ARCHITECTURE.md.
import { writeSafetensors } from "../checkpoints/safetensors.ts";
import type { Directory } from "../checkpoints/storage.ts";
import type { PictureFacts } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";

const text = (value: string): Uint8Array[] => [new TextEncoder().encode(value)];

/** All that a run writes. */
const runEntries = ["config.json", "manifest.jsonl", "log.jsonl", "checkpoints", "student", "report.md"];

export interface ManifestEntry extends PictureFacts {
  readonly item: Item;
}

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
      throw new UserError(
        `${this.directory.describe("")} already holds a run; give another folder, or --overwrite to replace it`,
      );
    }
  }

  /** Begins with nothing of an earlier run: its student must not be taken for this one's. */
  async begin(): Promise<void> {
    for (const entry of runEntries) await this.directory.remove(entry);
    await this.directory.write("log.jsonl", []);
  }

  writeConfig(config: unknown): Promise<void> {
    return this.directory.write("config.json", text(`${JSON.stringify(config, null, 2)}\n`));
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
    return this.directory.write("manifest.jsonl", text(lines.map((line) => `${line}\n`).join("")));
  }

  log(entry: Readonly<Record<string, unknown>>): Promise<void> {
    return this.directory.append("log.jsonl", `${JSON.stringify(entry)}\n`);
  }

  writeAdapters(adapters: ReadonlyMap<string, FloatTensor>, step: number): Promise<void> {
    const metadata = { format: "wecolora-adapters", step: String(step) };
    return this.directory.write("checkpoints/final/adapters.safetensors", writeSafetensors(adapters, metadata));
  }

  writeReport(markdown: string): Promise<void> {
    return this.directory.write("report.md", text(markdown));
  }
}
