// Writes the leaderboard: a table of means over draws with 95 % intervals, and charts of k-NN against size and time.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";

/** Two-sided 97.5 % quantiles of Student's t by degrees of freedom. */
const studentT = [Number.NaN, 12.706, 4.303, 3.182, 2.776, 2.571];

/** Mean and half the length of its 95 % interval over draws; the latter is undefined for a single one. */
export function meanOf(values) {
  const given = values.filter((value) => value !== undefined && value !== null);
  if (given.length === 0) return undefined;
  const mean = given.reduce((sum, value) => sum + value, 0) / given.length;
  if (given.length === 1) return { mean };
  const variance = given.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (given.length - 1);
  return { mean, spread: studentT[given.length - 1] * Math.sqrt(variance / given.length) };
}

/** Figures of a table: their title, the number of a row, and digits. */
const columns = [
  { title: "k-NN", of: ({ knn }) => 100 * knn, digits: 1 },
  { title: "probe", of: ({ probe }) => 100 * probe, digits: 1 },
  { title: "classifier", of: ({ classifier }) => percent(classifier), digits: 1 },
  { title: "agreement", of: ({ agreement }) => percent(agreement), digits: 1 },
  { title: "agreement, unseen", of: ({ agreementUnseen }) => percent(agreementUnseen), digits: 1 },
  { title: "MB", of: ({ bytes }) => bytes / 1e6, digits: 1 },
  { title: "time", of: ({ time }) => time, digits: 2 },
  { title: "seconds to make", of: ({ seconds }) => seconds, digits: 0 },
];
const percent = (value) => (value === undefined ? undefined : 100 * value);

const cell = (found, digits) =>
  found === undefined
    ? "-"
    : `${found.mean.toFixed(digits)}${found.spread === undefined ? "" : ` ± ${found.spread.toFixed(digits)}`}`;

/** Finished rows by label and number of images, in the order of the list. */
function grouped(rows, finished) {
  return rows.flatMap(({ label, images, kind }) =>
    images.flatMap((count) => {
      const draws = finished.filter((row) => row.label === label && row.images === count);
      return draws.length > 0 ? [{ label, images: count, kind, draws }] : [];
    }),
  );
}

function table(groups) {
  const titles = ["model", "images", "draws", ...columns.map(({ title }) => title)];
  const lines = groups.map(({ label, images, draws }) => [
    label,
    images,
    draws.length,
    ...columns.map(({ of, digits }) => cell(meanOf(draws.map(of)), digits)),
  ]);
  const align = ["---", "---:", "---:", ...columns.map(() => "---:")];
  return [titles, align, ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n");
}

function sources(groups) {
  const lines = groups.map(({ label, images, draws }) => {
    const [{ command }] = draws;
    const dates = [...new Set(draws.map(({ date }) => date.slice(0, 10)))].join(", ");
    const commits = [...new Set(draws.map(({ commit }) => commit))].join(", ");
    return [label, images, command === "" ? "-" : `\`${command}\``, dates, commits];
  });
  const titles = ["model", "images", "command (first draw)", "date", "commit"];
  return [titles, ["---", "---:", "---", "---", "---"], ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n");
}

/** Dots of k-NN accuracy against a cost, one colour a kind, with their names. */
function chart(source, groups, { title, label, of }) {
  const points = groups.map(({ kind, draws, label: name, images }) => ({
    kind,
    name: `${name}, ${images} images`,
    cost: meanOf(draws.map(of)).mean,
    knn: meanOf(draws.map(({ knn }) => 100 * knn)).mean,
  }));
  const series = [...new Set(points.map(({ kind }) => kind))];
  const { document } = parseHTML("<html></html>");
  const [width, height] = [760, 420];
  const svg = source.svgOf(
    {
      width,
      height,
      marginLeft: 56,
      marginBottom: 42,
      x: { label: `${label} →`, grid: true, nice: true, zero: true },
      y: { label: "↑ k-NN accuracy, %", grid: true, nice: true },
      color: source.colourOf(series),
      marks: [
        Plot.dot(points, {
          x: "cost",
          y: "knn",
          fill: "kind",
          r: 5,
          title: ({ name, cost, knn }) => `${name}: ${knn.toFixed(1)} % at ${cost.toPrecision(3)}`,
        }),
      ],
    },
    title,
    document,
  );
  return source.standalone(svg, { title, legend: source.legendOf(series), width, height });
}

const charts = [
  {
    file: "leaderboard-size.svg",
    title: "k-NN accuracy and size",
    label: "MB of the loaded file",
    of: ({ bytes }) => bytes / 1e6,
  },
  {
    file: "leaderboard-time.svg",
    title: "k-NN accuracy and time",
    label: "time, teacher's float32 = 1",
    of: ({ time }) => time,
  },
];

/** Writes docs/leaderboard.md and its charts. */
export function writeLeaderboard(source, rows, finished, { folder, machine }) {
  const groups = grouped(rows, finished);
  mkdirSync(folder, { recursive: true });
  for (const drawn of charts) writeFileSync(join(folder, drawn.file), chart(source, groups, drawn));
  const text = `# Leaderboard

Models of the demo's teacher (DINOv2's ViT-S, 30 classes of clip art), made from few unlabelled images or from none. This page is
written by \`node bench/leaderboard.js\`; its rows stand in bench/leaderboard/rows.js.

- k-NN, probe and classifier: accuracy on 300 validation images, in %; one image is 0.3. k-NN and probe learn from 593 images.
- Agreement: share of answers equal to the teacher's, on these 300, and on all images that were not drawn (unseen).
- MB: the file that is loaded. Time: for one image, as a share of the teacher's float32 in the same run.
- Means over draws, with 95 % confidence intervals (Student's t) where there are several. ${machine}.

![k-NN accuracy against size](leaderboard-size.svg)

![k-NN accuracy against time](leaderboard-time.svg)

${table(groups)}

## Where each row comes from

${sources(groups)}
`;
  writeFileSync(join(folder, "leaderboard.md"), text);
}
