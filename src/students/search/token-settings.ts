// What a search tries so that a model has fewer tokens: smaller images, and tokens that are merged away in blocks (`merging-search.ts`).
// Smaller images have fewer patches in all blocks and cost nothing of their own, where a merging takes time whatever it merges; merged
// tokens lose less for the first half of the operations (dev/tokens.md).
import type { VitConfig } from "../../models/config.ts";
import type { ModelDefinition, ModelOrigin } from "../../models/definition.ts";
import { forImageSize } from "../../models/definition.ts";
import type { Preprocessing } from "../../utils/image.ts";
import { scheduleFamilies, scheduleForShare } from "./merging-search.ts";

/** One setting; without either, a model has all of its tokens. */
export interface TokenSetting {
  /** Pixels per side of the images, where they are smaller than the model's own. */
  readonly imageSize?: number;
  /** A schedule of merging for a share of the blocks' operations that is left of those at this image size. */
  readonly merging?: { readonly family: (typeof scheduleFamilies)[number]; readonly share: number };
}

/** What settings depend on. */
interface Teacher {
  readonly config: Pick<VitConfig, "imageSize" | "patchSize">;
  readonly origin: Pick<ModelOrigin, "layout">;
  readonly preprocessing: Pick<Preprocessing, "resize">;
}

/** Which of the levers on tokens a search may use. */
export interface TokenLevers {
  readonly merges: boolean;
  readonly resizes: boolean;
}

/** Shares of the blocks' operations that are left by merging, for images of the model's own size and for smaller ones. */
const mergedShares: readonly number[] = [0.85, 0.75, 0.65, 0.57, 0.5, 0.42, 0.35];
const mergedSharesOfSmaller: readonly number[] = [0.65, 0.42];
/** Sides of smaller images beside the model's own. */
const sides: readonly number[] = [0.875, 0.75, 0.625, 0.5];

/**
 * Whether a model can take images of another size: an ONNX file's graph is for one, and where images are not resized, a smaller size
 * would be another part of them.
 */
const takesSmallerImages = ({ origin, preprocessing }: Teacher): boolean =>
  origin.layout !== "ONNX" && !("unchanged" in preprocessing.resize);

/** Sizes of smaller images, whole numbers of patches, the largest first. */
function smallerSizes({ imageSize, patchSize }: Teacher["config"]): number[] {
  const side = Math.floor(imageSize / patchSize);
  return [...new Set(sides.map((share) => Math.max(1, Math.round(share * side))))]
    .filter((smaller) => smaller < side)
    .map((smaller) => smaller * patchSize);
}

/** The settings of a model: all tokens, then by image size and by how many are merged. */
export function tokenSettings(teacher: Teacher, { merges, resizes }: TokenLevers): readonly TokenSetting[] {
  const merged = mergedShares.flatMap((share) => scheduleFamilies.map((family) => ({ merging: { family, share } })));
  const sizes = resizes && takesSmallerImages(teacher) ? smallerSizes(teacher.config) : [];
  const smaller = sizes.flatMap((imageSize): TokenSetting[] => [
    { imageSize },
    ...(merges
      ? mergedSharesOfSmaller.map((share) => ({ imageSize, merging: { family: "alternate" as const, share } }))
      : []),
  ]);
  return [{}, ...(merges ? merged : []), ...smaller];
}

/** A model with the tokens of a setting. */
export function withTokens(definition: ModelDefinition, { imageSize, merging }: TokenSetting): ModelDefinition {
  const { config, weights, preprocessing, origin } =
    imageSize === undefined ? definition : forImageSize(definition, imageSize);
  const merged = merging && scheduleForShare(config, merging.share, merging.family);
  return { config: { ...config, merging: merged }, weights, preprocessing, origin };
}
