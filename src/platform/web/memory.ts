// How much memory a run in a browser needs, told beforehand. WASM has addresses of 32 bits.

/** Bytes that WASM's memory can have at most. */
export const mostWasmBytes = 4 * 2 ** 30 - 2 ** 20;
