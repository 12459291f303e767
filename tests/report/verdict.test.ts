// A run in one sentence, what its table explains, what a search tried, and how a folder is loaded.
import { expect, test } from "vitest";
import { isBlank } from "../../src/commands/thumbnails.ts";
import { loadedModel } from "../../src/exports/weights-files.ts";
import { loadingCalls, loadingSnippets } from "../../src/report/loading.ts";
import type { ResultRow } from "../../src/report/results.ts";
import { resultTable, resultText } from "../../src/report/results.ts";
import { candidateName, searchTable, searchText } from "../../src/report/search.ts";
import { chosenVerdict, verdict } from "../../src/report/verdict.ts";

const row = (name: string, more: Partial<ResultRow>): ResultRow => ({ name, images: 300, ...more });
const accuracy = (top1: number) => ({ top1, top5: 1 });
const timed = (ms: number, spread = 1) => ({
  millisecondsPerImage: ms,
  millisecondsQuartiles: [ms - spread, ms + spread] as const,
});

const teacher = row("teacher", { parameters: 21.7e6, knn: accuracy(0.657), ...timed(66) });
const student = row("student", { parameters: 11.0e6, knn: accuracy(0.623), ...timed(35) });
const say = (results: ResultRow[], onTraining = false) => verdict({ results, comparisons: [], onTraining });

test("size, speed, what is kept, and on how many images", () => {
  expect(say([teacher, student])).toBe(
    "The student has 11.0 of the teacher's 21.7 M parameters, is 1.9 times as fast on this machine and keeps 95 % of the teacher's k-NN accuracy (300 images).",
  );
});

test("a ratio of times that overlap is called rough", () => {
  const noisy = row("student", { ...student, ...timed(35, 60) });
  expect(say([teacher, noisy])).toContain("is roughly 1.9 times as fast on this machine (the times overlap)");
});

test("few images bring the interval of the paired difference along, training images are named", () => {
  const few = [teacher, student].map((one) => ({ ...one, images: 40 }));
  const comparison = { metric: "knn", model: "student", than: "teacher", difference: -0.034 } as const;
  const sentence = verdict({
    results: few,
    comparisons: [{ ...comparison, interval: [-0.0657, 0.0657] }],
    onTraining: true,
  });
  // 0.0657 of 0.657 is a tenth.
  expect(sentence).toContain("(95 % confidence interval 90 to 110 %, 40 training images)");
  expect(say(few.map((one) => ({ ...one, images: 4 })))).toContain("(4 images: too few to judge by)");
});

test("without labels fidelity stands in, without a teacher the student's own figures, without rows nothing", () => {
  const fidelity = { meanAbsoluteDifference: 0.5, cosine: 0.774 };
  expect(say([row("student", { fidelity })])).toBe(
    "The student has a cosine similarity of 0.774 with the teacher's features (300 images).",
  );
  expect(say([row("student", { fidelity: { ...fidelity, agreement: 0.737 } })])).toContain(
    "agrees with the teacher on 74 % of images (300 images)",
  );
  expect(say([student])).toBe(
    "The student has 11.0 M parameters, takes 35.0 ms for an image on this machine and has a k-NN accuracy of 62 % (300 images).",
  );
  expect(say([])).toBeUndefined();
});

test("the export that a search chose", () => {
  const chosen = { format: "onnx-int8", bytes: 6.2e6, milliseconds: 12.34, cosine: 0.99, images: 100 };
  expect(chosenVerdict({ ...chosen, knn: 0.61 })).toBe(
    "The chosen export onnx-int8 is 6.2 MB, takes 12.3 ms for an image on this machine and has a k-NN accuracy of 61 % (100 images).",
  );
  expect(chosenVerdict(chosen)).toContain("a cosine similarity of 0.990 with the student's features");
});

test("only columns and marks that are there are explained", () => {
  const { legend } = resultTable([teacher, student]);
  expect(legend).toBe(
    "k-NN: a vote of the 10 most similar labelled images; k-NN top-5: the right class is among the first five; M params: millions of parameters; ms/image: milliseconds for one image on this machine, median; in brackets behind ms/image: first and third quartile.",
  );
  expect(resultText([row("model", { bytes: 1e6 })]).legend).toBe(
    "MB: file of weights as it is stored, without ONNX files.",
  );
});

test("a tenth of a megabyte is no lead, a megabyte of 22 is", () => {
  const sizes = (...megabytes: number[]) =>
    resultText(megabytes.map((mb, i) => row(["weight copy", "student"][i], { bytes: mb * 1e6 }))).rows.map(
      ([, mb]) => mb,
    );
  expect(sizes(22.0, 22.1)).toEqual(["22.0 ", "22.1 "]);
  expect(sizes(22.0, 20.9)).toEqual(["22.0 ", "20.9*"]);
});

test("what a search tried, with the chosen one", () => {
  const near = { agreement: 1, cosine: 1, isChosen: false };
  const one = { format: "onnx", blockShare: 1, mergedTokens: 0, bytes: 87e6, ...near };
  const far = { agreement: 0.75, cosine: 0.81234 };
  const other = { ...one, format: "onnx-q4", blockShare: 0.5, mergedTokens: 96, bytes: 8e6, ...far };
  const search = {
    asked: "a budget of 10MB",
    decides: "nearest" as const,
    measure: "agreement" as const,
    candidates: [{ ...other, isChosen: true }, one],
  };
  expect(searchText(search)).toContain("The search for a budget of 10MB built and measured 2 combinations");
  expect(searchText(search)).toContain("the highest cosine similarity");
  expect(searchText({ ...search, decides: "cheapest" })).toContain("the least megabytes times milliseconds");
  const { columns, rows } = searchTable(search);
  // Time was not asked for.
  expect(columns.map(({ title }) => title)).toEqual([
    "export",
    "block weights %",
    "tokens merged",
    "MB",
    "agreement %",
    "cosine",
    "",
  ]);
  expect(rows[0]).toEqual(["onnx-q4", "50", "96", "8.0", "75.0", "0.8123", "chosen"]);
  expect(candidateName(other)).toBe("onnx-q4, 50 % of the block weights, 96 tokens merged");
  const cosine = searchTable({ ...search, measure: "cosine", candidates: [{ ...one, milliseconds: 3 }] });
  expect(cosine.columns.map(({ title }) => title)).not.toContain("agreement %");
  expect(cosine.columns.map(({ title }) => title)).toContain("cosine");
  expect(cosine.rows[0]).toContain("3.0");
});

test("snippets follow the files: a dtype only where transformers.js would not find its own", () => {
  const facts = { task: "image-classification", inTransformers: true, needsTransformers5: true } as const;
  const file = (name: string) => ({ name, bytes: 1, readBy: "" });
  const student = loadedModel(facts, "runs/student", [
    file("model.safetensors"),
    file("onnx/model.onnx"),
    file("onnx/model_quantized.onnx"),
  ]);
  expect(loadingCalls(student)).toEqual({
    python: 'pipeline("image-classification", model="./runs/student")',
    javascript: 'await pipeline("image-classification", "./runs/student")',
  });
  expect(loadingSnippets(student).map(({ language }) => language)).toEqual(["python", "javascript"]);
  expect(loadingSnippets(student)[0].code).toContain("version 5 or later");
  const exported = loadedModel(facts, "/x/onnx-int8", [file("onnx/model_int8.onnx")]);
  expect(loadingCalls(exported).javascript).toBe(
    'await pipeline("image-classification", "/x/onnx-int8", { dtype: "int8" })',
  );
  expect(loadingSnippets(exported)[0]).toMatchObject({ title: "Python (ONNX Runtime)" });
  const loading = loadedModel({ ...facts, inTransformers: false }, "/x/s", [
    file("model.safetensors"),
    file("onnx/model.onnx"),
  ]);
  expect(loadingSnippets(loading).map(({ title }) => title)).toEqual([
    "Python (ONNX Runtime)",
    "JavaScript (wecolora)",
  ]);
});

test("an image of one colour is blank, one with a small figure in it is not", () => {
  const image = (other: number) => {
    const data = new Uint8Array(3 * 100 * 100).fill(255);
    data.fill(0, 0, 3 * other);
    return { width: 100, height: 100, data };
  };
  expect([0, 100, 300].map((other) => isBlank(image(other)))).toEqual([true, true, false]);
  const faint = { width: 2, height: 1, data: Uint8Array.from([250, 250, 250, 255, 255, 255]) };
  expect(isBlank(faint)).toBe(true);
});
