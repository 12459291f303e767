// What the command line says about mistakes: the option as it was typed, the value, what is allowed, and a code.
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noiseImage, wecolora } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-messages-"));
  for (let i = 0; i < 4; i++) await noiseImage(at("data", "train", `c${i % 2}`, `p${i}.jpg`), i, i % 3);
  await writeFile(at("notes.txt"), "hello there\n");
  await writeFile(at("options.yaml"), "rank: 0\nrnak: 3\n");
  await symlink(at("loop"), at("loop"));
});
afterAll(() => rm(folder, { recursive: true }));

const distill = (...more: string[]) => [
  "distill",
  "--teacher",
  teacher,
  "--data",
  at("data"),
  "--out",
  at("out"),
  ...more,
];
const formats =
  "huggingface, onnx, onnx-float16, onnx-int8, onnx-int8-weights, onnx-q4, onnx-q4f16, peft, safetensors, timm";

const cases: readonly (readonly [string, () => string[], () => string, string])[] = [
  [
    "a number",
    () => distill("--few-shot-count", "0"),
    () => "--few-shot-count must be a whole number of at least 1, got 0.",
    "INVALID_OPTION",
  ],
  [
    "a share",
    () => distill("--few-shot-ratio", "2"),
    () => "--few-shot-ratio must be a number above 0 and at most 1, got 2.",
    "INVALID_OPTION",
  ],
  [
    "several forms",
    () => distill("--rank", "many"),
    () =>
      '--rank must be a whole number of at least 1, or values by name, as in q=..., for q, k, v, proj, fc1, fc2 (each a whole number of at least 1), got "many".',
    "INVALID_OPTION",
  ],
  [
    "a value by name",
    () => distill("--rank", "q=0"),
    () => "q in --rank must be a whole number of at least 1, got 0.",
    "INVALID_OPTION",
  ],
  [
    "a name of several",
    () => ["export", "--model", teacher, "--data", at("data"), "--to", "foo", "--out", at("out")],
    () => `--to must be one of ${formats}, or a list of these, got "foo".`,
    "INVALID_OPTION",
  ],
  [
    "a budget",
    () => distill("--budget", "1KB"),
    () =>
      '--budget must be a size above 0 in MB (25MB), a share of the teacher above 0 (0.3x) or a time per image above 0 (10ms), got "1KB".',
    "INVALID_OPTION",
  ],
  [
    "two options",
    () => distill("--few-shot-ratio", "0.5", "--few-shot-count", "2"),
    () => "Give --few-shot-ratio or --few-shot-count, not both.",
    "INVALID_OPTION",
  ],
  [
    "several problems in a file",
    () => distill("--config", at("options.yaml")),
    () =>
      `rank in ${at("options.yaml")} must be a whole number of at least 1, or values by name, as in q=..., for q, k, v, proj, fc1, fc2 (each a whole number of at least 1), got 0. There is no option rnak in ${at("options.yaml")}. Did you mean rank?`,
    "INVALID_OPTION",
  ],
  [
    "a text as configuration",
    () => ["compare", "--out", at("out"), "--config", at("notes.txt")],
    () => `${at("notes.txt")} must hold options by name (camelCase), such as "rank: 64", got "hello there".`,
    "INVALID_OPTION",
  ],
  [
    "no grid",
    () => ["compare", "--out", at("out")],
    () => "compare needs --grid. See: wecolora compare --help",
    "INVALID_OPTION",
  ],
  [
    "a missing option",
    () => ["distill", "--data", teacher],
    () => "distill needs <teacher>. See: wecolora distill --help",
    "INVALID_OPTION",
  ],
  [
    "an unknown option",
    () => ["evaluate", "--modle", "x"],
    () => "Unknown option '--modle'. Did you mean --model?",
    "INVALID_OPTION",
  ],
  ["a missing argument", () => ["inspect"], () => "Missing required argument 'model'.", "INVALID_OPTION"],
  [
    "no run",
    () => ["report", at("nowhere")],
    () => `There is no run in ${at("nowhere")}. Give the output folder of wecolora distill.`,
    "RUN_NOT_FOUND",
  ],
  [
    "an image as model",
    () => ["inspect", at("data/train/c0/p0.jpg")],
    () =>
      `${at("data/train/c0/p0.jpg")} is an image (JPEG), not a model. Give a model's folder, its file of weights, or its name on the hub.`,
    "NOT_A_MODEL",
  ],
  [
    "images as model",
    () => ["inspect", at("data")],
    () =>
      `${at("data")} is a folder of images (such as train/c0/p0.jpg), not a model. Give a model's folder, its file of weights, or its name on the hub.`,
    "NOT_A_MODEL",
  ],
  [
    "a model as images",
    () => ["evaluate", "--model", teacher, "--data", teacher],
    () => `${teacher} is a model, not images. Give a folder or an archive of images.`,
    "NO_IMAGES",
  ],
  [
    "weights as images",
    () => ["evaluate", "--model", teacher, "--data", join(teacher, "model.safetensors")],
    () => `${join(teacher, "model.safetensors")} is a model, not images. Give a folder or an archive of images.`,
    "NO_IMAGES",
  ],
  [
    "nothing there",
    () => ["inspect", at("not", "there")],
    () => `There is no file or folder ${at("not", "there")}.`,
    "FILE_NOT_FOUND",
  ],
  [
    "a link to itself",
    () => ["inspect", at("loop")],
    () => `${at("loop")} can't be read: its links lead back to themselves. Fix the links, or give another path.`,
    "FILE_NOT_READABLE",
  ],
  [
    "a path through a file",
    () => ["evaluate", "--model", teacher, "--data", at("notes.txt", "x")],
    () => `${at("notes.txt", "x")} can't be read: a part of the path is a file, not a folder. Check the path.`,
    "FILE_NOT_READABLE",
  ],
];

describe("mistakes", () => {
  test.each(cases)("%s", async (_, args, message, code) => {
    const { code: exit, out, err } = await wecolora(...args(), "--json");
    // A line on the recipe may stand before it.
    expect(err.split("\n").slice(-2)).toEqual([`wecolora: ${message()}`, ""]);
    expect(exit).toBe(2);
    expect(JSON.parse(out)).toEqual({ error: { code, message: message() } });
  });

  test("names in messages can't steer the terminal", async () => {
    const { err, out } = await wecolora("inspect", at("\x1b]0;owned\x07\u202ex\nwecolora: all is well"), "--json");
    expect(err).toMatch(/\\x1b\]0;owned\\x07\\u202ex\\nwecolora: all is well\.\n$/);
    expect(err.split("\n")).toHaveLength(2);
    expect(JSON.parse(out).error.message).toContain("\x1b]0;owned\x07");
    expect(out).not.toMatch(/(?!\n)[\p{Cc}\u202e]/u);
  });
});
