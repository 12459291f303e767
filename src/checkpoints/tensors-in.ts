// Finding the tensors in what a training script saved: a dictionary of weights, wrappers around it, other things beside it.
import type { PickleValue } from "../files/pickle.ts";
import { Opaque } from "../files/pickle.ts";
import { TensorRecord } from "./torch-values.ts";

/** Deeper than any module is nested; a name that long is none. */
const deepest = 64;
const longestName = 500;

/** Attributes of an `nn.Module` that was saved whole: its state_dict() has them without these words. */
const moduleParts = new Set(["_parameters", "_buffers", "_modules"]);

interface Place {
  readonly value: PickleValue;
  readonly name: string;
  readonly depth: number;
}

export interface FoundTensors {
  /** By their paths: keys, indices and attributes, joined by dots. */
  readonly tensors: Map<string, TensorRecord>;
  /** Classes and functions of objects that were not made, the first few. */
  readonly opaque: readonly string[];
}

const mostClasses = 16;

/** All tensors in a value, the outer ones first. Each object is visited once, however often it is referred to. */
export function tensorsIn(root: PickleValue): FoundTensors {
  const tensors = new Map<string, TensorRecord>();
  const classes = new Set<string>();
  const seen = new Set<PickleValue>();
  const queue: Place[] = [{ value: root, name: "", depth: 0 }];
  for (let i = 0; i < queue.length; i++) {
    const { value, name, depth } = queue[i];
    if (value instanceof TensorRecord) {
      // A tensor alone has no name, and the same name further inside is another's.
      if (name !== "" && !tensors.has(name)) tensors.set(name, value);
      continue;
    }
    if (typeof value !== "object" || value === null || seen.has(value) || depth > deepest) continue;
    seen.add(value);
    if (value instanceof Opaque && classes.size < mostClasses) classes.add(value.className);
    for (const [key, item] of partsOf(value)) {
      // Numbers and texts hold nothing; lists of a million losses need no places.
      if (typeof item !== "object" || item === null) continue;
      const inner = moduleParts.has(key) ? name : name === "" ? key : `${name}.${key}`;
      if (inner.length <= longestName) queue.push({ value: item, name: inner, depth: depth + 1 });
    }
  }
  return { tensors, opaque: [...classes] };
}

/** What an object holds by name: items, elements, attributes. */
function* partsOf(value: object): Generator<[key: string, item: PickleValue]> {
  if (value instanceof Map) {
    for (const [key, item] of value as Map<PickleValue, PickleValue>) {
      if (typeof key === "string" || typeof key === "number") yield [String(key), item];
    }
  } else if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield [String(i), item];
  } else if (value instanceof Opaque) {
    if (value.entries) yield* partsOf(value.entries);
    if (value.elements) yield* partsOf(value.elements);
    // Attributes: a dictionary, or that and those of `__slots__`.
    for (const state of Array.isArray(value.state) ? value.state.slice(0, 2) : [value.state])
      if (state instanceof Map) yield* attributesOf(state);
  }
}

/** An object's attributes; buffers that a module leaves out of its state_dict() are left out. */
function* attributesOf(state: Map<PickleValue, PickleValue>): Generator<[key: string, item: PickleValue]> {
  const omitted = state.get("_non_persistent_buffers_set");
  const buffers = state.get("_buffers");
  for (const part of partsOf(state)) {
    if (part[0] === "_buffers" && buffers instanceof Map && omitted instanceof Set && omitted.size > 0) {
      for (const [key, item] of partsOf(buffers)) if (!omitted.has(key)) yield [key, item];
    } else yield part;
  }
}
