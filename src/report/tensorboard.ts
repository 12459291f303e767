// TensorBoard's event files: records framed by lengths and checksums, each a small protobuf message (tensorflow's
// event.proto and summary.proto).
import { markdownFence, visibleText } from "../utils/escape.ts";

const encoder = new TextEncoder();

/** CRC-32C (Castagnoli), and TensorFlow's masking of it. */
const crcTable = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c >>> 0;
});

/** The checksum that frames a record. */
export function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 255] ^ (crc >>> 8);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return bytes;
}

type Field = Uint8Array;

const join = (parts: readonly Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.byteLength;
  }
  return out;
};

const key = (field: number, wire: number) => Uint8Array.from(varint(field * 8 + wire));
const integer = (field: number, value: number): Field => join([key(field, 0), Uint8Array.from(varint(value))]);
const bytes = (field: number, value: Uint8Array): Field =>
  join([key(field, 2), Uint8Array.from(varint(value.byteLength)), value]);
const message = (field: number, parts: readonly Field[]): Field => bytes(field, join(parts));
const string = (field: number, value: string): Field => bytes(field, encoder.encode(value));

function float(field: number, value: number): Field {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setFloat32(0, value, true);
  return join([key(field, 5), out]);
}

function double(field: number, value: number): Field {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setFloat64(0, value, true);
  return join([key(field, 1), out]);
}

/** One record: length, its checksum, the event, its checksum. */
function record(event: Uint8Array): Uint8Array {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(event.byteLength), true);
  const [first, last] = [new Uint8Array(4), new Uint8Array(4)];
  new DataView(first.buffer).setUint32(0, maskedCrc(length), true);
  new DataView(last.buffer).setUint32(0, maskedCrc(event), true);
  return join([length, first, event, last]);
}

/** An image for TensorBoard, as PNG. */
export interface LoggedImage {
  readonly tag: string;
  readonly width: number;
  readonly height: number;
  readonly png: Uint8Array;
}

/** Event: wall_time = 1, step = 2, file_version = 3, summary = 5. Summary: value = 1 with tag = 1. */
function summary(seconds: number, step: number, tag: string, value: readonly Field[]): Uint8Array {
  return record(
    join([double(1, seconds), integer(2, step), message(5, [message(1, [string(1, visibleText(tag)), ...value])])]),
  );
}

/** A text: plugin data "text" in the metadata (9), and the text in a tensor (8) of strings. */
function textSummary(seconds: number, tag: string, text: string): Uint8Array {
  const metadata = message(9, [message(1, [string(1, "text")])]);
  const tensor = message(8, [integer(1, 7), message(2, [message(2, [integer(1, 1)])]), string(8, text)]);
  return summary(seconds, 0, tag, [metadata, tensor]);
}

function imageSummary(seconds: number, { tag, width, height, png }: LoggedImage): Uint8Array {
  const image = message(4, [integer(1, height), integer(2, width), integer(3, 3), bytes(4, png)]);
  return summary(seconds, 0, tag, [image]);
}

/** What the log's entries are called in TensorBoard. */
const scalars: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  step: { loss: "train/loss", learningRate: "train/learning_rate", seconds: "train/seconds_a_step" },
  evaluation: { meanAbsoluteDifference: "held_out/difference", cosine: "held_out/cosine", knn: "held_out/neighbours" },
};

/** Records of one log entry. */
export function scalarEvents(entry: Readonly<Record<string, unknown>>, seconds: number): Uint8Array[] {
  const tags = Object.entries(scalars[String(entry.kind)] ?? {});
  return tags.flatMap(([name, tag]) => {
    const value = entry[name];
    return typeof value === "number" ? [summary(seconds, Number(entry.step), tag, [float(2, value)])] : [];
  });
}

/**
 * A whole event file from a run's log: version, settings as text, images, then the scalars. `seconds` is the time of
 * entries that carry none.
 */
export function eventFile(
  entries: readonly Readonly<Record<string, unknown>>[],
  settings: string,
  images: readonly LoggedImage[],
  seconds: number,
): Uint8Array[] {
  const when = (entry: Readonly<Record<string, unknown>>) => (typeof entry.time === "number" ? entry.time : seconds);
  return [
    record(join([double(1, seconds), string(3, "brain.Event:2")])),
    textSummary(seconds, "settings", markdownFence(settings, "json").text),
    ...images.map((image) => imageSummary(seconds, image)),
    ...entries.flatMap((entry) => scalarEvents(entry, when(entry))),
  ];
}
