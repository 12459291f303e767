// Charts that are drawn without a page, beside the same charts in linkedom's document.
import { parseHTML } from "linkedom";
import { expect, test } from "vitest";
import { comparisonChart } from "../../../src/report/chart.ts";
import { resultCharts, searchCharts } from "../../../src/report/cost-charts.ts";
import {
  classChart,
  confusionMap,
  frontierChart,
  heatMap,
  lineChart,
  runMap,
  smallHeatMap,
} from "../../../src/report/figures.ts";
import { chartDocument } from "../../../src/platform/web/svg-document.ts";

const strange = `<b>"bold" & 'more'`;
const map = [
  [0.9, 0.2, 0.1],
  [0.3, 0.8, 0.4],
];
const steps = (n: number) =>
  Array.from({ length: n }, (_, step) => ({ step, value: 1 / (1 + step), title: `${step}` }));
const row = (name: string, cosine: number, ms: number, bytes: number) => ({
  name,
  fidelity: { cosine, meanAbsoluteDifference: 1 - cosine },
  millisecondsPerImage: ms,
  bytes,
});
const candidate = (format: string, agreement: number, isChosen: boolean) => ({
  format,
  blockShare: 0.5,
  mergedTokens: 0,
  bytes: 1e7 * agreement,
  milliseconds: 20 * agreement,
  agreement,
  cosine: agreement,
  isChosen,
});

const charts: Readonly<Record<string, (document: Document) => string>> = {
  "a line of few points": (document) => lineChart([{ series: "student", points: steps(5) }], "loss", "loss", document),
  "lines of many points": (document) =>
    lineChart(
      [
        { series: strange, points: steps(80) },
        { series: "other", points: steps(90) },
      ],
      strange,
      "loss",
      document,
    ),
  classes: (document) =>
    classChart(
      [strange, "日本 – кот", "a name that is far longer than there is room for"].map((name, i) => ({
        name,
        images: 4,
        models: { teacher: 0.5 + 0.1 * i, "weight copy": 0.25, student: 0.5 },
      })),
      document,
    ),
  "a small map": (document) => smallHeatMap(map, [0, 2], "similarity", document),
  "a map": (document) => heatMap(map, [0, 1], "similarity", document).svg,
  confusions: (document) =>
    confusionMap(
      [
        [3, 1],
        [0, 4],
      ],
      [strange, "cat"],
      "confusions",
      document,
    ).svg,
  "runs of blocks": (document) =>
    runMap(
      [
        [0, 0.5],
        [NaN, 0.1],
      ],
      "runs",
      document,
    ).svg,
  frontier: (document) =>
    frontierChart(
      [1, 2, 3].map((i) => ({ series: "int8", label: `${i}`, megabytes: i, milliseconds: 2 * i, loss: 1 / i })),
      document,
    ),
  comparison: (document) =>
    comparisonChart(
      {
        title: "k-NN",
        unit: "%",
        labels: ["a", strange],
        marks: [
          { label: "a", series: "student", value: 50, spread: 3 },
          { label: strange, series: "teacher", value: 60 },
        ],
        reference: { label: "teacher", value: 65 },
      },
      document,
    ),
  results: (document) => resultCharts([row("teacher", 1, 20, 8e7), row("student", 0.8, 11, 4e7)], document).join(""),
  search: (document) =>
    searchCharts(
      {
        asked: "12MB",
        decides: "nearest" as const,
        measure: "agreement",
        candidates: [candidate("int8", 0.8, false), candidate("q4", 0.9, true)],
      },
      document,
    ).join(""),
};

/** Neighbouring texts as one: parsers cut them where a character is escaped. */
const joined = (nodes: readonly unknown[]) =>
  nodes.reduce<unknown[]>((all, node) => {
    const last = all.at(-1);
    if (typeof node === "string" && typeof last === "string") return [...all.slice(0, -1), last + node];
    return [...all, node];
  }, []);

/** Text, elements and attributes of an SVG, whichever way its empty elements and its characters are written. */
function content(svg: string): unknown {
  const { document } = parseHTML(`<html><body>${svg}</body></html>`);
  const walk = (node: Node): unknown => {
    const { attributes, childNodes } = node as Element;
    if (attributes === undefined) return node.textContent;
    return {
      name: node.nodeName,
      attributes: Object.fromEntries([...attributes].map(({ name, value }) => [name, value])),
      children: joined([...childNodes].map(walk)),
    };
  };
  return joined([...document.body.childNodes].map(walk));
}

test.each(Object.entries(charts))("%s", (_, draw) => {
  const ours = draw(chartDocument());
  const theirs = draw(parseHTML("<html></html>").document);
  expect(ours.length).toBeGreaterThan(500);
  expect(content(ours)).toEqual(content(theirs));
});

test("a selector that charts don't need is named, not passed over", () => {
  const svg = chartDocument().documentElement;
  expect(() => svg.querySelectorAll("g > path.domain")).toThrow("no selector");
});
