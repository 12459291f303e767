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

/** A figure of a group of draws. A record may be the mean of several (`draws`, with half the lengths of intervals as `spread`). */
function figureOf(draws, { of }) {
  const [first] = draws;
  if (first.draws === undefined || of(first) === undefined) return meanOf(draws.map(of));
  const spread = of(first.spread);
  return { mean: of(first), ...(Number.isFinite(spread) ? { spread } : {}) };
}

const drawsIn = (draws) => draws.reduce((sum, { draws: several = 1 }) => sum + several, 0);

/** Figures of a table: their title, the number of a row, and digits. */
const columns = [
  { title: "k-NN", of: ({ knn }) => 100 * knn, digits: 1 },
  { title: "probe", of: ({ probe }) => 100 * probe, digits: 1 },
  { title: "classifier", of: ({ classifier }) => percent(classifier), digits: 1 },
  { title: "agreement", of: ({ agreement }) => percent(agreement), digits: 1 },
  { title: "agreement, unseen", of: ({ agreementUnseen }) => percent(agreementUnseen), digits: 1 },
  { title: "MB", of: ({ bytes }) => bytes / 1e6, digits: 1 },
  { title: "time", of: ({ time, timed }) => (timed === undefined ? undefined : time), digits: 2 },
  { title: "seconds to make", of: ({ seconds }) => seconds, digits: 0 },
];
const percent = (value) => (value === undefined ? undefined : 100 * value);

const cell = (figure, digits) =>
  figure === undefined
    ? "-"
    : `${figure.mean.toFixed(digits)}${figure.spread === undefined ? "" : ` ± ${figure.spread.toFixed(digits)}`}`;

/** Finished rows by label and number of images, in the order of the list; single draws, where there are some, in place of a mean. */
function grouped(rows, finished) {
  return rows.flatMap(({ label, images, kind, short, namedBy }) =>
    images.flatMap((count) => {
      const all = finished.filter((row) => row.label === label && row.images === count);
      const single = all.filter((row) => row.draws === undefined);
      const draws = single.length >= drawsIn(all.filter((row) => row.draws !== undefined)) ? single : all.slice(0, 1);
      return draws.length > 0 ? [{ label, images: count, kind, short, namedBy, draws }] : [];
    }),
  );
}

function table(groups) {
  const titles = ["model", "images", "draws", ...columns.map(({ title }) => title)];
  const lines = groups.map(({ label, images, draws }) => [
    draws[0].chosen === undefined ? label : `${label}: ${draws[0].chosen}`,
    images,
    drawsIn(draws),
    ...columns.map((column) => cell(figureOf(draws, column), column.digits)),
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

/** What the chart shows: all rows from no image or 90. */
const shownImages = [0, 90];
const [panelWidth, panelHeight] = [500, 400];

/** Means of a group: a dot, with a name where its row has a short one. */
const pointOf = ({ kind, draws, label, images, short, namedBy }) => ({
  kind,
  name: `${label}, ${images} images`,
  short,
  namedBy,
  megabytes: meanOf(draws.map(({ bytes }) => bytes / 1e6)).mean,
  time: meanOf(draws.map(({ time, timed }) => (timed === undefined ? undefined : time)))?.mean,
  knn: meanOf(draws.map(({ knn }) => 100 * knn)).mean,
});

/** Where a label may stand from its dot: pixels to the right and down, and what of it is at that place. */
const places = [
  { dx: 9, dy: 0, anchor: "start" },
  { dx: -9, dy: 0, anchor: "end" },
  { dx: 0, dy: -13, anchor: "middle" },
  { dx: 0, dy: 14, anchor: "middle" },
  { dx: 8, dy: -12, anchor: "start" },
  { dx: 8, dy: 13, anchor: "start" },
  { dx: -8, dy: -12, anchor: "end" },
  { dx: -8, dy: 13, anchor: "end" },
  { dx: 8, dy: -24, anchor: "start" },
  { dx: 8, dy: 25, anchor: "start" },
];
const [labelSize, labelHeight, letterWidth, dotRadius] = [12, 13, 6.4, 4.5];

/** A mark for each name, at the first place where it covers no dot and no other name; the place that covers least else. */
function nameMarks(points, named, cost) {
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [[, widest], [low, high]] = [range(points.map((p) => p[cost])), range(points.map((p) => p.knn))];
  const pixel = (p) => [((panelWidth - 112) * p[cost]) / widest, ((panelHeight - 70) * (high - p.knn)) / (high - low)];
  const boxes = points.map((p) => {
    const [x, y] = pixel(p);
    return [x - dotRadius, y - dotRadius, x + dotRadius, y + dotRadius];
  });
  const covers = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return named.map((p) => {
    const [x, y] = pixel(p);
    const width = letterWidth * p.short.length;
    const boxAt = ({ dx, dy, anchor }) => {
      const left = x + dx - { start: 0, middle: width / 2, end: width }[anchor];
      return [left, y + dy - labelHeight / 2, left + width, y + dy + labelHeight / 2];
    };
    const cover = (place) => {
      const box = boxAt(place);
      return boxes.filter((other) => covers(box, other)).length + (box[0] < 0 || box[2] > panelWidth - 52 ? 9 : 0);
    };
    const place = places.reduce((best, one) => (cover(one) < cover(best) ? one : best));
    boxes.push(boxAt(place));
    const { dx, dy, anchor: textAnchor } = place;
    return Plot.text([p], { x: cost, y: "knn", text: "short", dx, dy, textAnchor, fontSize: labelSize });
  });
}

/** Dots of k-NN accuracy against a cost, one colour a kind. */
function panel(source, document, points, series, { cost, label }) {
  // A row that several numbers of images are shown of is named once, at the most images.
  const hasName = ({ short, namedBy = cost }) => short !== undefined && namedBy === cost;
  const named = [...new Map(points.filter(hasName).map((p) => [p.short, p])).values()];
  return source.svgOf(
    {
      width: panelWidth,
      height: panelHeight,
      marginTop: 28,
      marginLeft: 48,
      marginRight: 64,
      marginBottom: 42,
      x: { label: `${label} →`, grid: true, nice: true, zero: true },
      y: { label: "↑ k-NN accuracy, %", grid: true, nice: true },
      style: { fontSize: `${labelSize}px` },
      color: source.colourOf(series),
      marks: [
        Plot.dot(points, {
          x: cost,
          y: "knn",
          fill: "kind",
          r: dotRadius,
          title: (point) => `${point.name}: ${point.knn.toFixed(1)} % at ${point[cost].toPrecision(3)}`,
        }),
        ...nameMarks(points, named, cost),
      ],
    },
    label,
    document,
  );
}

/** k-NN accuracy against megabytes and against time, side by side: what a reader gets at each price. */
function chart(source, groups) {
  const points = groups.filter(({ images }) => shownImages.includes(images)).map(pointOf);
  const timed = points.filter(({ time }) => time !== undefined);
  const series = [...new Set(points.map(({ kind }) => kind))];
  const { document } = parseHTML("<html></html>");
  const panels = [
    panel(source, document, points, series, { cost: "megabytes", label: "MB of the loaded file" }),
    panel(source, document, timed, series, { cost: "time", label: "time per image, teacher's float32 = 1" }),
  ];
  const gap = 16;
  const width = 2 * panelWidth + gap;
  const right = panels[1].replace("<svg ", `<svg x="${panelWidth + gap}" `);
  const both = `<svg width="${width}" height="${panelHeight}">${panels[0]}${right}</svg>`;
  const title = "k-NN accuracy by size and by time: the demo's teacher, from 90 images or none";
  return source.standalone(both, { title, legend: source.legendOf(series), width, height: panelHeight });
}

/** Writes docs/leaderboard.md and its charts. */
export function writeLeaderboard(source, rows, finished, { folder }) {
  const groups = grouped(rows, finished);
  const machines = [...new Set(groups.flatMap(({ draws }) => draws.map(({ machine }) => machine)))];
  mkdirSync(folder, { recursive: true });
  mkdirSync(join(folder, "images"), { recursive: true });
  writeFileSync(join(folder, "images/prices.svg"), chart(source, groups));
  const text = `# Leaderboard

Models of the demo's teacher (DINOv2's ViT-S, 30 classes of clip art), made from few unlabelled
images or from none. \`node bench/leaderboard.js\` writes this page; \`bench/leaderboard/rows.js\` has
its rows.

- k-NN, probe and classifier: accuracy on 300 validation images, in %. One image is 0.3 points, and
  the 95 % interval of one accuracy is about ±5 points; differences between rows on the same images
  have narrower ones. k-NN and probe learn from 593 images.
- Agreement: share of predictions equal to the teacher's, on these 300 images, and on all images
  that were not drawn (unseen).
- MB: the file that is loaded. Time: for one image, as a share of the teacher's float32 in the same
  run, in turns, on a machine that does nothing else (\`--times\`); a dash where that was not taken.
  The first row is the teacher beside itself: its distance from 1 is about the error of a time.
- Means over draws, with 95 % confidence intervals (Student's t) where there are several.
- Seconds to make were often taken with other work on the machine: alone, a search for a budget
  takes 5 to 8 minutes here.
- Machines: ${machines.join("; ")}.

![k-NN accuracy by size and by time](images/prices.svg)

${table(groups)}

## Where others are ahead

ONNX Runtime's dynamic int8 is faster than \`onnx-int8\`: it takes one scale for all tokens at once.
The teacher takes no harm from that; of half the teacher, its tokens are 24 % off, where ours are
5.4 % off ([performance](performance.md)). onnxsim has no rows with Wanda: it finds too few channels
in these graphs.

## Where each row comes from

${sources(groups)}
`;
  writeFileSync(join(folder, "leaderboard.md"), text);
}
