// The report as Markdown: the same numbers as the page's. Names and texts from outside are escaped by `markdown`.
import type { Markdown } from "../utils/escape.ts";
import { markdown, markdownCode, markdownFence } from "../utils/escape.ts";
import { findings } from "./findings.ts";
import { resultLegend, resultMarks, resultTable } from "./results.ts";
import type { RunReport } from "./run-report.ts";
import { blockLabel, keptText } from "./run-report.ts";
import { markdownTable } from "./table.ts";

/** Lines of our own, and Markdown made of values. */
type MarkdownLine = string | Markdown;

/** The title, and what was done in one sentence. */
function opening(report: RunReport): MarkdownLine[] {
  return [
    markdown`# ${report.name}`,
    "",
    markdown`Method ${report.method} (${report.methodSummary}), teacher ${markdownCode(report.teacher)}, pictures ${markdownCode(report.data)} (${report.used.total} used), ${keptText(report)}.`,
    "",
  ];
}

function training({ notes, steps, looks, trainingSeconds }: RunReport): MarkdownLine[] {
  const [first, last] = [steps[0], steps.at(-1)];
  return [
    ...notes.map((note) => markdown`- ${note}`),
    ...(first && last
      ? [
          `- training took ${trainingSeconds.toFixed(1)} s; loss ${first.loss.toFixed(4)} at first, ${last.loss.toFixed(4)} at last`,
        ]
      : []),
    ...looks.map(
      (e) =>
        `- held out at step ${e.step}: difference ${e.difference.toFixed(3)}, cosine ${e.cosine.toFixed(3)}${e.neighbours === undefined ? "" : `, neighbours ${(100 * e.neighbours).toFixed(1)} %`}`,
    ),
    "",
  ];
}

function results(report: RunReport): MarkdownLine[] {
  if (report.results.length === 0) return [];
  const { columns, rows } = resultTable(report.results);
  const judged = report.judgedOnTrainingPictures
    ? " No pictures were left to hold out: these figures are of training pictures."
    : "";
  return [
    markdownTable(columns, rows),
    "",
    `${resultLegend}; ${resultMarks}. Judged on ${report.judgedPictures} pictures.${judged}`,
    "",
    ...findings(report.comparisons).map((sentence) => markdown`- ${sentence}`),
    "",
  ];
}

function failures({ classes, hardest }: RunReport): string[] {
  const models = [...new Set(classes.flatMap((c) => Object.keys(c.models)))];
  return [
    ...(classes.length > 0
      ? [
          "## Classes",
          "",
          "Share of each class's pictures that nearest neighbours get right, the widest gap to the teacher first.",
          "",
          markdownTable(
            [
              { title: "class", align: "left" },
              { title: "pictures" },
              ...models.map((title) => ({ title: `${title} %` })),
            ],
            classes.map((c) => [
              c.name,
              String(c.pictures),
              ...models.map((m) => (m in c.models ? (100 * c.models[m]).toFixed(0) : "-")),
            ]),
          ),
          "",
        ]
      : []),
    ...(hardest.length > 0
      ? [
          "## Pictures furthest from the teacher",
          "",
          markdownTable(
            [{ title: "picture", align: "left" }, { title: "difference" }, { title: "cosine" }],
            hardest.map((p) => [p.name, p.difference.toFixed(3), p.cosine.toFixed(3)]),
          ),
          "",
        ]
      : []),
  ];
}

function layers({ similarity }: RunReport): string[] {
  if (!similarity) return [];
  const { cka, tokens, pictures, keptBlocks } = similarity;
  return [
    "## Similarity of layers",
    "",
    `Centred kernel alignment of each student block (rows) with each teacher block, over ${tokens} tokens of ${pictures} pictures.`,
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
    ...training(report),
    ...failures(report),
    ...layers(report),
    ...report.missing.map((what) => markdown`- not here: ${what}`),
    "## Again",
    "",
    markdownFence(report.command),
    "",
    "The student's directory is `student/`; settings are in `config.json`, the pictures used in `manifest.jsonl`, what became of each picture in `judged.jsonl`, and `report.html` has all this with pictures.",
    "",
  ];
  return lines.join("\n");
}
