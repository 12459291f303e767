// A folder of cached teacher features (`wecolora cache`), which runs read in place of showing their crops to the teacher.
//
//   crops.f16     of each crop the targets in half precision, side by side; the first crop of each image, then the second
//   images.jsonl  the images in their order, each with a hash of its file
//   crops.json    what all of it follows from; written last
import { z } from "zod";
import type { Item } from "../data/sampling.ts";
import type { Directory } from "../files/storage.ts";
import { readFile, readText } from "../files/storage.ts";
import type { Int8Options } from "../models/precision.ts";
import { CachedFeatures } from "../students/training/cached-features.ts";
import type { TargetPart } from "../students/training/cached-features.ts";
import { UserError } from "../utils/errors.ts";
import { elementBytes, elementCount } from "../utils/tensor.ts";
import { textChunks } from "../workspace/output-files.ts";
import { longestList } from "../workspace/plan-folder.ts";
import { checkVersion, parseJson, parseLines } from "../workspace/versioned.ts";
import { int8Schema } from "./run-settings.ts";

export const cropsEntry = "crops.f16";
const imagesEntry = "images.jsonl";
const factsEntry = "crops.json";
const cropFormat = { format: "wecolora-crops", version: 1 } as const;

const count = z.number().int().min(0);
export const targetPartSchema = z.object({ name: z.string(), dims: z.array(count), at: count });

/** crops.json */
const factsSchema = z.object({
  /** Of the teacher: its weights, configuration and preprocessing. */
  teacher: z.string(),
  int8: int8Schema.nullable(),
  seed: z.number(),
  /** Crops of each image. */
  crops: count.min(1),
  images: count.min(1),
  /** Whose embedding `embedded` is. */
  embedding: z.enum(["teacher", "random"]),
  parts: z.array(targetPartSchema).min(1),
});
export type CropFacts = z.output<typeof factsSchema>;

/** An image's name, and a hash of its file where it has one. */
export const cropImageSchema = z.tuple([z.string(), z.string().nullable()]);
export type CropImage = z.output<typeof cropImageSchema>;

/** Bytes of a crop's targets. */
export function cropLength(parts: readonly TargetPart[]): number {
  return parts.reduce((sum, { dims }) => sum + elementCount(dims), 0) * elementBytes.float16;
}

/** Writes what stands beside the targets. */
export async function writeCropFacts(
  directory: Directory,
  facts: CropFacts,
  images: readonly CropImage[],
): Promise<void> {
  await directory.write(
    imagesEntry,
    images.flatMap((image) => textChunks(`${JSON.stringify(image)}\n`)),
  );
  await directory.write(factsEntry, textChunks(`${JSON.stringify({ ...cropFormat, ...facts }, null, 2)}\n`));
}

/** What a run shows the teacher, and how. */
export interface CropRequest {
  readonly teacherHash: string;
  readonly seed: number;
  /** Crops of each image, where the options say how many. */
  readonly crops: number | undefined;
  readonly embedding: CropFacts["embedding"];
  readonly images: readonly CropImage[];
}

/** A cache that fits a run. */
export class CropCache {
  readonly facts: CropFacts;
  private readonly directory: Directory;

  private constructor(directory: Directory, facts: CropFacts) {
    this.directory = directory;
    this.facts = facts;
  }

  /** Opens a cache. Throws a UserError where there is none, it is not whole, or it was made for another run; says what differs. */
  static async open(directory: Directory, request: CropRequest): Promise<CropCache> {
    const text = await readText(directory, factsEntry);
    if (text === undefined)
      throw new UserError(
        `There is no cache of teacher features in ${directory.describe("")}. Make one with: wecolora cache`,
        { code: "FILE_NOT_FOUND" },
      );
    const file = directory.describe(factsEntry);
    const facts = checkVersion(factsSchema, parseJson(text, file), file, cropFormat);
    const cache = new CropCache(directory, facts);
    cache.refuse(differences(facts, request));
    cache.refuse(imageDifferences(await readImages(directory), request.images));
    await cache.checkLength();
    return cache;
  }

  /** Throws a UserError where the run takes its products in another precision, or reads other states of the teacher. */
  check(int8: Int8Options | undefined, targets: readonly string[]): void {
    const { facts } = this;
    const named = (names: readonly string[]) => [...names].sort().join(", ");
    const [made, read] = [named(facts.parts.map(({ name }) => name)), named(targets)];
    const was = precisionText(facts.int8 ?? undefined);
    const is = precisionText(int8);
    this.refuse([
      ...(was === is ? [] : [`its precision is ${was}, the run's is ${is}`]),
      ...(made === read ? [] : [`it holds ${made}, the run reads ${read}`]),
    ]);
  }

  /** The targets of these images, which the cache was opened for. */
  crops(items: readonly Item[]): CachedFeatures {
    return CachedFeatures.stored(this.directory, cropsEntry, items, this.facts.parts);
  }

  private refuse(reasons: readonly string[]): void {
    if (reasons.length === 0) return;
    throw new UserError(
      `The teacher features in ${this.directory.describe("")} are of another run: ${reasons.join("; ")}. Make them with this run's options: wecolora cache`,
      { code: "INVALID_OPTION" },
    );
  }

  private async checkLength(): Promise<void> {
    const { crops, images, parts } = this.facts;
    const file = await this.directory.open(cropsEntry);
    await file?.close();
    const expected = crops * images * cropLength(parts);
    if (file?.size === expected) return;
    throw new UserError(
      `${this.directory.describe(cropsEntry)} has ${file?.size ?? 0} bytes where ${expected} were written. Make it again with: wecolora cache`,
      { code: "FILE_NOT_READABLE" },
    );
  }
}

const precisionText = (int8: Int8Options | undefined) =>
  int8 ? `int8 (weights up to ${int8.largest}, ${int8.parts.join(" and ") || "no adapters"})` : "float32";

/** What differs between a cache and what a run asks for. */
function differences(facts: CropFacts, { teacherHash, seed, crops, embedding }: CropRequest): string[] {
  return [
    ...(facts.teacher === teacherHash ? [] : ["the teacher, or how its images are read, is another"]),
    ...(facts.seed === seed ? [] : [`its --seed is ${facts.seed}, the run's is ${seed}`]),
    ...(crops === undefined || facts.crops === crops
      ? []
      : [`its --cached-crops is ${facts.crops}, the run's is ${crops}`]),
    ...(facts.embedding === embedding ? [] : [`its student's embedding is ${facts.embedding}, the run's ${embedding}`]),
  ];
}

function imageDifferences(cached: readonly CropImage[], images: readonly CropImage[]): string[] {
  if (cached.length !== images.length) return [`it has ${cached.length} images, the run trains on ${images.length}`];
  const at = images.findIndex(([name, sha256], i) => cached[i][0] !== name || cached[i][1] !== sha256);
  if (at === -1) return [];
  const [name] = images[at];
  return [cached[at][0] === name ? `${name} has changed` : `image ${at + 1} is ${cached[at][0]}, the run's is ${name}`];
}

async function readImages(directory: Directory): Promise<CropImage[]> {
  const bytes = (await readFile(directory, imagesEntry, longestList)) ?? new Uint8Array();
  return parseLines(cropImageSchema, new TextDecoder().decode(bytes), directory.describe(imagesEntry));
}
