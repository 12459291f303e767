// Content as a short text: SHA-256, in any JavaScript engine.

const hex = (bytes: ArrayBuffer) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");

/** SHA-256 in hexadecimal. Shared memory is copied, since the engine's own digest takes none. */
export async function sha256(content: Uint8Array | string): Promise<string> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : Uint8Array.from(content);
  return hex(await crypto.subtle.digest("SHA-256", bytes));
}
