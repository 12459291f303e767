// The report as Markdown: the same numbers as the page's. Names and texts from outside are escaped by `markdown`.
import type { Markdown } from "../utils/escape.ts";
import { markdown, markdownCode, markdownFence } from "../utils/escape.ts";
import { findings } from "./findings.ts";
import { fileMegabytes, loadingSnippets } from "./loading.ts";
import { evaluatedOn, resultTable } from "./results.ts";
import type { RunReport } from "./run-report.ts";
import { blockLabel, countedRows, keptText, verdictsOf } from "./run-report.ts";
import { searchTable, searchText } from "./search.ts";
import { markdownTable } from "./table.ts";
import { durationText } from "../utils/duration.ts";

/** Lines of our own, and Markdown made of values. */
type MarkdownLine = string | Markdown;

/** The title, what came of the run, and what was done, a sentence each. */
function opening(report: RunReport): MarkdownLine[] {
  return [
    markdown`# ${report.name}`,
    "",
    ...verdictsOf(report).flatMap((sentence) => [markdown`**${sentence}**`, ""]),
    markdown`Method ${report.method} (${report.methodSummary}), teacher ${markdownCode(report.teacher)}, images ${markdownCode(report.data)} (${report.used.total} used), ${keptText(report)}.`,
    "",
  ];
}

function training({ notes, steps, evaluations, trainingSeconds }: RunReport): MarkdownLine[] {
  const [first, last] = [steps[0], steps.at(-1)];
  if (notes.length + steps.length + evaluations.length === 0) return [];
  return [
    `## ${steps.length > 0 ? "Training" : "How it was made"}`,
    "",
    ...notes.map((note) => markdown`- ${note}`),
    ...(first && last
      ? [
          `- training took ${durationText(trainingSeconds)}; loss ${first.loss.toFixed(4)} at first, ${last.loss.toFixed(4)} at last`,
        ]
      : []),
    ...evaluations.map(
      (e) =>
        `- held out at step ${e.step}: difference ${e.meanAbsoluteDifference.toFixed(3)}, cosine ${e.cosine.toFixed(3)}${e.knn === undefined ? "" : `, k-NN ${(100 * e.knn).toFixed(1)} %`}`,
    ),
    "",
  ];
}

function results(report: RunReport): MarkdownLine[] {
  if (report.results.length === 0) return [];
  const { columns, rows, legend } = resultTable(countedRows(report));
  const imageCount = report.evaluatedOnTrainingImages
    ? " No images were left to hold out: these figures are on training images."
    : "";
  return [
    `${evaluatedOn(countedRows(report))}${imageCount}`,
    "",
    markdownTable(columns, rows),
    "",
    legend,
    "",
    ...findings(report.comparisons).map((sentence) => markdown`- ${sentence}`),
    "",
  ];
}

function files({ files: written, exports, loading }: RunReport): MarkdownLine[] {
  const student = [
    "## Files of the student",
    "",
    markdownTable(
      [{ title: "file in student/", align: "left" }, { title: "MB" }, { title: "read by default by", align: "left" }],
      written.map((file) => [file.name, fileMegabytes(file), file.readBy]),
    ),
    "",
  ];
  return [
    ...(written.length > 0 ? student : []),
    ...(loading
      ? loadingSnippets(loading).flatMap(({ title, code, language }) => [
          `${title}:`,
          "",
          markdownFence(code, language),
          "",
        ])
      : []),
    ...(exports
      ? ["## Exports", "", exports.heading, "", markdownTable(exports.columns, exports.rows), "", exports.legend, ""]
      : []),
  ];
}

function searched({ search }: RunReport): MarkdownLine[] {
  if (!search) return [];
  const { columns, rows } = searchTable(search);
  return ["## Search", "", searchText(search), "", markdownTable(columns, rows), ""];
}

function failures({ classes, hardest }: RunReport): string[] {
  const models = [...new Set(classes.flatMap((c) => Object.keys(c.models)))];
  return [
    ...(classes.length > 0
      ? [
          "## Classes",
          "",
          "k-NN accuracy by class, the widest gap to the teacher first.",
          "",
          markdownTable(
            [
              { title: "class", align: "left" },
              { title: "images" },
              ...models.map((title) => ({ title: `${title} %` })),
            ],
            classes.map((c) => [
              c.name,
              String(c.images),
              ...models.map((m) => (m in c.models ? (100 * c.models[m]).toFixed(0) : "-")),
            ]),
          ),
          "",
        ]
      : []),
    ...(hardest.length > 0
      ? [
          "## Images furthest from the teacher",
          "",
          markdownTable(
            [{ title: "image", align: "left" }, { title: "difference" }, { title: "cosine" }],
            hardest.map((p) => [p.name, p.meanAbsoluteDifference.toFixed(3), p.cosine.toFixed(3)]),
          ),
          "",
        ]
      : []),
  ];
}

function layers({ similarity }: RunReport): string[] {
  if (!similarity) return [];
  const { cka, tokens, images, keptBlocks } = similarity;
  return [
    "## Layer similarity",
    "",
    `Centred kernel alignment of each student block (rows) with each teacher block, over ${tokens} tokens of ${images} images.`,
    "",
    markdownTable(
      [{ title: "student block", align: "left" }, ...cka[0].map((_, t) => ({ title: String(t) }))],
      cka.map((row, s) => [blockLabel(s, keptBlocks), ...row.map((value) => value.toFixed(2))]),
    ),
    "",
  ];
}

/** The report of a run as Markdown. */
export function markdownReport(report: RunReport): string {
  const lines = [
    ...opening(report),
    ...results(report),
    ...files(report),
    ...searched(report),
    ...training(report),
    ...failures(report),
    ...layers(report),
    ...report.missing.map((what) => markdown`- not here: ${what}`),
    "## Run it again",
    "",
    markdownFence(report.command),
    "",
    "The student is in `student/`, settings in `config.json`, the images used in `manifest.jsonl`, the predictions for each image in `predictions.jsonl`. `report.html` shows the same with charts and images.",
    "",
  ];
  return lines.join("\n");
}
