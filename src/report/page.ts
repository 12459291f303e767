// A run's report as one page that needs nothing else: pictures, charts and style stand in it.
import { classChart, costChart, heatMap } from "./figures.ts";
import { findings } from "./findings.ts";
import { html } from "./html.ts";
import type { Section } from "./page-parts.ts";
import { chart, image, resultsTable, scrolling, trainingCharts, wholePage } from "./page-parts.ts";
import { resultLegend, resultMarks } from "./results.ts";
import type { RunReport } from "./run-report.ts";
import { keptText } from "./run-report.ts";

function results(report: RunReport, document: Document): Section | undefined {
  if (report.results.length === 0) return undefined;
  const cost = costChart(report.results, document);
  const warned = report.judgedOnTrainingPictures
    ? html`<p>
        <strong>No pictures were left to hold out: these figures are of training pictures, and flatter.</strong>
      </p>`
    : undefined;
  return {
    id: "results",
    title: "How good, how small, how fast",
    body: html`${warned}${resultsTable(report.results)}
      <p class="soft">${resultLegend}; ${resultMarks}. Judged on ${report.judgedPictures} pictures.</p>
      <ul class="findings">
        ${findings(report.comparisons).map((sentence) => html`<li>${sentence}</li>`)}
      </ul>
      ${cost ? chart(cost, "What accuracy costs: further left is faster, further up better; the dot's area is the size of the weights on disk.") : undefined}`,
  };
}

function training(report: RunReport, document: Document): Section | undefined {
  const charts = trainingCharts([report], document);
  const trained = report.steps.length > 0;
  const told = [...report.notes, ...(trained ? [`training took ${report.trainingSeconds.toFixed(0)} s`] : [])];
  if (!charts && told.length === 0) return undefined;
  return {
    id: "training",
    title: trained ? "Training" : "How it was made",
    body: html`<p class="soft">${told.join("; ")}.</p>
      ${charts}`,
  };
}

/** Classes that a chart shows; the rest stands in report.md. */
const shownClasses = 30;

function failures({ classes, hardest }: RunReport, document: Document): Section | undefined {
  if (classes.length === 0 && hardest.length === 0) return undefined;
  const shown = classes.slice(0, shownClasses);
  const more =
    classes.length > shown.length ? ` The ${shown.length} of ${classes.length} classes with the widest gap.` : "";
  const models = [...new Set(shown.flatMap((c) => Object.keys(c.models)))];
  const cards = hardest.map(
    (p) =>
      html`<li class="card">
        <div class="pair">
          <div class="query">${image(p)}</div>
          <div>
            <p class="name">${p.name}</p>
            <dl>
              <dt>difference</dt>
              <dd>${p.difference.toFixed(3)}</dd>
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
    body: html`${
      shown.length > 0
        ? chart(
            classChart(shown, document),
            `Share of each class that nearest neighbours get right, the widest gap between teacher and student first.${more} Few pictures a class: read no more than a tendency from one line.`,
            models,
          )
        : undefined
    }${
      hardest.length > 0
        ? html`<h3>Pictures whose features are furthest from the teacher's</h3>
            <p class="soft">Under each, what nearest neighbours take it for.</p>
            <ul class="cards">
              ${cards}
            </ul>`
        : undefined
    }`,
  };
}

function neighbours({ neighbours: examples }: RunReport): Section | undefined {
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
    title: "Nearest neighbours, side by side",
    body: html`<p class="soft">
        The most similar pictures of the bank, nearest first, under teacher and student. A green frame is the same
        class, a red one another.
      </p>
      <ul class="cards">
        ${cards}
      </ul>`,
  };
}

function attention({ attention: looks }: RunReport): Section | undefined {
  if (looks.length === 0) return undefined;
  const cards = looks.map((look) => {
    const maps = Object.entries(look.models).map(
      ([model, source]) =>
        html`<figure>
          <img src="${source}" alt="where the ${model} looks in ${look.name}" />
          <figcaption>${model}</figcaption>
        </figure>`,
    );
    const own = look.image
      ? html`<figure>
          <img src="${look.image}" alt="${look.name}" />
          <figcaption>picture</figcaption>
        </figure>`
      : undefined;
    return html`<li class="card">
      <div class="looks">${own}${maps}</div>
      <p class="name">${look.name}</p>
    </li>`;
  });
  return {
    id: "attention",
    title: "Where they look",
    body: html`<p class="soft">
        Attention rollout: the largest of the heads, nine tenths of the smallest entries discarded, followed through all
        blocks. Warm colours are looked at most.
      </p>
      <ul class="cards">
        ${cards}
      </ul>`,
  };
}

function layers({ similarity }: RunReport, document: Document): Section | undefined {
  if (!similarity) return undefined;
  const { cka, cosine, tokens, pictures, keptBlocks } = similarity;
  const over = `over ${tokens} tokens of ${pictures} pictures`;
  const drawn = (values: readonly (readonly number[])[], what: string) =>
    chart(
      heatMap(values, keptBlocks, what, document).svg,
      `${what}, ${over}; rows are the student's blocks.`,
      [],
      true,
    );
  return {
    id: "layers",
    title: "Similarity of layers",
    body: html`${drawn(cka, "Centred kernel alignment of each block's output")}${cosine ? drawn(cosine, "Mean cosine of tokens") : undefined}`,
  };
}

function used({ used: { total, shown } }: RunReport): Section | undefined {
  if (shown.length === 0) return undefined;
  const some = shown.length < total ? `${shown.length} of ${total} are shown. ` : "";
  return {
    id: "pictures",
    title: "The pictures used",
    body: html`<p class="soft">${some}All stand in manifest.jsonl with their sizes and hashes.</p>
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
    title: "Settings, and how to run it again",
    body: html`<pre tabindex="0" role="region" aria-label="Command">${report.command}</pre>
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
    <p class="lead">${report.method}: ${report.methodSummary}.</p>
    <p class="soft">Teacher ${report.teacher}; ${report.used.total} pictures of ${report.data}; ${keptText(report)}.</p>
  </header>`;
  const sections = [
    results(report, document),
    training(report, document),
    failures(report, document),
    neighbours(report),
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
