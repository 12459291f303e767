// What pages are made of: the document around sections, tables that scroll by themselves, charts with their legends.
import { legendOf } from "./chart.ts";
import type { Line } from "./figures.ts";
import { lineChart, evaluationLine, lossLine } from "./figures.ts";
import { Html, html } from "./html.ts";
import { pageGenerator, pageScript, pageStyle } from "./page-style.ts";
import type { ResultCell, ResultRow } from "./results.ts";
import { resultCells } from "./results.ts";
import type { RunReport, Shown } from "./run-report.ts";
import type { Column } from "./table.ts";

/**
 * What a page may do: show what stands in it, and run its own script, which it knows by its hash. Nothing is loaded. Styles
 * may stand in it, since charts are drawn with style elements and attributes.
 */
async function policyFor(script: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(script));
  const base64 = btoa(String.fromCharCode(...new Uint8Array(hash)));
  return `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${base64}'; base-uri 'none'; form-action 'none'`;
}

export interface Section {
  readonly id: string;
  readonly title: string;
  readonly body: Html;
}

/** A whole document around sections, with links to each. */
export async function wholePage(title: string, opening: Html, sections: readonly Section[]): Promise<string> {
  const links = sections.map(({ id, title: name }) => html`<li><a href="#${id}">${name}</a></li>`);
  const body = sections.map(
    ({ id, title: name, body: part }) =>
      html`<section aria-labelledby="${id}">
        <h2 id="${id}">${name}</h2>
        ${part}
      </section> `,
  );
  const policy = await policyFor(pageScript);
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        <meta ${new Html(pageGenerator)} />
        <title>${title}</title>
        <style>
          ${new Html(pageStyle)}
        </style>
      </head>
      <body>
        <main>
          ${opening}
          <nav aria-label="On this page">
            <ul>
              ${links}
            </ul>
          </nav>
          ${body}
        </main>
        ${new Html(`<script>${pageScript}</script>`)}
      </body>
    </html> `.text;
}

/** A table that scrolls by itself where the page is narrow; the keyboard can reach it. */
export function scrolling(label: string, content: Html): Html {
  return html`<div class="scroll" role="region" aria-label="${label}" tabindex="0">${content}</div>`;
}

/** The table of results with what its columns mean below it. */
export function resultsTable(rows: readonly ResultRow[]): Html {
  const { columns, rows: lines, legend } = resultCells(rows, { wide: true, mark: "bold" });
  const head = columns.map((column) => headCell(column));
  const cellOf = ({ text, bounds, best }: ResultCell) => {
    const figure = best ? html`<strong>${text}</strong>` : text;
    return html`<td>${figure}${bounds === "" ? undefined : html`<small>${bounds}</small>`}</td>`;
  };
  const body = lines.map(
    ({ name, cells }) =>
      html`<tr>
        <th scope="row">${name}</th>
        ${cells.map(cellOf)}
      </tr>`,
  );
  return html`${scrolling("Table of results", tableOf(head, body))}
    <ul class="notes">
      ${legend.map((line) => html`<li>${line}</li>`)}
    </ul>`;
}

/** A column's title, whose words are not broken. */
function headCell({ title, align }: Column): Html {
  if (!title) return html`<td></td>`;
  const words = title.split(" ").map((word) => html`<span>${word}</span> `);
  return html`<th scope="col" class="${align === "left" ? "text" : ""}">${words}</th>`;
}

const tableOf = (head: readonly Html[], body: readonly Html[]) =>
  html`<table>
    <thead>
      <tr>
        ${head}
      </tr>
    </thead>
    <tbody>
      ${body}
    </tbody>
  </table>`;

/** A table of text; a row may be marked. */
export function plainTable(
  label: string,
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  isMarked: (row: number) => boolean = () => false,
): Html {
  const kind = (i: number) => (columns[i].align === "left" ? "text" : "");
  const head = columns.map((column) => headCell(column));
  const body = rows.map(
    (row, r) =>
      html`<tr class="${isMarked(r) ? "marked" : ""}">
        ${row.map((text, i) =>
          i === 0 ? html`<th scope="row">${text}</th>` : html`<td class="${kind(i)}">${text}</td>`,
        )}
      </tr>`,
  );
  return scrolling(label, tableOf(head, body));
}

/** Charts beside each other, as far as the page has room. */
export const chartRow = (charts: readonly Html[]): Html => html`<div class="charts">${charts}</div>`;

/** Code that can be selected as a whole. */
export const codeBlock = (label: string, code: string): Html =>
  html`<pre tabindex="0" role="region" aria-label="${label}">${code}</pre>`;

export function seriesLegend(series: readonly string[]): Html {
  return html`<ul class="legend" aria-hidden="true">
    ${legendOf(series).map(({ name, colour }) => html`<li><i style="background:${colour}"></i>${name}</li>`)}
  </ul>`;
}

/** A chart with its caption, and a legend where it has several series. */
export function chart(svg: string, caption: string, series: readonly string[] = []): Html {
  return html`<figure>
    ${series.length > 1 ? seriesLegend(series) : undefined}${new Html(svg)}${caption === "" ? undefined : html`<figcaption>${caption}</figcaption>`}
  </figure> `;
}

export function image({ name, image: source, className }: Shown): Html {
  const label = className === undefined ? name : `${className}: ${name}`;
  return source === undefined
    ? html`<span class="soft" title="${label}">${name}</span>`
    : html`<img src="${source}" alt="${label}" title="${label}" />`;
}

/** Charts of training, for one run or several. */
export function trainingCharts(
  runs: readonly Pick<RunReport, "name" | "steps" | "evaluations">[],
  document: Document,
): Html | undefined {
  const several = runs.length > 1;
  const named = (fallback: string, { name }: { readonly name: string }) => (several ? name : fallback);
  const drawn = (lines: readonly Line[], label: string, unit: string) => {
    const shown = lines.filter(({ points }) => points.length > 1);
    if (shown.length === 0) return undefined;
    return chart(lineChart(shown, label, unit, document), label, several ? shown.map(({ series }) => series) : []);
  };
  const parts = [
    drawn(
      runs.map((run) => lossLine(named("training loss", run), run.steps)),
      "Training loss by step",
      "loss",
    ),
    drawn(
      runs.map((run) => evaluationLine(named("held out", run), run.evaluations, "meanAbsoluteDifference")),
      "Mean absolute feature difference on held-out images; less is better",
      "difference",
    ),
    drawn(
      runs.map((run) => evaluationLine(named("held out", run), run.evaluations, "knn")),
      "k-NN accuracy on a few held-out images: a rough line",
      "k-NN %",
    ),
  ].filter((part) => part !== undefined);
  return parts.length > 0 ? chartRow(parts) : undefined;
}
