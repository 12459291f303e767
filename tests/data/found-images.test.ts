// Images as people keep them: split folders of many names, links, accents, archives of every origin, lists with metadata; and
// every file that is not used is counted.
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DataSet } from "wecolora/node";
import { createImageSource, listImages, nodeEnvironment, openDataSet } from "wecolora/node";
import { readTable } from "../../src/data/formats/table-reader.ts";
import { findSplitFolders, splitOf } from "../../src/data/splits.ts";
import type { Listener } from "../../src/context/run-context.ts";
import { runContext, SkippedImages } from "../../src/context/run-context.ts";
import { referencePath } from "../support/reference.ts";

const environment = nodeEnvironment({ threads: 1 });
let folder: string;
let image: Buffer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-found-"));
  image = await sharp({ create: { width: 4, height: 4, channels: 3, background: "#123456" } })
    .png()
    .toBuffer();
});
afterAll(async () => {
  await environment.dispose();
  await rm(folder, { recursive: true });
});

/** A run that keeps its warnings, with their details, in a list. */
const warningInto = (messages: string[]) => {
  const warn: Listener["warn"] = (message, details = []) => {
    messages.push([message, ...details.map((d) => `  ${d}`)].join("\n"));
  };
  return runContext(environment, { listener: { warn } });
};

let made = 0;
/** A new folder with files: images, or the texts given. */
async function folderWith(files: readonly (string | readonly [string, string | Uint8Array])[]): Promise<string> {
  const top = join(folder, `set-${made++}`);
  await mkdir(top);
  for (const file of files) {
    const [name, content] = typeof file === "string" ? [file, image] : file;
    await mkdir(dirname(join(top, name)), { recursive: true });
    await writeFile(join(top, name), content);
  }
  return top;
}

function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

interface ZipFile {
  readonly name: Uint8Array;
  readonly content?: Uint8Array;
  readonly flags?: number;
  readonly extra?: Uint8Array;
}

/** A zip archive without compression, with names as they are given. */
function zipOf(files: readonly ZipFile[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const { name, content = image, flags = 0, extra = new Uint8Array(0) } of files) {
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(flags, 6);
    local.writeUInt32LE(crc32(content), 14);
    local.writeUInt32LE(content.length, 18);
    local.writeUInt32LE(content.length, 22);
    local.writeUInt16LE(name.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(flags, 8);
    central.writeUInt32LE(crc32(content), 16);
    central.writeUInt32LE(content.length, 20);
    central.writeUInt32LE(content.length, 24);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt16LE(extra.length, 30);
    central.writeUInt32LE(offset, 42);
    chunks.push(local, name, content);
    directory.push(central, name, extra);
    offset += 30 + name.length + content.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...chunks, listing, end]);
}

const utf8 = (text: string) => new TextEncoder().encode(text);

interface TarFile {
  readonly name: string;
  readonly content?: string | Uint8Array;
  /** What a link leads to, and its kind. */
  readonly link?: readonly ["1" | "2", string];
}

function tarOf(files: readonly (string | TarFile)[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  for (const file of files) {
    const { name, content = image, link } = typeof file === "string" ? { name: file } : (file as TarFile);
    const bytes = link ? new Uint8Array(0) : Buffer.from(content);
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write("0000644\0", 100);
    header.write(`${bytes.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write("        ", 148);
    header.write(link?.[0] ?? "0", 156);
    header.write(link?.[1] ?? "", 157);
    header.write("ustar\0" + "00", 257);
    header.write(
      `${header
        .reduce((a, b) => a + b, 0)
        .toString(8)
        .padStart(6, "0")}\0 `,
      148,
    );
    chunks.push(header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512));
  }
  return Buffer.concat([...chunks, Buffer.alloc(1024)]);
}

/** Class names of a part's images, by their file names. */
function classesOf(part: DataSet["train"] | undefined): Record<string, string | undefined> {
  return Object.fromEntries(
    (part?.items ?? []).map(({ name, label }) => [name, label === undefined ? undefined : part?.classes?.[label]]),
  );
}
const countsOf = ({ unused }: DataSet) => Object.fromEntries(unused.map(({ reason, count }) => [reason, count]));
const names = (part: DataSet["train"] | undefined) => part?.items.map(({ name }) => name);

describe("split folders", () => {
  const trainNames = ["train", "Training", "TRN", "seg_train", "train2017", "training_set", "trainval", "cifar_train"];
  const evaluationNames = [
    "val",
    "Valid",
    "VALIDATION",
    "dev",
    "seg_val",
    "test",
    "Testing",
    "tst",
    "seg_test",
    "test_set",
  ];
  test("by the names that people use", () => {
    for (const name of trainNames) expect(splitOf(name), name).toBe("train");
    expect(evaluationNames.map(splitOf)).toEqual([...Array(5).fill("val"), ...Array(5).fill("test")]);
    for (const name of ["cat", "trained", "attest", "device", "values"]) expect(splitOf(name), name).toBeUndefined();
    // Classes, not splits: what stands beside the word differs.
    expect(findSplitFolders(["train_station/a.png", "test_tube/b.png"])).toBeUndefined();
    expect(
      findSplitFolders(["cats/train/a.png", "cats/val/b.png", "dogs/train/a.png", "dogs/val/b.png"]),
    ).toBeUndefined();
  });

  const layouts: [string, string, string][] = [
    ["train", "val", ""],
    ["Training", "Testing", ""],
    ["TRAIN", "TEST", "archive/"],
    ["seg_train/seg_train", "seg_test/seg_test", ""],
    ["trn", "dev", "one/two/"],
    ["training_set/training_set", "test_set/test_set", ""],
  ];
  test.each(layouts)("%s and %s, in folders, zip and tar", async (train, evaluation, around) => {
    const files = ["cat/0.png", "dog/0.png", "dog/1.png"].flatMap((name) => [
      `${around}${train}/${name}`,
      `${around}${evaluation}/${name}`,
    ]);
    const inFolders = await folderWith([...files, [`${around}readme.txt`, "x"]]);
    const zip = await folderWith([
      ["a.zip", zipOf([...files, `${around}readme.txt`].map((name) => ({ name: utf8(name) })))],
    ]);
    const tar = await folderWith([["a.tar", tarOf([...files, { name: `${around}readme.txt`, content: "x" }])]]);
    for (const path of [inFolders, join(zip, "a.zip"), join(tar, "a.tar"), zip, tar]) {
      const data = await openDataSet(path);
      const opened = (part: DataSet["train"] | undefined) =>
        Object.fromEntries(
          Object.entries(classesOf(part)).map(([name, label]) => [name.replace(/^a\.tar\//, ""), label]),
        );
      expect(data.train.classes, path).toEqual(["cat", "dog"]);
      expect(opened(data.train)).toEqual({
        [`${around}${train}/cat/0.png`]: "cat",
        [`${around}${train}/dog/0.png`]: "dog",
        [`${around}${train}/dog/1.png`]: "dog",
      });
      expect(opened(data.test)).toEqual({
        [`${around}${evaluation}/cat/0.png`]: "cat",
        [`${around}${evaluation}/dog/0.png`]: "dog",
        [`${around}${evaluation}/dog/1.png`]: "dog",
      });
      expect(countsOf(data)).toEqual({ "not an image": 1 });
      expect((await listImages(path)).items).toHaveLength(6);
    }
  });

  test("flat ones, and one zip archive for each", async () => {
    const flat = await openDataSet(await folderWith(["Train/a.png", "Train/b.png", "Test/c.png"]));
    expect([names(flat.train), names(flat.test), flat.train.classes]).toEqual([
      ["Train/a.png", "Train/b.png"],
      ["Test/c.png"],
      undefined,
    ]);
    const zip = (name: string) => zipOf([{ name: utf8(`x/${name}`) }, { name: utf8(`y/${name}`) }]);
    const zips = await openDataSet(
      await folderWith([
        ["train.zip", zip("0.png")],
        ["test.zip", zip("1.png")],
      ]),
    );
    expect(classesOf(zips.train)).toEqual({ "train/x/0.png": "x", "train/y/0.png": "y" });
    expect(classesOf(zips.test)).toEqual({ "test/x/1.png": "x", "test/y/1.png": "y" });
  });

  test("train, val and test: it is said which is used; other folders are counted", async () => {
    const path = await folderWith([
      ...["train", "val", "test"].flatMap((split) => [`${split}/a/0.png`, `${split}/b/0.png`]),
      "test/c/0.png",
      "pred/9.png",
    ]);
    const data = await openDataSet(path);
    expect(names(data.test)).toEqual(["val/a/0.png", "val/b/0.png"]);
    expect(data.unused).toEqual([
      { reason: "outside of the split folders", count: 1, names: ["pred/9.png"] },
      {
        reason: "in the split test, which is not used (val is)",
        count: 3,
        names: ["test/a/0.png", "test/b/0.png", "test/c/0.png"],
      },
    ]);
    const messages: string[] = [];
    new SkippedImages(true).open(warningInto(messages), data.train.skipped);
    expect(messages).toEqual(["Skipped 1 file:\n  pred/9.png: outside of the split folders"]);
    expect((await listImages(path)).items).toHaveLength(7);
  });

  test("a few loose images don't take the classes from the rest", async () => {
    const files = Array.from({ length: 20 }, (_, i) => `${i % 2 ? "a" : "b"}/${i}.png`);
    const data = await openDataSet(await folderWith([...files, "sample.png"]));
    expect(data.train.classes).toEqual(["a", "b"]);
    expect(countsOf(data)).toEqual({ "beside the class folders": 1 });
    const flat = await openDataSet(await folderWith(["0.png", "1.png", "2.png", "a/3.png", "b/4.png"]));
    expect([flat.train.classes, flat.train.items.length]).toEqual([undefined, 5]);
  });
});

describe("links and names", () => {
  test("linked class folders and files are followed, also out of the folder; loops end", async () => {
    const outside = await folderWith(["dog/0.png", "dog/1.png", "one.png"]);
    const path = await folderWith(["cat/0.png", "real/deep/x.txt"]);
    await symlink(join(outside, "dog"), join(path, "dog"));
    await symlink(join(outside, "one.png"), join(path, "cat", "linked.png"));
    await symlink(path, join(path, "cat", "top"));
    await symlink(dirname(path), join(path, "cat", "above"));
    await symlink(join(path, "gone.png"), join(path, "cat", "gone.png"));
    await mkdir(join(path, "cow"));
    await symlink(join(path, "cow"), join(path, "cow", "self"));
    const data = await openDataSet(path);
    expect(classesOf(data.train)).toEqual({
      "cat/0.png": "cat",
      "cat/linked.png": "cat",
      "dog/0.png": "dog",
      "dog/1.png": "dog",
    });
    expect(countsOf(data)).toEqual({ "a link back to a folder around it": 3, "broken link": 1, "not an image": 1 });
    const strict = new SkippedImages(true);
    expect(() => strict.open(runContext(environment), data.train.skipped)).toThrow(
      "cat/gone.png: broken link (strict is on)",
    );
  });

  test("folders that link to each other many times over are not walked for ever", async () => {
    const path = await folderWith(["0/a.png"]);
    for (let i = 1; i < 20; i++) {
      await mkdir(join(path, String(i)));
      for (const name of ["x", "y"]) await symlink(join(path, String(i - 1)), join(path, String(i), name));
    }
    const data = await openDataSet(path);
    expect(data.train.items.length).toBeLessThanOrEqual(20);
    expect(countsOf(data)["a link back to a folder around it"]).toBeGreaterThan(0);
  });

  test("accents in composed and in decomposed form are the same", async () => {
    const [composed, decomposed] = ["café", "café"].map((word, i) => word.normalize(i ? "NFD" : "NFC"));
    const data = await openDataSet(
      await folderWith([`train/${decomposed}/0.png`, "train/b/0.png", `val/${composed}/1.png`, "val/b/1.png"]),
    );
    expect(data.train.classes).toEqual(["b", composed]);
    expect(data.test?.items.map(({ label }) => label)).toEqual([0, 1]);
    const list = await folderWith([
      `${decomposed}.png`,
      "b.png",
      ["list.csv", `file,label\n${composed}.png,${decomposed}\nb.png,${composed}\n`],
    ]);
    const listed = await openDataSet(join(list, "list.csv"));
    expect(classesOf(listed.train)).toEqual({ [`${decomposed}.png`]: composed, "b.png": composed });
    const source = createImageSource(list, 1);
    for (const item of listed.train.items) expect((await source.facts(item)).width).toBe(4);
    await source.dispose();
  });
});

describe("lists", () => {
  test("absolute paths, and paths out of the folder", async () => {
    const other = await folderWith(["far.png"]);
    const path = await folderWith(["0.png", "sub/1.png"]);
    const paths = [join(path, "0.png"), join(path, "sub", "1.png"), join(other, "far.png"), "./sub/../../gone.png"];
    await writeFile(join(path, "list.csv"), `path,label\n${paths.map((p, i) => `${p},${i % 2}\n`).join("")}`);
    await writeFile(join(path, "list.txt"), paths.map((p) => `${p}\n`).join(""));
    for (const list of ["list.csv", "list.txt"]) {
      const data = await openDataSet(join(path, list));
      const far = `../${other.slice(dirname(other).length + 1)}/far.png`;
      expect(names(data.train)).toEqual(["0.png", "sub/1.png", far]);
      expect(countsOf(data)["named in a list, but not there"]).toBe(1);
      const source = createImageSource(data.path, 1);
      for (const item of data.train.items) expect((await source.facts(item)).height).toBe(4);
      await source.dispose();
    }
  });

  test("what is named twice, never, or is no image; and two classes for one image", async () => {
    const files = ["a.png", "b.png", "never.png", ["notes.txt", "x"]] as const;
    const list = "file,label\na.png,x\na.png,x\nb.png,y\nnotes.txt,y\n";
    const path = await folderWith([...files, ["list.csv", list]]);
    const data = await openDataSet(join(path, "list.csv"));
    expect(names(data.train)).toEqual(["a.png", "b.png"]);
    expect(countsOf(data)).toEqual({
      "named in a list, but not there": 1,
      "names an image again": 1,
      "named in no list": 1,
      "not an image": 1,
    });
    expect(data.train.skipped[0].reason).toBe("names notes.txt, which is not an image by its name");
    await writeFile(join(path, "list.csv"), `${list}a.png,y\n`);
    await expect(openDataSet(join(path, "list.csv"))).rejects.toThrow(
      /Line 6 of .* names a\.png again, with another class/,
    );
  });

  const jsonLines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  test("imagefolder's metadata in each split, or at the top", async () => {
    const rows = [
      { file_name: "0.png", label: "x", size: { w: 4 } },
      { file_name: "deep/1.png", label: "y" },
    ];
    const images = ["train/0.png", "train/deep/1.png", "train/2.png", "test/0.png", "test/deep/1.png"];
    const inside = [
      ["train/metadata.jsonl", jsonLines(rows)],
      ["test/metadata.csv", "file_name,label\n0.png,y\ndeep/1.png,x\ngone.png,x\n"],
    ] as const;
    const top = ["train", "test"].flatMap((split) =>
      rows.map((row) => ({
        ...row,
        file_name: `${split}/${row.file_name}`,
        label: split === "train" ? row.label : "x",
      })),
    );
    const inEach = await folderWith([...images, ...inside]);
    const atTop = await folderWith([...images, ["metadata.jsonl", jsonLines(top)]]);
    const packed = [
      ...images.map((name) => ({ name: utf8(name) })),
      ...inside.map(([n, t]) => ({ name: utf8(n), content: utf8(t) })),
    ];
    const zip = join(await folderWith([["a.zip", zipOf(packed)]]), "a.zip");
    const tar = join(
      await folderWith([["a.tar", tarOf([...images, ...inside.map(([name, content]) => ({ name, content }))])]]),
      "a.tar",
    );
    for (const path of [inEach, zip, tar, atTop]) {
      const data = await openDataSet(path);
      expect(Object.values(classesOf(data.train)), path).toEqual(["x", "y"]);
      expect(Object.values(classesOf(data.test)), path).toEqual(path === atTop ? ["x", "x"] : ["y", "x"]);
      expect(countsOf(data)).toMatchObject({ "named in no list": 1 });
      if (path !== atTop) expect(countsOf(data)["named in a list, but not there"]).toBe(1);
    }
    const several = await openDataSet(
      await folderWith([
        "0.png",
        "1.png",
        [
          "metadata.jsonl",
          jsonLines([
            { file_name: "0.png", labels: ["p", "q"] },
            { file_name: "1.png", labels: [] },
          ]),
        ],
      ]),
    );
    expect([several.multiLabel, several.train.classes]).toEqual([true, ["p", "q"]]);
    expect(several.train.items.map(({ labels }) => labels)).toEqual([[0, 1], []]);
  });

  test("a table's validation split is used, its test split named", async () => {
    const path = await folderWith([
      "0.png",
      "1.png",
      "2.png",
      ["list.csv", "file,split\n0.png,Train\n1.png,dev\n2.png,test\n"],
    ]);
    const data = await openDataSet(join(path, "list.csv"));
    expect([names(data.train), names(data.test)]).toEqual([["0.png"], ["1.png"]]);
    expect(countsOf(data)).toEqual({ "in the split test, which is not used (val is)": 1 });
  });
});

describe("archives", () => {
  const cp437 = (text: string) =>
    Uint8Array.from(text, (c) => ({ é: 0x82, ö: 0x94, ü: 0x81, ñ: 0xa4 })[c] ?? c.charCodeAt(0));
  /** 猫 and 犬小屋 in Shift-JIS; the second holds 0x5c, a backslash's code. */
  const japanese = [
    Uint8Array.of(0x94, 0x4c, 0x83, 0x5c, 0x83, 0x7d),
    Uint8Array.of(0x8c, 0xa2, 0x8f, 0xac, 0x89, 0xae),
  ];
  const withFile = (name: Uint8Array, file = "/0.png") => Uint8Array.from([...name, ...utf8(file)]);

  test.each<[string, ZipFile[], string[]]>([
    ["cp437", [{ name: cp437("Köln/0.png") }, { name: cp437("señorés/0.png") }], ["Köln", "señorés"]],
    ["Shift-JIS", japanese.map((name) => ({ name: withFile(name) })), ["犬小屋", "猫ソマ"]],
    ["marked UTF-8", [{ name: utf8("Köln/0.png"), flags: 0x800 }, { name: cp437("Tür/0.png") }], ["Köln", "Tür"]],
    ["UTF-8 without a mark", [{ name: utf8("Köln/0.png") }, { name: utf8("猫/0.png") }], ["Köln", "猫"]],
    ["backslashes", [{ name: utf8("a\\0.png") }, { name: utf8("b\\0.png") }], ["a", "b"]],
  ])("zip names in %s", async (_, files, classes) => {
    const path = join(await folderWith([["a.zip", zipOf(files)]]), "a.zip");
    const data = await openDataSet(path);
    expect(data.train.classes).toEqual(classes);
    const source = createImageSource(data.path, 1);
    for (const item of data.train.items) expect((await source.facts(item)).width).toBe(4);
    await source.dispose();
  });

  test("Info-ZIP's Unicode paths count where their checksum is that of the name", async () => {
    const extra = (raw: Uint8Array, text: string) => {
      const name = utf8(text);
      const field = Buffer.alloc(9);
      field.writeUInt16LE(0x7075, 0);
      field.writeUInt16LE(5 + name.length, 2);
      field.writeUInt8(1, 4);
      field.writeUInt32LE(crc32(raw), 5);
      return Buffer.concat([field, name]);
    };
    const [right, stale] = [utf8("x_1/0.png"), utf8("y/0.png")];
    const files = [
      { name: right, extra: extra(right, "Łódź/0.png") },
      { name: stale, extra: extra(utf8("z/0.png"), "old/0.png") },
    ];
    const data = await openDataSet(join(await folderWith([["a.zip", zipOf(files)]]), "a.zip"));
    expect(data.train.classes).toEqual(["y", "Łódź"]);
  });

  test("what a zip holds beside images is counted", async () => {
    const zipped = [
      "a/0.png",
      "b/0.png",
      "a/notes.txt",
      "__MACOSX/a/._0.png",
      "b/._0.png",
      ".hidden/x.png",
      "a/Thumbs.db",
    ];
    const path = join(await folderWith([["a.zip", zipOf(zipped.map((name) => ({ name: utf8(name) })))]]), "a.zip");
    expect(countsOf(await openDataSet(path))).toEqual({ "not an image": 1, "macOS resource fork": 2, hidden: 2 });
  });

  test("tar: dots in names, sidecars, links, and what is left out", async () => {
    const open = async (files: readonly (string | TarFile)[]) =>
      openDataSet(join(await folderWith([["a.tar", tarOf(files)]]), "a.tar"));
    const short = (data: DataSet) =>
      Object.fromEntries(Object.entries(classesOf(data.train)).map(([name, label]) => [name.slice(6), label]));
    const roboflow = await open(["cat/p_jpg.rf.0a.png", "cat/p_jpg.rf.1b.png", "dog/v1.0.png", "dog/v1.1.png"]);
    expect(short(roboflow)).toEqual({
      "cat/p_jpg.rf.0a.png": "cat",
      "cat/p_jpg.rf.1b.png": "cat",
      "dog/v1.0.png": "dog",
      "dog/v1.1.png": "dog",
    });
    const depth = await open([
      "0.depth.png",
      "0.png",
      { name: "0.cls", content: "1" },
      { name: "1.png" },
      { name: "1.depth.png" },
      { name: "1.cls", content: "0" },
      { name: "1.txt", content: "a caption" },
    ]);
    expect(short(depth)).toEqual({ "0.png": "class 1", "1.png": "class 0" });
    expect(countsOf(depth)).toEqual({ "another image of the same key": 2, "not an image": 1 });
    const labelled = await open([
      "a.b.0.png",
      { name: "a.b.0.cls", content: "1" },
      "a.b.1.png",
      { name: "a.b.1.cls", content: "0" },
    ]);
    expect(short(labelled)).toEqual({ "a.b.0.png": "class 1", "a.b.1.png": "class 0" });
    const linked = await open([
      "x/0.png",
      { name: "y/1.png", link: ["1", "x/0.png"] },
      { name: "y/2.png", link: ["2", "../x/0.png"] },
      { name: "y/3.png", link: ["2", "/elsewhere.png"] },
      "x/._0.png",
      "x/9.png",
      "x/9.png",
    ]);
    expect(short(linked)).toEqual({ "x/0.png": "x", "y/1.png": "y", "y/2.png": "y", "x/9.png": "x" });
    expect(countsOf(linked)).toEqual({ "a link out of the archive": 1, "macOS resource fork": 1, "duplicate key": 1 });
    const source = createImageSource(linked.path, 1);
    for (const item of linked.train.items) expect((await source.facts(item)).width).toBe(4);
    await source.dispose();
  });
});

describe("parquet", () => {
  const at = (name: string) => referencePath(`data-sets/tables/${name}.parquet`);
  test("the column named image stands before others, or the one that is asked for", async () => {
    const opened = await openDataSet(at("two-images"));
    const asked = await openDataSet(at("two-images"), { imageColumn: "conditioning" });
    const widths = [];
    for (const { path, train } of [opened, asked]) {
      const source = createImageSource(path, 1);
      widths.push((await source.facts(train.items[0])).width);
      await source.dispose();
    }
    expect(widths).toEqual([4, 3]);
    await expect(openDataSet(at("two-images"), { imageColumn: "label" })).rejects.toThrow("holds no encoded images");
    await expect(openDataSet(at("two-images"), { imageColumn: "none" })).rejects.toThrow(
      "has no column none; its columns are conditioning, image, label",
    );
  });

  test("labels: booleans, ClassLabel's names, words, several each", async () => {
    const booleans = await openDataSet(at("booleans"));
    expect(Object.values(classesOf(booleans.train))).toEqual(["true", "false", "true"]);
    const named = await openDataSet(at("two-images"));
    expect([named.train.classes, Object.values(classesOf(named.train))]).toEqual([
      ["ant", "bee", "cow"],
      ["cow", "ant", "bee"],
    ]);
    const words = await openDataSet(at("booleans"), { labelColumns: ["word"] });
    expect(Object.values(classesOf(words.train))).toEqual(["b", "a", "b"]);
    const several = await openDataSet(at("booleans"), { labelColumns: ["tags"] });
    expect([several.multiLabel, several.train.classes]).toEqual([true, ["p", "q", "r"]]);
    expect(several.train.items.map(({ labels }) => labels)).toEqual([[0, 2], [], [1]]);
  });
});

describe("tables of text", () => {
  test("are read as csv-parse reads them", () => {
    const cell = fc.oneof(
      fc.string({ unit: fc.constantFrom("a", "é", " ", ";", "\t", "'", "1"), maxLength: 5 }),
      fc
        .string({ unit: fc.constantFrom("a", '"', ",", "\n", " ", "b", "\r\n"), maxLength: 6 })
        .map((text) => `"${text.replaceAll('"', '""')}"`),
    );
    const table = fc
      .integer({ min: 2, max: 4 })
      .chain((width) =>
        fc.array(fc.array(cell, { minLength: width, maxLength: width }), { minLength: 1, maxLength: 6 }),
      );
    fc.assert(
      fc.property(table, fc.constantFrom("\n", "\r\n"), fc.boolean(), (rows, ending, mark) => {
        const text = (mark ? "\uFEFF" : "") + rows.map((row) => row.join(",")).join(ending) + ending;
        const opened = readTable(text, "t");
        const expected = parse(text, { bom: true, trim: true, skip_empty_lines: true, record_delimiter: ending });
        expect([opened.columns, ...opened.rows.map(({ values }) => values)]).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  test("rows know their lines", () => {
    const { rows } = readTable('a,b\n\n1,"x\ny\nz"\n"2",3\n', "t");
    expect(rows).toEqual([
      { line: 3, values: ["1", "x\ny\nz"] },
      { line: 6, values: ["2", "3"] },
    ]);
  });

  test.each<[string, () => string, string]>([
    ["many columns", () => `${"c,".repeat(1e6)}c\n`, "line 1 has more than 10000 columns"],
    ["many quoted columns", () => `${'"c",'.repeat(1e6)}c\n`, "line 1 has more than 10000 columns"],
    ["a long field", () => `a,b\n${"x".repeat(4e7)},y\n`, "line 2 has a field of more than 1048576 characters"],
    [
      "a long quoted field",
      () => `a,b\n"${'""'.repeat(2e7)}",y\n`,
      "line 2 has a field of more than 1048576 characters",
    ],
    ["an open quote", () => `a,b\n1,2\n"${"x\n".repeat(1e5)}`, "the quote that opens in line 3 is not closed"],
    ["a long row", () => `a,b\n${"x,".repeat(9000)}\n`, "line 2 has 9001 fields, the header 2 columns"],
  ])("%s: a short message", (_, text, message) => {
    const content = text();
    const begin = process.cpuUsage();
    let error: unknown;
    try {
      readTable(content, "list.csv");
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({
      name: "UserError",
      message: `list.csv is not a table that can be read: ${message}.`,
    });
    expect(process.cpuUsage(begin).user / 1e6).toBeLessThan(20);
  });

  test("time grows with the length", () => {
    const seconds = (rows: number, form: (i: number) => string) => {
      const text = `path,label\n${Array.from({ length: rows }, (_, i) => form(i)).join("")}`;
      const begin = process.cpuUsage();
      expect(readTable(text, "t").rows).toHaveLength(rows);
      return process.cpuUsage(begin).user / 1e6;
    };
    // 65 MB take a second here; the bound is against a square of the length.
    expect(seconds(1_400_000, (i) => `images/some/folder/image_${i}.png,class ${i % 10}\n`)).toBeLessThan(20);
    expect(seconds(1_300_000, (i) => `"images/some/folder/image_${i}.png","class ${i % 10}"\n`)).toBeLessThan(20);
  });

  test("long names in other messages are cut", async () => {
    const long = "x".repeat(90_000);
    for (const list of [
      `${long},b\n1,2\n`,
      `${Array.from({ length: 9000 }, (_, i) => `column${i}`).join(",")}\n${"1,".repeat(8999)}1\n`,
      `path,label\n${long}.png,a\n`,
    ]) {
      const path = await folderWith(["a.png", ["list.csv", list]]);
      const error: unknown = await openDataSet(join(path, "list.csv")).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: "UserError" });
      expect((error as Error).message.length).toBeLessThan(700);
    }
  });

  test("UTF-16, as spreadsheets save text", async () => {
    const path = await folderWith(["é.png", ["list.tsv", Buffer.from("\uFEFFpath\tlabel\né.png\tü\n", "utf16le")]]);
    expect(classesOf((await openDataSet(join(path, "list.tsv"))).train)).toEqual({ "é.png": "ü" });
  });
});

test("reasons are shown a line each, images that are wrong once more with their own", async () => {
  const path = await folderWith([
    "a.png",
    ...Array.from({ length: 5 }, (_, i) => [`${i}.txt`, "x"] as const),
    [".DS_Store", ""],
    ["._a.png", ""],
  ]);
  const data = await openDataSet(path);
  const messages: string[] = [];
  const skipped = new SkippedImages(true);
  skipped.open(warningInto(messages), data.train.skipped);
  expect(messages).toEqual([
    "Skipped 7 files:\n  .DS_Store: hidden\n  ._a.png: macOS resource fork\n  not an image: 5 (0.txt, 1.txt, 2.txt, ...)",
  ]);
  expect(() => skipped.add({ name: "a.png", reason: "is cut off" })).toThrow("a.png: is cut off (strict is on)");
  expect((await readFile(join(path, "a.png"))).length).toBe(image.length);
});
