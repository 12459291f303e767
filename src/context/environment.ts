// What runs ask of their platform.
import type { Directory } from "../files/storage.ts";
import type { OutputPlatform } from "./outputs.ts";
import type { DataSet, ImageFolder } from "../data/dataset.ts";
import type { OpenOptions } from "../data/formats/open.ts";
import type { ImageSource } from "../data/loader.ts";
import type { ReferenceOutputs } from "../evaluation/model-outputs.ts";
import type { FeatureStore } from "../evaluation/feature-store.ts";
import type { Model } from "../models/model.ts";
import type { ReadOptions } from "../models/definition.ts";
import type { RgbImage } from "../utils/image.ts";

export interface LoadRequest extends Omit<ReadOptions, "weightsFile"> {
  readonly revision?: string;
  readonly download?: (progress: { readonly file: string; readonly done: number; readonly total: number }) => void;
  /** Stops a download. */
  readonly signal?: AbortSignal;
}

/** How a program ended. */
export interface ProgramOutcome {
  /** Its exit code; 128 and the signal's number where a signal ended it. */
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface ProgramRequest {
  /** Set beside this process's own. */
  readonly variables?: Readonly<Record<string, string>>;
  /** A file that all it prints is added to, in place of `out` and `err`. */
  readonly log?: string;
  /** Sends the program a SIGTERM once it fires. */
  readonly signal?: AbortSignal;
  /** A command of wecolora that stops, as on SIGTERM, when this process is gone, killed or not. */
  readonly endsWithUs?: boolean;
}

/** Programs of the machine, for what runs outside of this process: a cluster's commands, tasks of a plan. */
export interface Programs {
  /** What starts the command line of wecolora: Node and its script. */
  readonly self: readonly string[];
  /** The working folder, which relative paths of options are counted from. */
  readonly folder: string;
  /** Variables of this process: a job's number, the assigned devices. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Threads that this process may use: of cores, a scheduler's share and a container's limit the least. */
  readonly threads: number;
  /** Runs a program to its end. Throws a UserError where there is none of that name. */
  run(program: string, args: readonly string[], request?: ProgramRequest): Promise<ProgramOutcome>;
}

export interface Environment {
  loadModel(path: string, options: LoadRequest): Promise<Model>;
  openDataSet(path: string, options?: OpenOptions): Promise<DataSet>;
  /** Paths below a folder, with `/`, of the files whose names are wanted. */
  listFiles(path: string, wanted: (name: string) => boolean): Promise<string[]>;
  /** All images below a folder. */
  openImages(path: string, options?: OpenOptions): Promise<ImageFolder>;
  /** Where features are kept from one time to the next; the user's cache folder where none is named. */
  featureStore(path?: string, warn?: (message: string) => void): FeatureStore;
  writeFile(path: string, chunks: Iterable<Uint8Array>): Promise<void>;
  createImageSource(path: string): ImageSource;
  directory(path: string): Directory;
  /** Locks, room and permissions where outputs go. */
  readonly outputs: OutputPlatform;
  /** An image as a PNG file. */
  encodePng(image: RgbImage): Promise<Uint8Array>;
  /** An image as a JPEG file, small enough for a page. */
  encodeJpeg(image: RgbImage): Promise<Uint8Array>;
  /** An empty document that charts are drawn in. */
  createDocument(): Promise<Document>;
  /** An SVG as a PNG file, at twice its size. */
  encodeSvg(svg: string): Promise<Uint8Array>;
  /** Where evaluation keeps what a teacher gives, where several runs ask for the same. */
  readonly referenceOutputs?: ReferenceOutputs;
  /** Bytes of memory that this process may still take; undefined where that is not known. */
  readonly availableMemory?: () => number;
  /** Undefined where a platform can start no programs. */
  readonly programs?: Programs;
  /** Milliseconds from any origin. */
  now(): number;
  /** Versions and the machine, for the run's records. */
  readonly about: Readonly<Record<string, unknown>>;
}
