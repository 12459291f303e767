// Images and how they become pixel values: types that data and models share.

/** A decoded image: 8-bit RGB, row by row. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Pillow's filters; each stands at the number that Pillow has for it (`resample` in preprocessor_config.json). */
export const interpolations = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] as const;
export type Interpolation = (typeof interpolations)[number];

/** How an image is resized before the centre crop. */
export type Resize =
  /** The shorter side is resized to `shortestEdge`, unless the longer one would exceed `longestEdge`. */
  | { readonly shortestEdge: number; readonly longestEdge?: number }
  /** Both sides, whatever the image's shape. */
  | { readonly height: number; readonly width: number }
  /** The longer side; borders of the mean colour fill the crop. */
  | { readonly borderedSide: number }
  /** Images stay as they are. */
  | { readonly unchanged: true };

/** The evaluation transform that belongs to a model. */
export interface Preprocessing {
  readonly resize: Resize;
  /** Pixels per side that the centre crop leaves, and that the model sees. */
  readonly cropSize: number;
  /**
   * Where half a pixel of the crop's offset goes: up or down to the even number as in torchvision and timm (left out),
   * or always down as in transformers.
   */
  readonly cropRounding?: "down";
  /** There is no centre crop: images that don't come out at `cropSize` are refused. */
  readonly uncropped?: true;
  readonly interpolation: Interpolation;
  /** Of pixels from 0 to 1; another rescale factor than 1/255 is already part of both. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** A protocol's transform for models of any image size: the shorter side to 256/224 of the crop, or both sides to it. */
export interface TransformChoice {
  readonly kind: "crop" | "both-sides";
  readonly interpolation: Interpolation;
}
