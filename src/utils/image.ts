// Pictures and how they become pixel values: types that data and models share.

/** A decoded picture: 8-bit RGB, row by row. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

export type Interpolation = "bilinear" | "bicubic";

/** The evaluation transform that belongs to a model. */
export interface Preprocessing {
  /** The shorter side, or both sides, before cropping. */
  readonly resize: { readonly shortestEdge: number } | { readonly height: number; readonly width: number };
  /** Pixels per side that the centre crop leaves, and that the model sees. */
  readonly cropSize: number;
  readonly interpolation: Interpolation;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}
