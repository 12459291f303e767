// The colours of an AV1 image by its sequence header (AV1 Bitstream Specification, 5.5), for files whose container is silent.

/** As in ITU-T H.273; 2 where the header doesn't say. */
export interface Av1Colours {
  readonly matrix: number;
  readonly isFullRange: boolean;
}

class Bits {
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  read(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++, this.at++) {
      if (this.at >= 8 * this.bytes.length) throw new RangeError("an AV1 header is cut off");
      value = 2 * value + ((this.bytes[this.at >> 3] >> (7 - (this.at & 7))) & 1);
    }
    return value;
  }

  flag(): boolean {
    return this.read(1) === 1;
  }
}

const sequenceHeader = 1;

/** The colours that the first sequence header among OBUs states; undefined where there is none, or none of colour. */
export function av1Colours(obus: Uint8Array): Av1Colours | undefined {
  for (let at = 0; at < obus.length;) {
    const head = obus[at];
    at += head & 0x04 ? 2 : 1;
    let size = obus.length - at;
    if (head & 0x02) {
      size = 0;
      for (let shift = 0; shift < 35; shift += 7) {
        const byte = obus[at++] ?? 0;
        size += (byte & 0x7f) * 2 ** shift;
        if (!(byte & 0x80)) break;
      }
    }
    if (((head >> 3) & 15) === sequenceHeader) {
      try {
        return coloursOf(new Bits(obus.subarray(at, at + size)));
      } catch (error) {
        if (error instanceof RangeError) return undefined;
        throw error;
      }
    }
    at += size;
  }
  return undefined;
}

function coloursOf(bits: Bits): Av1Colours | undefined {
  const profile = bits.read(3);
  bits.read(1);
  const isReduced = bits.flag();
  if (isReduced) bits.read(5);
  else skipOperatingPoints(bits);
  const [widthBits, heightBits] = [bits.read(4) + 1, bits.read(4) + 1];
  bits.read(widthBits);
  bits.read(heightBits);
  if (!isReduced && bits.flag()) bits.read(7);
  bits.read(3);
  if (!isReduced) skipTools(bits);
  bits.read(3);
  const isDeep = bits.flag();
  if (profile === 2 && isDeep) bits.read(1);
  const isGrey = profile !== 1 && bits.flag();
  const isDescribed = bits.flag();
  const [, , matrix] = isDescribed ? [bits.read(8), bits.read(8), bits.read(8)] : [2, 2, 2];
  return isGrey ? undefined : { matrix, isFullRange: bits.flag() };
}

/** From the timing to the operating points. */
function skipOperatingPoints(bits: Bits): void {
  let delayBits: number | undefined;
  if (bits.flag()) {
    bits.read(64);
    if (bits.flag()) {
      let zeros = 0;
      while (!bits.flag()) zeros++;
      bits.read(Math.min(zeros, 32));
    }
    if (bits.flag()) {
      delayBits = bits.read(5) + 1;
      bits.read(42);
    }
  }
  const hasDisplayDelay = bits.flag();
  for (let points = bits.read(5) + 1; points > 0; points--) {
    bits.read(12);
    if (bits.read(5) > 7) bits.read(1);
    if (delayBits !== undefined && bits.flag()) bits.read(2 * delayBits + 1);
    if (hasDisplayDelay && bits.flag()) bits.read(4);
  }
}

/** From the compound modes to the order hint. */
function skipTools(bits: Bits): void {
  bits.read(4);
  const hasOrderHint = bits.flag();
  if (hasOrderHint) bits.read(2);
  // 2 stands for a choice in each frame.
  const screenContent = bits.flag() ? 2 : bits.read(1);
  if (screenContent > 0 && !bits.flag()) bits.read(1);
  if (hasOrderHint) bits.read(3);
}
