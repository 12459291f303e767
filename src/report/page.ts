// A run's report as one page that needs nothing else: images, charts and style stand in it.
import { resultCharts, searchCharts } from "./cost-charts.ts";
import { classChart, longestName, smallHeatMap } from "./figures.ts";
import { findings } from "./findings.ts";
import type { Html } from "./html.ts";
import { html } from "./html.ts";
import { fileMegabytes, loadingSnippets } from "./loading.ts";
import type { Section } from "./page-parts.ts";
import {
  chart,
  chartRow,
  codeBlock,
  image,
  plainTable,
  resultsTable,
  scrolling,
  seriesLegend,
  trainingCharts,
  wholePage,
} from "./page-parts.ts";
import { evaluatedOn, fewImages } from "./results.ts";
import type { ClassFigures, RunReport } from "./run-report.ts";
import { countedRows, keptText, verdictsOf } from "./run-report.ts";
import { searchTable, searchText } from "./search.ts";
import type { Column } from "./table.ts";
import { durationText } from "../utils/duration.ts";

function results(report: RunReport, document: Document): Section | undefined {
  if (report.results.length === 0) return undefined;
  const rows = countedRows(report);
  const warned = report.evaluatedOnTrainingImages
    ? html`<p>
        <strong>No images were left to hold out: these figures are on training images, and flatter.</strong>
      </p>`
    : undefined;
  return {
    id: "results",
    title: "Results",
    body: html`<p>${evaluatedOn(rows)}</p>
      ${warned}${resultsTable(rows)}
      <ul class="findings">
        ${findings(report.comparisons).map((sentence) => html`<li>${sentence}</li>`)}
      </ul>
      ${chartRow(resultCharts(rows, document).map((svg) => chart(svg, "")))}`,
  };
}

/** The student's files, how to load them, and what was exported. */
function files({ files: written, loading, exports }: RunReport): Section | undefined {
  if (written.length === 0 && !exports) return undefined;
  const columns: Column[] = [
    { title: "file in student/", align: "left" },
    { title: "MB" },
    { title: "read by default by", align: "left" },
  ];
  const rows = written.map((file) => [file.name, fileMegabytes(file), file.readBy]);
  const snippets = loading
    ? loadingSnippets(loading).map(
        ({ title, code }) =>
          html`<h3>${title}</h3>
            ${codeBlock(title, code)}`,
      )
    : [];
  return {
    id: "files",
    title: "Files, and how to load them",
    body: html`${written.length > 0 ? plainTable("Files of the student", columns, rows) : undefined}${snippets}${
      exports
        ? html`<h3>Exports</h3>
            <p>${exports.heading}</p>
            ${plainTable("Table of exports", exports.columns, exports.rows)}
            <p class="soft">${exports.legend}</p>`
        : undefined
    }`,
  };
}

function searched({ search }: RunReport, document: Document): Section | undefined {
  if (!search) return undefined;
  const { columns, rows } = searchTable(search);
  const series = [...new Set(search.candidates.map(({ format }) => format))];
  return {
    id: "search",
    title: "What the search tried",
    body: html`<p>${searchText(search)} A ring marks the chosen one.</p>
      ${seriesLegend(series)} ${chartRow(searchCharts(search, document).map((svg) => chart(svg, "")))}
      ${plainTable("Table of what was tried", columns, rows, (row) => search.candidates[row].isChosen)}`,
  };
}

function training(report: RunReport, document: Document): Section | undefined {
  const charts = trainingCharts([report], document);
  const trained = report.steps.length > 0;
  const parts = [...report.notes, ...(trained ? [`training took ${durationText(report.trainingSeconds)}`] : [])];
  if (!charts && parts.length === 0) return undefined;
  return {
    id: "training",
    title: trained ? "Training" : "How it was made",
    body: html`<p class="soft">${parts.join("; ").replace(/^./, (letter) => letter.toUpperCase())}.</p>
      ${charts}`,
  };
}

/** Classes that charts show; the rest is in report.md. */
const shownClasses = 60;
/** From so many classes on there are two charts. */
const leastForTwo = 12;

/** k-NN accuracy by class, in one chart or two beside each other. */
function classCharts(classes: readonly ClassFigures[], document: Document): Html | undefined {
  if (classes.length === 0) return undefined;
  const shown = classes.slice(0, shownClasses);
  const more =
    classes.length > shown.length ? ` The ${shown.length} of ${classes.length} classes with the widest gap.` : "";
  const models = [...new Set(shown.flatMap((c) => Object.keys(c.models)))];
  const half = shown.length < leastForTwo ? shown.length : Math.ceil(shown.length / 2);
  const parts = [shown.slice(0, half), shown.slice(half)].filter((part) => part.length > 0);
  const fewest = Math.min(...shown.map(({ images }) => images));
  return html`<p class="soft">
      k-NN accuracy by class, the widest gap between teacher and student
      first.${more}${fewest < fewImages ? ` Classes have as few as ${fewest} images: a single line shows no more than a tendency.` : ""}
    </p>
    ${seriesLegend(models)} ${chartRow(parts.map((part) => chart(classChart(part, document, longestName(shown)), "")))}`;
}

function failures({ classes, hardest }: RunReport, document: Document): Section | undefined {
  if (classes.length === 0 && hardest.length === 0) return undefined;
  const cards = hardest.map(
    (p) =>
      html`<li class="card">
        <div class="pair">
          <div class="query">${image(p)}</div>
          <div>
            <p class="name">${p.name}</p>
            <dl>
              <dt>difference</dt>
              <dd>${p.meanAbsoluteDifference.toFixed(3)}</dd>
              <dt>cosine</dt>
              <dd>${p.cosine.toFixed(3)}</dd>
              ${Object.entries(p.takenFor).map(
                ([model, name]) =>
                  html`<dt>${model}</dt>
                    <dd>${name}</dd>`,
              )}
            </dl>
          </div>
        </div>
      </li>`,
  );
  return {
    id: "failures",
    title: "Where it fails",
    body: html`${classCharts(classes, document)}${
      hardest.length > 0
        ? html`<h3>Images whose features are furthest from the teacher's</h3>
            <p class="soft">With each, its k-NN prediction by either model.</p>
            <ul class="cards">
              ${cards}
            </ul>`
        : undefined
    }`,
  };
}

function nearestNeighbours({ neighbours: examples }: RunReport): Section | undefined {
  if (examples.length === 0) return undefined;
  const cards = examples.map((example) => {
    const rows = Object.entries(example.nearest).map(([model, shown]) => {
      const items = shown.map((s) => {
        const kind = example.className === undefined ? "" : s.className === example.className ? "same" : "other";
        return html`<li class="${kind}">${image(s)}</li>`;
      });
      return html`<div>
        <p class="name">${model}</p>
        <ul class="row">
          ${items}
        </ul>
      </div>`;
    });
    return html`<li class="card">
      <div class="pair">
        <div class="query">
          ${image(example)}
          <p class="name">${example.className ?? example.name}</p>
        </div>
        ${rows}
      </div>
    </li>`;
  });
  return {
    id: "neighbours",
    title: "Nearest neighbours",
    body: html`<p class="soft">
        The most similar labelled images by the features of teacher and student, the nearest first. A green frame is the
        same class, a red one another.
      </p>
      <ul class="cards">
        ${cards}
      </ul>`,
  };
}

function attention({ attention: attentions }: RunReport): Section | undefined {
  if (attentions.length === 0) return undefined;
  const cards = attentions.map((overlay) => {
    const maps = Object.entries(overlay.models).map(
      ([model, source]) =>
        html`<figure>
          <img src="${source}" alt="attention map of the ${model} for ${overlay.name}" />
          <figcaption>${model}</figcaption>
        </figure>`,
    );
    const original = overlay.image
      ? html`<figure>
          <img src="${overlay.image}" alt="${overlay.name}" />
          <figcaption>image</figcaption>
        </figure>`
      : undefined;
    return html`<li class="card">
      <div class="looks">${original}${maps}</div>
      <p class="name">${overlay.name}</p>
    </li>`;
  });
  return {
    id: "attention",
    title: "Attention maps",
    body: html`<p class="soft">
        Attention rollout over all blocks: the largest value of the heads, the smallest nine tenths discarded. Warm
        colours are attended to most.
      </p>
      <ul class="cards">
        ${cards}
      </ul>`,
  };
}

function layers({ similarity }: RunReport, document: Document): Section | undefined {
  if (!similarity) return undefined;
  const { cka, cosine, tokens, images, keptBlocks } = similarity;
  const drawn = (values: readonly (readonly number[])[], what: string) =>
    chart(smallHeatMap(values, keptBlocks, what, document), `${what}.`);
  return {
    id: "layers",
    title: "Layer similarity",
    body: html`<p class="soft">Of the blocks' outputs, over ${tokens} tokens of ${images} images.</p>
      ${chartRow([
        drawn(cka, "Centred kernel alignment"),
        ...(cosine ? [drawn(cosine, "Mean cosine similarity of tokens")] : []),
      ])}`,
  };
}

function used({ used: { total, shown } }: RunReport): Section | undefined {
  if (shown.length === 0) return undefined;
  const some = shown.length < total ? `${shown.length} of ${total} are shown. ` : "";
  return {
    id: "images",
    title: "Training images",
    body: html`<p class="soft">${some}manifest.jsonl lists all with their sizes and hashes.</p>
      <ul class="strip">
        ${shown.map((s) => html`<li>${image(s)}</li>`)}
      </ul>`,
  };
}

function settings(report: RunReport): Section {
  const rows = report.settings.map(
    ([name, value]) =>
      html`<tr>
        <th scope="row">${name}</th>
        <td class="text">${value}</td>
      </tr>`,
  );
  const about = Object.entries(report.about).map(([name, value]) => `${name} ${String(value)}`);
  return {
    id: "again",
    title: "Run it again",
    body: html`${codeBlock("Command", report.command)}
      <p class="soft">${about.join(", ")}</p>
      <details>
        <summary>All settings</summary>
        ${scrolling(
          "All settings",
          html`<table>
            <tbody>
              ${rows}
            </tbody>
          </table>`,
        )}
      </details>
      ${report.missing.length > 0 ? html`<p class="soft">Not on this page: ${report.missing.join("; ")}.</p>` : undefined}`,
  };
}

/** The report of a run as one HTML file. */
export function reportPage(report: RunReport, document: Document): Promise<string> {
  const opening = html`<header>
    <h1>${report.name}</h1>
    ${verdictsOf(report).map((sentence) => html`<p class="verdict">${sentence}</p>`)}
    <p class="soft">
      Teacher ${report.teacher}; ${report.used.total} images of ${report.data}; ${keptText(report)}. Method
      ${report.method}: ${report.methodSummary}.
    </p>
  </header>`;
  const sections = [
    results(report, document),
    files(report),
    searched(report, document),
    training(report, document),
    failures(report, document),
    nearestNeighbours(report),
    attention(report),
    layers(report, document),
    used(report),
    settings(report),
  ];
  return wholePage(
    `${report.name}: distillation report`,
    opening,
    sections.filter((section) => section !== undefined),
  );
}
