// CIFAR-10 and CIFAR-100 (Krizhevsky 2009) as published: the binary version and the one of Python pickles.
import type { PickleValue } from "../../files/pickle.ts";
import { unpickle } from "../../files/pickle.ts";
import { UserError } from "../../utils/errors.ts";
import { quote } from "../../utils/quote.ts";
import type { ListedSet, ImageFolder } from "../dataset.ts";
import type { Item } from "../sampling.ts";
import { unusedFile } from "../unused.ts";
import { askedAs, defineFormat } from "./data-format.ts";
import type { DataTree } from "./tree.ts";
import { bytesOf, has, numberedLines, pathOf, textOf } from "./tree.ts";

const side = 32;
const numbers = 3 * side * side;

interface Layout {
  readonly name: "cifar10" | "cifar100";
  /** The folder that the archive unpacks to. */
  readonly folder: string;
  readonly train: readonly string[];
  readonly test: readonly string[];
  /** Class names: lines of a text, or a list in a pickle. */
  readonly names: { readonly file: string; readonly key?: string };
  /** Bytes before each image, and which of them is the label; undefined for pickles. */
  readonly record?: { readonly front: number; readonly label: number };
  /** Where a pickle has its labels. */
  readonly labels?: string;
}

const batches = [1, 2, 3, 4, 5];
const layouts: readonly Layout[] = [
  {
    name: "cifar100",
    folder: "cifar-100-binary",
    train: ["train.bin"],
    test: ["test.bin"],
    names: { file: "fine_label_names.txt" },
    record: { front: 2, label: 1 },
  },
  {
    name: "cifar10",
    folder: "cifar-10-batches-bin",
    train: batches.map((i) => `data_batch_${i}.bin`),
    test: ["test_batch.bin"],
    names: { file: "batches.meta.txt" },
    record: { front: 1, label: 0 },
  },
  {
    name: "cifar100",
    folder: "cifar-100-python",
    train: ["train"],
    test: ["test"],
    names: { file: "meta", key: "fine_label_names" },
    labels: "fine_labels",
  },
  {
    name: "cifar10",
    folder: "cifar-10-batches-py",
    train: batches.map((i) => `data_batch_${i}`),
    test: ["test_batch"],
    names: { file: "batches.meta", key: "label_names" },
    labels: "labels",
  },
];

/** A layout, and the folder that it is in, with a `/` behind. */
interface PlacedLayout {
  readonly layout: Layout;
  readonly prefix: string;
}

/** The layout that a folder, or one in it, has. */
async function layoutOf(tree: DataTree): Promise<PlacedLayout | undefined> {
  for (const layout of layouts)
    for (const prefix of ["", `${layout.folder}/`]) {
      const needed = [layout.names.file, layout.train[0], layout.test[0]];
      const present = await Promise.all(needed.map((file) => has(tree, prefix + file)));
      if (present.every(Boolean)) return { layout, prefix };
    }
  return undefined;
}

/** Opens the set. Throws a UserError on a file that is not what it should be. */
async function openCifar(tree: DataTree, { layout, prefix }: PlacedLayout): Promise<ListedSet> {
  const classes = await classNames(tree, prefix, layout);
  const part = async (files: readonly string[]): Promise<ImageFolder> => {
    const items: Item[] = [];
    for (const file of files) items.push(...(await itemsOf(tree, prefix + file, layout, classes)));
    return { path: tree.path, classes, items, skipped: [] };
  };
  const read = new Set([...layout.train, ...layout.test, layout.names.file].map((file) => prefix + file));
  const { names, skipped } = await tree.walk("", () => true);
  const others = names
    .filter((name) => !read.has(name))
    .map((name) => unusedFile(name, "beside the files that are read"));
  const train = { ...(await part(layout.train)), skipped: [...others, ...skipped] };
  return { path: tree.path, name: layout.name, train, test: await part(layout.test) };
}

async function classNames(tree: DataTree, prefix: string, { names }: Layout): Promise<string[]> {
  const file = prefix + names.file;
  if (names.key === undefined) return numberedLines(await textOf(tree, file)).map(({ text }) => text);
  const value = dictionaryOf(await bytesOf(tree, file), pathOf(tree, file)).get(names.key);
  if (!Array.isArray(value))
    throw new UserError(`${pathOf(tree, file)} holds no list ${names.key}`, { code: "INVALID_DATA" });
  return value.map(textOfKey);
}

const nameOf = (file: string, i: number) => `${file}#${i}`;

async function itemsOf(tree: DataTree, file: string, layout: Layout, classes: readonly string[]): Promise<Item[]> {
  const named = pathOf(tree, file);
  const bytes = await bytesOf(tree, file);
  const labelled = (label: unknown, i: number): number => {
    if (!(Number.isInteger(label) && (label as number) >= 0 && (label as number) < classes.length))
      throw new UserError(`Image ${i} of ${named} has the label ${quote(label)}; there are ${classes.length} classes`, {
        code: "INVALID_DATA",
      });
    return label as number;
  };
  if (layout.record) {
    const { front, label } = layout.record;
    const size = front + numbers;
    if (bytes.byteLength === 0 || bytes.byteLength % size !== 0)
      throw new UserError(`${named} is ${bytes.byteLength} bytes long, no whole number of records of ${size} bytes`, {
        code: "INVALID_DATA",
      });
    return Array.from({ length: bytes.byteLength / size }, (_, i) => ({
      name: nameOf(file, i),
      label: labelled(bytes[i * size + label], i),
      place: { kind: "planes", file, offset: i * size + front, width: side, height: side },
    }));
  }
  const batch = dictionaryOf(bytes, named);
  const labels = batch.get(layout.labels as string);
  const data = batch.get("data");
  if (!Array.isArray(labels)) throw new UserError(`${named} holds no list ${layout.labels}`, { code: "INVALID_DATA" });
  if (!(data instanceof Uint8Array) || data.byteLength !== labels.length * numbers)
    throw new UserError(`${named} does not hold ${numbers} numbers for each of its ${labels.length} labels`, {
      code: "INVALID_DATA",
    });
  const from = data.byteOffset - bytes.byteOffset;
  return labels.map((label, i) => ({
    name: nameOf(file, i),
    label: labelled(label, i),
    place: { kind: "planes", file, offset: from + i * numbers, width: side, height: side },
  }));
}

/** Class names and keys are short; a pickle may refer to a long one a million times. */
const longestText = 1000;

const latin1 = (bytes: Uint8Array) => Array.from(bytes, (b) => String.fromCharCode(b)).join("");
/** Python 2's strings are bytes in Python 3. */
const textOfKey = (value: PickleValue): string =>
  value instanceof Uint8Array
    ? latin1(value.subarray(0, longestText))
    : typeof value === "string"
      ? value.slice(0, longestText)
      : quote(value);

/** Stands for a NumPy array until its state comes: 8-bit numbers as they lie in the file. */
class NumPyArray {
  bytes: Uint8Array | undefined;
}

/** A pickled dictionary with NumPy's arrays of bytes in it; nothing is run. */
function dictionaryOf(bytes: Uint8Array, named: string): Map<string, unknown> {
  const { value } = unpickle(
    bytes,
    {
      keepsBytes: true,
      construct: (name) => {
        if (/^numpy\.(core|_core)\.multiarray\._reconstruct$/.test(name)) return () => new NumPyArray();
        if (name === "numpy.dtype") return ([type]) => ({ dtype: textOfKey(type) });
        return undefined;
      },
      build(object, state) {
        if (!(object instanceof NumPyArray) || !Array.isArray(state)) return;
        const [, , type, columns, data] = state as [unknown, unknown, { dtype?: string } | null, boolean, unknown];
        if (type?.dtype !== "u1" || columns === true || !(data instanceof Uint8Array))
          throw new UserError(`${named} holds an array that is not of bytes in C order`, { code: "INVALID_DATA" });
        object.bytes = data;
      },
      persistent: () => {
        throw new UserError(`${named} refers to something outside of it`, { code: "INVALID_DATA" });
      },
    },
    named,
  );
  if (!(value instanceof Map)) throw new UserError(`${named} holds no dictionary`, { code: "INVALID_DATA" });
  return new Map(
    [...value].map(([key, content]) => [
      textOfKey(key),
      content instanceof NumPyArray ? content.bytes : (content as unknown),
    ]),
  );
}

export const format = defineFormat({
  name: "cifar",
  summary: "CIFAR-10 and CIFAR-100 as published, as binary files or pickles",
  extensions: [],
  order: askedAs.published,
  options: {},
  recognise: layoutOf,
  open: openCifar,
});
