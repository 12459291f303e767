// What runs ask of their platform, and what they tell whoever watches.
import type { Directory } from "../files/storage.ts";
import type { OutputPlatform } from "./outputs.ts";
import type { DataSet, PictureFolder } from "../data/dataset.ts";
import type { OpenOptions } from "../data/formats/open.ts";
import type { PictureSource, Skipped } from "../data/loader.ts";
import type { ReferenceOutputs } from "../evaluation/model-outputs.ts";
import type { FeatureStore } from "../evaluation/feature-store.ts";
import type { Model } from "../models/model.ts";
import type { ReadOptions } from "../models/definition.ts";
import { RunError, UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import type { Picture } from "../utils/image.ts";

export interface LoadRequest extends Omit<ReadOptions, "weightsFile"> {
  readonly revision?: string;
  readonly download?: (progress: { readonly file: string; readonly done: number; readonly total: number }) => void;
}

/** How a run has models loaded, with what they tell passed on to whoever watches. */
export function loadRequest(options: Omit<LoadRequest, "warn" | "download">, listener: Listener): LoadRequest {
  let shown = "";
  return {
    ...options,
    warn: (message) => listener.warn?.(message),
    download({ file, done, total }) {
      if (file !== shown) listener.stage?.(`downloading ${file} (MB)`, Math.ceil(total / 1e6));
      shown = file;
      listener.progress?.(Math.round(done / 1e6));
    },
  };
}

export interface Environment {
  loadModel(path: string, options: LoadRequest): Promise<Model>;
  saveModel(model: Model, path: string, weightType: WeightType): Promise<void>;
  openDataSet(path: string, options?: OpenOptions): Promise<DataSet>;
  /** Paths below a folder, with `/`, of the files whose names are wanted. */
  listFiles(path: string, wanted: (name: string) => boolean): Promise<string[]>;
  /** All pictures below a folder. */
  openPictures(path: string, options?: OpenOptions): Promise<PictureFolder>;
  /** Where features are kept from one time to the next; the user's cache folder where none is named. */
  featureStore(path?: string): FeatureStore;
  writeFile(path: string, chunks: Iterable<Uint8Array>): Promise<void>;
  createPictureSource(path: string): PictureSource;
  directory(path: string): Directory;
  /** Locks, room and permissions where outputs go. */
  readonly outputs: OutputPlatform;
  /** A picture as a PNG file. */
  encodePng(picture: Picture): Promise<Uint8Array>;
  /** A picture as a JPEG file, small enough for a page. */
  encodeJpeg(picture: Picture): Promise<Uint8Array>;
  /** An empty document that charts are drawn in. */
  createDocument(): Document;
  /** An SVG as a PNG file, at twice its size. */
  encodeSvg(svg: string): Promise<Uint8Array>;
  /** Where judging keeps what a teacher gives, where several runs ask for the same. */
  readonly referenceOutputs?: ReferenceOutputs;
  /** Bytes of memory that this process may still take; undefined where that is not known. */
  readonly availableMemory?: () => number;
  /** Milliseconds from any origin. */
  now(): number;
  /** Versions and the machine, for the run's records. */
  readonly about: Readonly<Record<string, unknown>>;
}

/** Told while a run goes on; all parts are optional to listen to. */
export interface Listener {
  /** A stage begins; `total` units are expected where that is known. */
  stage?(name: string, total?: number): void;
  /** Units done in this stage, and what is worth seeing now. */
  progress?(done: number, note?: string): void;
  info?(message: string): void;
  warn?(message: string): void;
  /** Asked after each step: whether to save and stop. */
  stopRequested?(): boolean;
}

/** A run that was asked to stop and has saved its state. */
export class Interrupted extends RunError {}

/** Reasons from the decoder name the file already. */
const describe = (name: string, reason: string) => (reason.includes(name) ? reason : `${name}: ${reason}`);

/** Collects pictures that are passed over, says so once at the end, and refuses them where the run is strict. */
export class SkippedPictures {
  private readonly found = new Map<string, string>();
  private readonly strict: boolean;

  constructor(strict: boolean) {
    this.strict = strict;
  }

  readonly add = ({ name, reason }: Skipped): void => {
    if (this.strict) throw new UserError(`${describe(name, reason)} (and strict is on)`);
    this.found.set(name, reason);
  };

  get count(): number {
    return this.found.size;
  }

  /** Names each, up to a few. */
  report(listener: Listener): void {
    if (this.found.size === 0) return;
    const lines = [...this.found].map(([name, reason]) => describe(name, reason));
    const shown = lines.slice(0, 10);
    const more = lines.length > shown.length ? [`and ${lines.length - shown.length} more`] : [];
    listener.warn?.(
      `skipped ${lines.length} ${lines.length === 1 ? "file" : "files"}:\n  ${[...shown, ...more].join("\n  ")}`,
    );
  }
}
