// One page that compares runs.
import { costChart } from "./figures.ts";
import { findings } from "./findings.ts";
import { html } from "./html.ts";
import type { Section } from "./page-parts.ts";
import { chart, resultsTable, scrolling, trainingCharts, wholePage } from "./page-parts.ts";
import { resultLegend, resultMarks } from "./results.ts";
import type { RunReport } from "./run-report.ts";

/** Settings by name that runs differ in. */
function differing(runs: readonly RunReport[]): string[] {
  const names = [...new Set(runs.flatMap(({ settings: own }) => own.map(([name]) => name)))];
  const valueOf = (run: RunReport, name: string) => run.settings.find(([own]) => own === name)?.[1] ?? "";
  return names.filter((name) => name !== "out" && new Set(runs.map((run) => valueOf(run, name))).size > 1);
}

/** One page that compares runs. */
export function comparisonPage(runs: readonly RunReport[], document: Document): Promise<string> {
  const names = differing(runs);
  const students = runs.flatMap(({ name, results: rows }) =>
    rows.filter((row) => row.name === "student").map((row) => ({ ...row, name })),
  );
  const first = runs[0].results.filter(({ name }) => name !== "student");
  const charts = trainingCharts(runs, document);
  const cost = costChart([...first, ...students], document);
  const settingsRows = names.map(
    (name) =>
      html`<tr>
        <th scope="row">${name}</th>
        ${runs.map((run) => html`<td class="text">${run.settings.find(([own]) => own === name)?.[1] ?? "–"}</td>`)}
      </tr>`,
  );
  const sections: (Section | undefined)[] = [
    {
      id: "results",
      title: "Results",
      body: html`${resultsTable([...first, ...students])}
        <p class="soft">${resultLegend}; ${resultMarks}. Teacher and weight copy are those of ${runs[0].name}.</p>
        ${cost ? chart(cost, "What accuracy costs.") : undefined}`,
    },
    charts && { id: "training", title: "Training", body: charts },
    {
      id: "settings",
      title: "What differs",
      body:
        names.length === 0
          ? html`<p>The runs have the same settings.</p>`
          : scrolling(
              "What differs",
              html`<table>
                <thead>
                  <tr>
                    <td></td>
                    ${runs.map(({ name }) => html`<th scope="col" class="text">${name}</th>`)}
                  </tr>
                </thead>
                <tbody>
                  ${settingsRows}
                </tbody>
              </table>`,
            ),
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
      <p class="lead">${runs.map(({ name }) => name).join(", ")}</p>
    </header>`,
    sections.filter((section) => section !== undefined),
  );
}
