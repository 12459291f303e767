// Names of files inside archives, whose bytes do not always say how they are encoded.

/** Code page 437's upper half, which zip archives use where nothing else is said. */
const upper437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

function decodeWith(label: string, bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder(label, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const decode437 = (bytes: Uint8Array) =>
  Array.from(bytes, (b) => (b < 128 ? String.fromCharCode(b) : upper437[b - 128])).join("");

const isAscii = (bytes: Uint8Array) => bytes.every((b) => b < 128);

/** Kana, kanji and full-width forms that stand beside each other, and all characters beyond ASCII. */
function japaneseShare(texts: readonly string[]): number {
  let [japanese, all] = [0, 0];
  for (const text of texts) {
    all += text.match(/[^\0-\x7f]/gu)?.length ?? 0;
    for (const run of text.match(/[\u3005\u3040-\u30ff\u4e00-\u9fff\uff01-\uff9f]{2,}/gu) ?? []) japanese += run.length;
  }
  return all === 0 ? 0 : japanese / all;
}

/**
 * Decodes an archive's names, each of which may say that it is UTF-8. Others are UTF-8 where they all can be, Shift-JIS
 * where that makes Japanese words of them, or code page 437.
 */
export function decodeNames(names: readonly { readonly bytes: Uint8Array; readonly utf8: boolean }[]): string[] {
  const unmarked = names.filter(({ bytes, utf8 }) => !utf8 && !isAscii(bytes)).map(({ bytes }) => bytes);
  const all = (label: string) => {
    const texts = unmarked.map((bytes) => decodeWith(label, bytes));
    return texts.every((text) => text !== undefined) ? texts : undefined;
  };
  const isUtf8 = all("utf-8") !== undefined;
  const shiftJis = isUtf8 ? undefined : all("shift_jis");
  // A word such as "Köln" is valid in Shift-JIS too, as one kanji between letters.
  const isShiftJis = shiftJis !== undefined && japaneseShare(shiftJis) >= 0.5;
  return names.map(({ bytes, utf8 }) => {
    if (utf8 || isUtf8 || isAscii(bytes)) return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    return (isShiftJis ? decodeWith("shift_jis", bytes) : undefined) ?? decode437(bytes);
  });
}
