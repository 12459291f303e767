// Bounds on what decoding a model takes: messages and numbers are counted in the bytes before objects are made of them.
import type { DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** Messages (nodes, attributes, tensors, ...) of the largest models are some hundred thousands; each takes about 1 KB decoded. */
const mostMessages = 1_000_000;
/** Numbers and names in lists. Weights lie in `raw_data`, which is not copied. */
const mostListed = 2 ** 26;
/** Messages in messages; a graph in a node takes three levels. */
const deepest = 60;

interface Frame {
  readonly desc: DescMessage;
  readonly end: number;
}

/**
 * Throws where the bytes are no message of this kind, or hold more than can be decoded in bounded memory. Takes time in
 * proportion to the bytes.
 */
export function checkMessages(schema: DescMessage, bytes: Uint8Array): void {
  const reader = new BinaryReader(bytes);
  const fields = new Map<DescMessage, Map<number, DescMessage["fields"][number]>>();
  const fieldOf = (desc: DescMessage, number: number) => {
    let byNumber = fields.get(desc);
    if (!byNumber) {
      byNumber = new Map(desc.fields.map((field) => [field.number, field]));
      fields.set(desc, byNumber);
    }
    return byNumber.get(number);
  };
  const stack: Frame[] = [{ desc: schema, end: bytes.byteLength }];
  let [messages, listed] = [1, 0];
  while (stack.length > 0) {
    const { desc, end } = stack[stack.length - 1];
    if (reader.pos >= end) {
      if (reader.pos > end) throw new Error("a message ends in the middle of a field");
      stack.pop();
      continue;
    }
    const [number, wire] = reader.tag();
    if (wire === WireType.StartGroup || wire === WireType.EndGroup)
      throw new Error("it holds groups, which ONNX has not");
    const field = fieldOf(desc, number);
    if (wire !== WireType.LengthDelimited) {
      reader.skip(wire);
      if (field?.fieldKind === "list") listed++;
    } else {
      const length = reader.uint32();
      const inner = reader.pos + length;
      if (inner > end) throw new Error("it is cut off, or damaged");
      if (field?.message) {
        if (stack.length >= deepest) throw new Error(`its graphs lie in one another more than ${deepest / 3} deep`);
        if (++messages > mostMessages)
          throw new Error(`it has more than ${mostMessages} nodes, attributes and tensors`);
        stack.push({ desc: field.message, end: inner });
      } else {
        // A packed list has a number in each byte, or more bytes a number.
        if (field?.fieldKind === "list") listed += field.listKind === "scalar" && field.packed ? length : 1;
        reader.pos = inner;
      }
    }
    if (listed > mostListed) throw new Error(`it lists more than ${mostListed} numbers and names`);
  }
}
