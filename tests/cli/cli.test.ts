// The built command line, as a user runs it: whole runs on a tiny teacher, and mistakes.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel } from "wecolora/node";
import type { Outcome } from "../support/cli.ts";
import { distillArguments, noiseImage, wecolora } from "../support/cli.ts";
import { expectClose, readTensors, referencePath } from "../support/reference.ts";

const teacher = referencePath("teachers/timm-vit");
let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);

function lastJson({ out }: Outcome) {
  return JSON.parse(out.trimEnd().split("\n").at(-1) as string);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-cli-"));
  for (let i = 0; i < 24; i++) {
    await noiseImage(at("flat", `p${String(i).padStart(2, "0")}.jpg`), i, i % 3);
    const name = ["red", "green", "blue & <b>"][i % 3];
    await noiseImage(at("classes", i < 15 ? "train" : "val", name, `p${i}.jpg`), i, i % 3);
  }
  await mkdir(at("empty"));
});
afterAll(() => rm(folder, { recursive: true }));

const small = ["--recipe", "paper", "--rank", "2", "--epochs", "2", "--warmup-epochs", "0.5", "--effective-batch", "6"];

describe("distill", () => {
  test("writes a run folder with a student that loads, from class folders", async () => {
    const out = at("run");
    const outcome = await wecolora(...distillArguments(teacher, at("classes"), out), ...small, "--json");
    expect(outcome).toMatchObject({ code: 0 });
    const result = lastJson(outcome);
    expect(result).toMatchObject({
      report: join(out, "report.html"),
      images: 15,
      steps: 4,
      keptBlocks: [0, 2, 4],
      skipped: 0,
      evaluatedOnTrainingImages: false,
    });
    expect(result.results.map((r: { name: string }) => r.name)).toEqual(["teacher", "weight copy", "student"]);
    const [first, copy, student] = result.results;
    expect(first.fidelity).toEqual({ meanAbsoluteDifference: 0, cosine: expect.closeTo(1, 6), agreement: 1 });
    expect(student.fidelity.meanAbsoluteDifference).toBeLessThan(copy.fidelity.meanAbsoluteDifference * 1.05);
    expect(student.parameters).toBe(copy.parameters);
    for (const row of result.results) expect(row).toMatchObject({ knn: { top5: 1 }, probe: { top5: 1 } });

    expect(readdirSync(out).sort()).toEqual([
      ".wecolora.jsonl",
      "checkpoints",
      "config.json",
      "log.jsonl",
      "manifest.jsonl",
      "predictions.jsonl",
      "report.html",
      "report.md",
      "result.json",
      "student",
      "tensorboard",
    ]);
    const log = (await readFile(join(out, "log.jsonl"), "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(log.filter(({ kind }) => kind === "step").map(({ step }) => step)).toEqual([1, 2, 3, 4]);
    expect(log.at(-1)).toMatchObject({ kind: "result", name: "student" });
    const manifest = (await readFile(join(out, "manifest.jsonl"), "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    // What is trained on, which neighbours are searched in too, and what is evaluated on.
    expect(manifest.filter(({ uses }) => uses.includes("train"))).toHaveLength(15);
    expect(manifest.filter(({ uses }) => uses.includes("bank"))).toHaveLength(15);
    expect(manifest.filter(({ uses }) => uses.includes("evaluation"))).toHaveLength(9);
    expect(manifest).toHaveLength(24);
    expect(manifest[0]).toMatchObject({
      name: expect.stringMatching(/^train\//),
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      width: 40,
    });
    expect(JSON.parse(await readFile(join(out, "config.json"), "utf8"))).toMatchObject({
      options: { rank: 2, seed: 0 },
      keptBlocks: [0, 2, 4],
    });
    expect(await readFile(join(out, "report.md"), "utf8")).toContain("| weight copy |");
    const model = await loadModel(join(out, "student"));
    expect(model.config.depth).toBe(3);
    await model.dispose();

    const again = await wecolora(...distillArguments(teacher, at("classes"), out), ...small);
    expect(again.code).toBe(2);
    expect(again.err).toContain(`${out} already holds a run`);
  });

  test("--overwrite leaves nothing of the earlier run, and what others put there", async () => {
    const args = [...distillArguments(teacher, at("flat"), at("twice")), ...small, "--no-evaluate"];
    expect(await wecolora(...args)).toMatchObject({ code: 0 });
    await writeFile(at("twice", "student", "mine.txt"), "");
    const longer = ["--export", "timm", "--seed", "3"];
    expect(await wecolora(...args, "--overwrite", ...longer)).toMatchObject({ code: 0 });
    expect(readdirSync(at("twice", "exports"))).toEqual(["timm"]);
    expect(await wecolora(...args, "--overwrite")).toMatchObject({ code: 0 });
    expect(existsSync(at("twice", "exports"))).toBe(false);
    expect(readdirSync(at("twice", "student")).sort()).toEqual([
      "README.md",
      "config.json",
      "mine.txt",
      "model.safetensors",
      "onnx",
      "preprocessor_config.json",
    ]);
  });

  test("the same seed gives the same bits", async () => {
    const run = (name: string, seed: string) =>
      wecolora(...distillArguments(teacher, at("flat"), at(name)), ...small, "--no-evaluate", "--seed", seed);
    for (const [name, seed] of [
      ["a", "5"],
      ["b", "5"],
      ["c", "6"],
    ])
      expect(await run(name, seed)).toMatchObject({ code: 0 });
    const bytes = (name: string) => readFileSync(at(name, "student/model.safetensors"));
    expect(bytes("a").equals(bytes("b"))).toBe(true);
    expect(bytes("a").equals(bytes("c"))).toBe(false);
  });

  test("takes options from a file, and the command line wins", async () => {
    const file = at("options.yaml");
    await writeFile(
      file,
      `teacher: ${teacher}\ndata: ${at("flat")}\nout: ${at("from-file")}\nrank: 3\nepochs: 1\nkeptBlocks: [0, 5]\njudge: false\n`,
    );
    const outcome = await wecolora("distill", "--config", file, "--rank", "2", "--json");
    expect(outcome).toMatchObject({ code: 0 });
    expect(lastJson(outcome).keptBlocks).toEqual([0, 5]);
    expect(JSON.parse(readFileSync(at("from-file/config.json"), "utf8")).options.rank).toBe(2);
    await writeFile(file, "teacher: x\nrnak: 3\n");
    const wrong = await wecolora("distill", "--config", file, "--data", at("flat"), "--out", at("never"));
    expect(wrong.code).toBe(2);
    expect(wrong.err).toContain(`There is no option rnak in ${file}. Did you mean rank?`);
    expect(existsSync(at("never"))).toBe(false);
  });

  test("options that are more than a word", async () => {
    const more = ["--rank", "q=2,fc1=4", "--target-modules", "q,fc1", "--loss", "l1,cosine"];
    const optimizer = ["--optimizer", "kind=adamw,clipNorm=1,layerDecay=0.9"];
    const args = [...distillArguments(teacher, at("flat"), at("words")), ...more, ...optimizer];
    expect(await wecolora(...args, "--epochs", "1", "--no-evaluate")).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(at("words/config.json"), "utf8")).options).toMatchObject({
      rank: { q: 2, fc1: 4 },
      loss: [{ kind: "l1" }, { kind: "cosine" }],
      optimizer: { kind: "adamw", clipNorm: 1, layerDecay: 0.9, weightDecay: 0.05 },
    });
  });

  test("fewer images than a batch: a smaller batch, and it says so", async () => {
    await mkdir(at("three"));
    for (const name of ["p00.jpg", "p01.jpg", "p02.jpg"]) await copyFile(at("flat", name), at("three", name));
    const outcome = await wecolora(
      ...distillArguments(teacher, at("three"), at("run3")),
      "--rank",
      "2",
      "--epochs",
      "3",
      "--json",
    );
    expect(outcome).toMatchObject({ code: 0 });
    expect(outcome.err).toContain("fewer images (3) than one batch of 8; the batch is 3");
    expect(lastJson(outcome)).toMatchObject({ images: 3, steps: 3, evaluatedOnTrainingImages: true });
    expect(readFileSync(at("run3/report.md"), "utf8")).toContain("these figures are on training images");
  });

  test("a broken and a text file are named, skipped and counted, or an error", async () => {
    await mkdir(at("mixed"));
    for (let i = 0; i < 6; i++) await copyFile(at("flat", `p0${i}.jpg`), at("mixed", `p0${i}.jpg`));
    await writeFile(at("mixed", "notes.txt"), "hello");
    await writeFile(at("mixed", "broken.jpg"), "this is no picture");
    await copyFile(at("flat", "p07.jpg"), at("mixed", "cut.jpg"));
    await truncate(at("mixed", "cut.jpg"), 500);
    const args = [
      "distill",
      "--teacher",
      teacher,
      "--data",
      at("mixed"),
      "--rank",
      "2",
      "--epochs",
      "1",
      "--held-out",
      "0",
    ];
    const outcome = await wecolora(...args, "--out", at("run-mixed"), "--json");
    expect(outcome).toMatchObject({ code: 0 });
    expect(lastJson(outcome)).toMatchObject({ images: 6, skipped: 3 });
    for (const name of ["notes.txt", "broken.jpg", "cut.jpg"]) expect(outcome.err).toContain(name);
    const strict = await wecolora(...args, "--out", at("run-strict"), "--strict");
    expect(strict.code).toBe(2);
    expect(existsSync(at("run-strict"))).toBe(false);
  });

  test("a loss that is not finite stops the run with a clear message", async () => {
    const args = [
      "--recipe",
      "paper",
      "--base-learning-rate",
      "1e30",
      "--warmup-epochs",
      "0",
      "--epochs",
      "5",
      "--rank",
      "2",
      "--no-evaluate",
    ];
    const outcome = await wecolora(...distillArguments(teacher, at("flat"), at("run-nan")), ...args);
    expect(outcome.code).toBe(1);
    expect(outcome.err).toMatch(/The loss is (NaN|Infinity) at step \d+, so training stops. A lower learning rate/);
    expect(outcome.err).not.toContain("    at ");
  });
});

test("evaluate judges a model beside its teacher", async () => {
  const outcome = await wecolora(
    "evaluate",
    "--model",
    teacher,
    "--teacher",
    teacher,
    "--data",
    at("classes"),
    "--json",
  );
  expect(outcome).toMatchObject({ code: 0 });
  const { results, queries, bank } = lastJson(outcome);
  expect([queries, bank, results.length]).toEqual([9, 15, 2]);
  expect(results[1].fidelity.cosine).toBeCloseTo(1, 6);
  const flat = await wecolora("evaluate", "--model", teacher, "--data", at("flat"));
  expect(flat.code).toBe(0);
  expect(flat.out).toContain("ms/image");
});

test("features writes one row an image, names in order", async () => {
  await writeFile(at("flat", "p99.jpg"), "broken");
  const outcome = await wecolora(
    "features",
    "--model",
    teacher,
    "--data",
    at("flat"),
    "--out",
    at("f.safetensors"),
    "--batch",
    "7",
    "--json",
  );
  await rm(at("flat", "p99.jpg"));
  expect(outcome).toMatchObject({ code: 0 });
  expect(lastJson(outcome)).toMatchObject({ images: 24, width: 32, skipped: 1 });
  expect(outcome.err).toContain("p99.jpg");
  const bytes = readFileSync(at("f.safetensors"));
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
  const names = JSON.parse(header.__metadata__.names);
  expect(names).toEqual(Array.from({ length: 24 }, (_, i) => `p${String(i).padStart(2, "0")}.jpg`));
  // Batches must not change a row.
  await wecolora("features", "--model", teacher, "--data", at("flat"), "--out", at("g.safetensors"), "--batch", "24");
  const [f, g] = [await readTensors(at("f.safetensors")), await readTensors(at("g.safetensors"))];
  expectClose(f.get("features"), g.get("features"), 1e-5, "features");
});

test("inspect tells what a model is", async () => {
  const { code, out } = await wecolora("inspect", teacher);
  expect(code).toBe(0);
  expect(out).toContain("6, width 32, 4 heads");
  expect(lastJson(await wecolora("inspect", join(teacher, "model.safetensors"), "--json"))).toMatchObject({
    depth: 6,
    layout: "timm",
  });
});

test("inspect --data tells how much blocks matter, and which to keep", async () => {
  const out = at("blocks");
  const args = ["inspect", teacher, "--data", at("classes"), "--search", "--longest", "6", "--out", out];
  const outcome = await wecolora(...args, "--json");
  expect(outcome).toMatchObject({ code: 0 });
  const { blocks } = lastJson(outcome);
  expect(blocks.images).toBe(24);
  expect(blocks.residuals).toHaveLength(6);
  expect(blocks.residuals[2].slice(0, 3)).toEqual([null, null, 0]);
  expect(blocks.residuals[2][5]).toBeGreaterThan(blocks.residuals[2][3]);
  expect(blocks.choices.map(({ kept }: { kept: number[] }) => kept.length)).toEqual([1, 2, 3, 4, 5]);
  expect(readdirSync(out).sort()).toEqual([".wecolora.jsonl", "blocks.csv", "blocks.png", "blocks.svg"]);
  const alone = await wecolora("inspect", teacher, "--search");
  expect(alone).toMatchObject({ code: 2 });
  expect(alone.err).toContain("needs images: add --data <folder>");
});

test("a budget says how many blocks, a search which", async () => {
  const run = (out: string, ...more: string[]) =>
    wecolora(...distillArguments(teacher, at("flat"), at(out)), "--no-evaluate", "--json", ...more);
  const half = await run("half", "--budget", "0.7x", "--keep", "auto", "--shape", "blocks");
  expect(half).toMatchObject({ code: 0 });
  const { keptBlocks, method } = lastJson(half);
  expect(method).toBe("refit");
  expect(half.err).toContain("4 of 6 blocks fit the budget of 0.7x");
  expect(keptBlocks).toHaveLength(4);
  // Of shapes too, where these are not fixed: the one that is taken is said to be nearest, and costs no more.
  const shaped = await run("shaped", "--budget", "0.7x", "--keep", "auto");
  const [, blocks, near, next] =
    /nearest are (\d) blocks.*?\(([\d.]+) from the teacher\), then .*?\(([\d.]+) /.exec(shaped.err) ?? [];
  expect(Number(near)).toBeLessThanOrEqual(Number(next));
  expect(lastJson(shaped).keptBlocks).toHaveLength(Number(blocks));
  const bytes = (name: string) => statSync(at(name, "student", "model.safetensors")).size;
  expect(bytes("shaped") / bytes("half")).toBeLessThan(1.02);
  const weights = await run("weights", "--budget", "0.13MB", "--levers", "shape");
  // Four blocks with fewer heads and channels instead of two whole ones, in as many bytes.
  expect(lastJson(weights).keptBlocks).toEqual([0, 2, 3, 5]);
  expect(statSync(at("weights", "student", "model.safetensors")).size).toBeLessThan(0.13e6 + 8000);
  expect(
    lastJson(await run("whole", "--budget", "0.13MB", "--levers", "shape", "--shape", "blocks")).keptBlocks,
  ).toEqual([0, 3]);
  expect((await run("time", "--budget", "1000ms", "--levers", "shape")).err).toContain("6 of 6 blocks fit");
  // With all levers it is the file that fits.
  const file = await run("file", "--budget", "0.25MB");
  const { deployment } = lastJson(file);
  const [written] = readdirSync(at("file", "exports"));
  expect(written).toBe(deployment.export);
  const folder = at("file", "exports", written, "onnx");
  const size = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  expect(size).toBeLessThanOrEqual(0.25e6);
  expect(size).toBe(deployment.bytes);
  for (const [wrong, message] of [
    [["--budget", "small"], "25MB"],
    [["--budget", "1kB"], "25MB"],
    [["--budget", "0.01x"], "No student fits the budget"],
    [["--budget", "0.5x", "--reduction-factor", "2"], "not several"],
    [["--keep", "auto", "--kept-blocks", "0,1"], "not both"],
  ] as const) {
    const outcome = await run("never", ...wrong);
    expect(outcome).toMatchObject({ code: 2 });
    expect(outcome.err).toContain(message);
  }
});

describe("mistakes get one clear message and exit code 2", () => {
  const data = () => at("flat");
  const distill = (...args: string[]) => ["distill", "--out", at("nothing"), ...args];

  async function expectMistake(args: string[], ...messages: string[]): Promise<void> {
    const { code, out, err } = await wecolora(...args);
    expect(err).toMatch(/^wecolora: |\nwecolora: /);
    for (const message of messages) expect(err).toContain(message);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).not.toContain("    at ");
    expect(existsSync(at("nothing"))).toBe(false);
  }

  async function brokenTeacher(name: string, change: (path: string) => Promise<void>): Promise<string> {
    const path = at(name);
    await mkdir(path);
    for (const file of ["config.json", "model.safetensors"]) await copyFile(join(teacher, file), join(path, file));
    await change(path);
    return path;
  }

  test("no such teacher", () =>
    expectMistake(distill("--teacher", at("no"), "--data", data()), `There is no file or folder ${at("no")}`));
  test("no such pictures", () =>
    expectMistake(distill("--teacher", teacher, "--data", at("no")), `There is no file or folder ${at("no")}`));
  test("an empty folder", () =>
    expectMistake(distill("--teacher", teacher, "--data", at("empty")), `There are no images in ${at("empty")}`));
  test("a file for a folder", () =>
    expectMistake(
      distill("--teacher", teacher, "--data", at("flat/p00.jpg")),
      "is a file; a folder of images is needed",
    ));
  test("an option left out", () => expectMistake(["distill", "--data", data()], "distill needs <teacher>"));
  test("an unknown option", () => expectMistake(distill("--techer", "x"), "--techer", "--teacher"));
  test("an unknown command", () => expectMistake(["distil"], "distill"));
  test("a number that is none", () =>
    expectMistake(
      distill("--teacher", teacher, "--data", data(), "--rank", "many"),
      "--rank must be a whole number of at least 1, or values by name",
    ));
  test("an unknown target module", () =>
    expectMistake(
      distill("--teacher", teacher, "--data", data(), "--target-modules", "q,w"),
      'Item 2 of --target-modules must be one of q, k, v, proj, fc1, fc2, got "w".',
    ));
  test("a factor beyond the depth", () =>
    expectMistake(
      distill("--teacher", teacher, "--data", data(), "--reduction-factor", "7"),
      "--reduction-factor must be between 1 and 6 (the teacher has 6 blocks), got 7.",
    ));
  test("a block beyond the depth", () =>
    expectMistake(
      distill("--teacher", teacher, "--data", data(), "--kept-blocks", "0,9"),
      "--kept-blocks must be between 0 and 5 (the teacher has 6 blocks), got 9.",
    ));
  test("too few images of each class to hold any out", async () => {
    await mkdir(at("scarce"));
    for (const name of ["a", "b"]) {
      await mkdir(at("scarce", name));
      await copyFile(at("flat", "p00.jpg"), at("scarce", name, "p.jpg"));
    }
    await expectMistake(["evaluate", "--model", teacher, "--data", at("scarce")], "too few images to hold any out");
  });

  test("both ways of few-shot", () =>
    expectMistake(
      distill("--teacher", teacher, "--data", data(), "--few-shot-ratio", "0.5", "--few-shot-count", "2"),
      "not both",
    ));
  test("a configuration file that is missing", () =>
    expectMistake(["distill", "--config", at("no.yaml")], "There is no configuration file"));

  test("truncated safetensors", async () => {
    const path = await brokenTeacher("truncated", (p) => truncate(join(p, "model.safetensors"), 100_000));
    await expectMistake(distill("--teacher", path, "--data", data()), "model.safetensors", "is it cut off?");
  });

  test("a header that lies about sizes", async () => {
    const path = await brokenTeacher("lying", async (p) => {
      const file = join(p, "model.safetensors");
      const bytes = await readFile(file);
      const text = bytes.toString("latin1").replace('"shape":[32,128]', '"shape":[99,128]');
      await writeFile(file, Buffer.from(text, "latin1"));
    });
    await expectMistake(["inspect", path], "model.safetensors", "but its offsets say");
  });

  test("a model that is no vision transformer", async () => {
    const path = await brokenTeacher("bert", (p) => writeFile(join(p, "config.json"), '{"model_type": "bert"}'));
    await expectMistake(["inspect", path], "config.json", '"bert"', "not a vision transformer");
  });

  test("a configuration that does not fit its weights", async () => {
    const path = await brokenTeacher("misfit", async (p) => {
      const config = JSON.parse(await readFile(join(p, "config.json"), "utf8"));
      config.model_args.depth = 7;
      await writeFile(join(p, "config.json"), JSON.stringify(config));
    });
    await expectMistake(["inspect", path], "read as timm", "missing: blocks.6.norm1.weight [32]");
  });

  test("JSON that is none", async () => {
    const path = await brokenTeacher("nojson", (p) => writeFile(join(p, "config.json"), "{"));
    await expectMistake(["inspect", path], "config.json is not valid JSON");
  });

  test("--verbose shows where", async () => {
    const { code, err } = await wecolora("inspect", at("no"), "--verbose");
    expect(code).toBe(2);
    expect(err).toContain("    at ");
  });
});

test("--help shows each option with its default", async () => {
  const { code, out } = await wecolora("distill", "--help");
  expect(code).toBe(0);
  for (const text of [
    "--rank <n>",
    "(default: 128)",
    "--base-learning-rate <number>",
    "(default: 0.001)",
    "--epochs",
    "(default: 10)",
  ]) {
    expect(out).toContain(text);
  }
});
