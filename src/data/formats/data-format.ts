// What a data format is: how it is recognised in a folder or by a file's ending, and how its images are listed. One file a
// format; `npm run generate` lists them.
import type { z } from "zod";
import { UserError } from "../../utils/errors.ts";
import type { OptionShape } from "../../utils/option-shapes.ts";
import type { ListedSet } from "../dataset.ts";
import type { DataTree } from "./tree.ts";

/** What lies at the top of a folder; of a file that was named, it alone. */
export interface Contents {
  readonly files: readonly string[];
  readonly folders: readonly string[];
  /** Whether images lie at the top. */
  readonly hasImages: boolean;
  /** Wanted files at the top, or below those of its folders that hold nothing else at their top. */
  below(wanted: (name: string) => boolean): Promise<string[]>;
}

/**
 * Places in the order in which formats are asked: published sets by their own files, tables and lists by their names, containers
 * where no image lies at the top, and folders of images last.
 */
export const askedAs = { published: 100, list: 200, container: 300, folder: 1000 } as const;

/** A format; `Seen` is what `recognise` hands on to `open`. */
export interface DataFormat<Own extends OptionShape = OptionShape, Seen = unknown, Name extends string = string> {
  readonly name: Name;
  readonly summary: string;
  /** Endings of files that can be named themselves (`.zip`); a format without any is of folders alone. */
  readonly extensions: readonly string[];
  /** Formats of a lower order are asked first. */
  readonly order: number;
  /** The format's own options. */
  readonly options: Own;
  /** What of a folder, or of a file of one of the endings, it reads; undefined where that is not of this format. */
  recognise(tree: DataTree, contents: Contents, options: z.output<z.ZodObject<Own>>): Promise<Seen | undefined>;
  /** Lists the images. Throws a UserError that names what is wrong where. */
  open(tree: DataTree, seen: Seen, options: z.output<z.ZodObject<Own>> & { readonly seed: number }): Promise<ListedSet>;
}

/** There are no images in a format: whoever asked says which formats there are. */
export class NoImages extends UserError {}

/** Keeps the types of a format's options and of what it sees; see DataFormat. */
export const defineFormat = <const Own extends OptionShape, Seen, const Name extends string>(
  format: DataFormat<Own, Seen, Name>,
): DataFormat<Own, Seen, Name> => format;
