// What a search over shape, image size, token merging and exports tried, and what it chose.
import type { Column } from "./table.ts";

/** A combination that was built and measured. */
export interface SearchCandidate {
  readonly format: string;
  /** Share of the teacher's block weights. */
  readonly blockShare: number;
  /** Pixels per side of the images, where they are smaller than the teacher's own. */
  readonly imageSize?: number;
  /** Tokens merged away in all blocks together. */
  readonly mergedTokens: number;
  readonly bytes: number;
  /** For one image, where time was asked for. */
  readonly milliseconds?: number;
  /** Share of images on which it predicts what the teacher does; the mean cosine similarity where there is no classifier. */
  readonly agreement: number;
  /** The mean cosine similarity of image features with the teacher's. */
  readonly cosine: number;
  readonly isChosen: boolean;
}

export interface SearchReport {
  /** The budget or agreement that was asked for: "a budget of 12MB". */
  readonly asked: string;
  /** What decides: the nearest features within a budget, or the least bytes times milliseconds that keep an agreement. */
  readonly decides: "nearest" | "cheapest";
  /** What `agreement` holds. */
  readonly measure: "agreement" | "cosine";
  /** The smallest first. */
  readonly candidates: readonly SearchCandidate[];
}

/** The measure as axes and columns name it. */
export const measureTitle = ({ measure }: Pick<SearchReport, "measure">): string =>
  measure === "agreement" ? "agreement %" : "cosine × 100";

/** What was searched for, and what the figures are of. */
export function searchText({ asked, decides, measure, candidates }: SearchReport): string {
  const of =
    measure === "agreement"
      ? "Agreement is the share of image crops on which the classifier predicts what the teacher's predicts"
      : "The cosine similarity is that of image features with the teacher's";
  const chosen =
    decides === "nearest"
      ? "The one whose features have the highest cosine similarity with the teacher's is chosen."
      : "Of those that agree often enough, the one with the least megabytes times milliseconds is chosen.";
  const sizes = candidates.some(({ imageSize }) => imageSize !== undefined)
    ? " Where no image size stands, it is the teacher's own."
    : "";
  return `The search for ${asked} built and measured ${candidates.length} combinations of shape, image size, token merging and export. ${of}, on training images that the combinations were not fitted on. ${chosen}${sizes}`;
}

/** ", images of 168x168" in a list of what a candidate is; empty where images keep their size. */
export const imageSizeText = (imageSize: number | undefined): string =>
  imageSize === undefined ? "" : `, images of ${imageSize}x${imageSize}`;

/** "onnx-q4, 58 % of the block weights, images of 168x168, 96 tokens merged" */
export function candidateName({ format, blockShare, imageSize, mergedTokens }: SearchCandidate): string {
  const merged = mergedTokens > 0 ? `, ${mergedTokens} tokens merged` : "";
  return `${format}, ${(100 * blockShare).toFixed(0)} % of the block weights${imageSizeText(imageSize)}${merged}`;
}

/** A row for each combination, the chosen one named so. */
export function searchTable(search: SearchReport): { columns: Column[]; rows: string[][] } {
  const timed = search.candidates.some(({ milliseconds }) => milliseconds !== undefined);
  const resized = search.candidates.some(({ imageSize }) => imageSize !== undefined);
  return {
    columns: [
      { title: "export", align: "left" },
      { title: "block weights %" },
      ...(resized ? [{ title: "image size" }] : []),
      { title: "tokens merged" },
      { title: "MB" },
      ...(timed ? [{ title: "ms/image" }] : []),
      ...(search.measure === "agreement" ? [{ title: measureTitle(search) }] : []),
      { title: "cosine" },
      { title: "", align: "left" },
    ],
    rows: search.candidates.map((one) => [
      one.format,
      (100 * one.blockShare).toFixed(0),
      ...(resized ? [String(one.imageSize ?? "")] : []),
      String(one.mergedTokens),
      (one.bytes / 1e6).toFixed(1),
      ...(timed ? [one.milliseconds?.toFixed(1) ?? "-"] : []),
      ...(search.measure === "agreement" ? [(100 * one.agreement).toFixed(1)] : []),
      one.cosine.toFixed(4),
      one.isChosen ? "chosen" : "",
    ]),
  };
}
