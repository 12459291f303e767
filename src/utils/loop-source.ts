/** Bytes that an instruction of a loop takes at once. */
export const vectorBytes = 16;

/** A loop over the elements of tensors, as WebAssembly. */
export interface LoopSource {
  /**
   * Exports `memory`, where each of the arrays has a strip of `strip` numbers, and `loop(...scalars, bytes)`, which goes over so many bytes
   * of all strips, a multiple of `vectorBytes`.
   */
  readonly module: Uint8Array<ArrayBuffer>;
  readonly strip: number;
  readonly scalars: readonly string[];
  /** The inputs that are tensors, and whether the loop changes them. */
  readonly arrays: readonly { readonly name: string; readonly changed: boolean }[];
}
