// One page that compares runs.
import { resultCharts } from "./cost-charts.ts";
import { findings } from "./findings.ts";
import { html } from "./html.ts";
import type { Section } from "./page-parts.ts";
import { chart, chartRow, resultsTable, scrolling, trainingCharts, wholePage } from "./page-parts.ts";
import { evaluatedOn } from "./results.ts";
import type { RunReport } from "./run-report.ts";
import { countedRows } from "./run-report.ts";

/** Settings by name that runs differ in. */
function differing(runs: readonly RunReport[]): string[] {
  const names = [...new Set(runs.flatMap(({ settings: settingName }) => settingName.map(([name]) => name)))];
  const valueOf = (run: RunReport, name: string) =>
    run.settings.find(([settingName]) => settingName === name)?.[1] ?? "";
  return names.filter((name) => name !== "out" && new Set(runs.map((run) => valueOf(run, name))).size > 1);
}

/** The settings that runs differ in, a column for each run. */
function settingsTable(runs: readonly RunReport[]) {
  const names = differing(runs);
  if (names.length === 0) return html`<p>The runs have the same settings.</p>`;
  const rows = names.map(
    (name) =>
      html`<tr>
        <th scope="row">${name}</th>
        ${runs.map((run) => html`<td class="text">${run.settings.find(([settingName]) => settingName === name)?.[1] ?? "–"}</td>`)}
      </tr>`,
  );
  return scrolling(
    "What differs",
    html`<table>
      <thead>
        <tr>
          <td></td>
          ${runs.map(({ name }) => html`<th scope="col" class="text">${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>`,
  );
}

/** Each run's student by the run's name. */
const studentsOf = (runs: readonly RunReport[]) =>
  runs.flatMap((run) =>
    countedRows(run)
      .filter((row) => row.name === "student")
      .map((row) => ({ ...row, name: run.name })),
  );

/** One page that compares runs. */
export function comparisonPage(runs: readonly RunReport[], document: Document): Promise<string> {
  const students = studentsOf(runs);
  const first = countedRows(runs[0]).filter(({ name }) => name !== "student");
  // Rows of several runs were not measured in turns with each other, so none is marked as faster.
  const compared = [...first, ...students].map((row) => ({ ...row, millisecondsQuartiles: undefined }));
  const charts = trainingCharts(runs, document);
  const sections: (Section | undefined)[] = [
    {
      id: "results",
      title: "Results",
      body: html`<p>${evaluatedOn(compared)}</p>
        ${resultsTable(compared)}
        <p class="soft">Teacher and weight copy are those of ${runs[0].name}.</p>
        ${chartRow(resultCharts(compared, document).map((svg) => chart(svg, "")))}`,
    },
    charts && { id: "training", title: "Training", body: charts },
    {
      id: "settings",
      title: "What differs",
      body: settingsTable(runs),
    },
    {
      id: "findings",
      title: "What the figures say",
      body: html`${runs.map(
        ({ name, comparisons }) =>
          html`<h3>${name}</h3>
            <ul class="findings">
              ${findings(comparisons).map((sentence) => html`<li>${sentence}</li>`)}
            </ul>`,
      )}`,
    },
  ];
  return wholePage(
    "Comparison of runs",
    html`<header>
      <h1>Comparison of runs</h1>
      <p class="verdict">${runs.map(({ name }) => name).join(", ")}</p>
    </header>`,
    sections.filter((section) => section !== undefined),
  );
}
