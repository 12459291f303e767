// What a layout says: how a library names weights and settings. Layouts are tables; a new one is a new entry.
import type { Preprocessing } from "../../utils/image.ts";
import type { VitConfig } from "../config.ts";

export type Json = Readonly<Record<string, unknown>>;

/** A map whose rows are a part of our joint one. */
export interface Part {
  readonly name: string;
  /** How many of the joint map's equal shares it has; 1 where left out. */
  readonly shares?: number;
  /** Zeros where the file has none; left out of files where it is zero. */
  readonly optional?: boolean;
}

export interface NameEntry {
  /** timm's name, which we use. */
  readonly ours: string;
  /** What stands for it, row after row. */
  readonly parts: readonly Part[];
  /** Axes of length 1 that our shape has in front and theirs lacks. */
  readonly squeeze?: number;
}

export type NameTable = readonly NameEntry[];

/** What a file's weights tell of the model, asked by our names. */
export interface Evidence {
  /** The shape that our weight has in the file; undefined where it is not there. */
  shape(ours: string): readonly number[] | undefined;
  /** Whether the file has a weight of this name, as the layout spells it, in the backbone or around it. */
  has(name: string): boolean;
  /** Blocks in the file. */
  readonly depth: number;
  /** The number of heads as the caller says it: weights don't tell. */
  readonly numHeads?: number;
}

export interface Layout {
  readonly name: string;
  /** Who loads what is written; our own holds what the others have no class for. */
  readonly library: "transformers" | "timm" | "wecolora";
  /** Whether a config.json is of this layout. */
  matches(config: Json): boolean;
  /** Whether weights without a config.json are; asked only where the patch embedding and block 0 have its names. */
  recognises(has: (ours: string) => boolean): boolean;
  /** The part of config.json that describes the vision tower. */
  settings(config: Json): Json;
  /** Weights outside of the blocks. */
  readonly outer: NameTable;
  /** Where block `i` stands. */
  readonly blockPrefix: (index: number) => string;
  readonly block: NameTable;
  /** Weights that stand outside of the backbone's prefix: the head's. */
  readonly unprefixed: NameTable;
  /** Weights that a forward pass does not read: kept as they are, never missed. */
  readonly carried: readonly string[];
  /** Weights beside the backbone that belong to such files and are not needed (decoders, texts, buffers). */
  readonly ignored?: RegExp;
  /** Other names that files of this layout have, and what they are here. */
  readonly aliases?: readonly (readonly [RegExp, string])[];
  /** Reads the tower's settings; what they leave out is taken from the weights' shapes. */
  readConfig(config: Json, file: string, evidence: Evidence): VitConfig;
  /** Whether its library takes images of any size, so that the preprocessor's size is the one to use. */
  readonly anySize: boolean;
  /** Preprocessing where no preprocessor file says it; `guessed` asks for a warning. */
  defaultPreprocessing(
    config: Json,
    imageSize: number,
    file: string,
    warn?: (message: string) => void,
  ): { value: Preprocessing; guessed: boolean };
  /** The nearest configuration that this layout can hold, or why there is none. */
  holds(config: VitConfig): VitConfig | { readonly reason: string };
  /** config.json for a model; `original` is the teacher's where it had this layout. */
  writeConfig(config: VitConfig, original: Json | undefined, preprocessing: Preprocessing): Json;
  /** The backbone's prefix in files that are written. */
  writePrefix(config: VitConfig): string;
}

/** Entries for a map's weight and bias. */
export function both(ours: string, theirs: string): NameTable {
  return [one(`${ours}.weight`, `${theirs}.weight`), one(`${ours}.bias`, `${theirs}.bias`)];
}

export function one(ours: string, theirs: string, squeeze?: number): NameEntry {
  return { ours, parts: [{ name: theirs }], ...(squeeze ? { squeeze } : {}) };
}

/** Weight and bias of a map that theirs keeps in several. */
export function joint(ours: string, theirs: readonly string[]): NameTable {
  return ["weight", "bias"].map((part) => ({
    ours: `${ours}.${part}`,
    parts: theirs.map((name) => ({ name: `${name}.${part}` })),
  }));
}

/** The layouts of a file. */
export interface LayoutGroup {
  /** Groups of a lower order are tried first. */
  readonly order: number;
  /** What `model_type` in config.json may be, for messages. */
  readonly modelTypes: readonly string[];
  /** In the order in which they are tried. */
  readonly layouts: readonly Layout[];
}
