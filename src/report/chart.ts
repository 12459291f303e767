// Charts as SVG, by Observable Plot. The document that it draws into is handed in: linkedom on Node, the page's own in a
// browser.
import * as Plot from "@observablehq/plot";

export interface Mark {
  /** Which row of the chart it stands in. */
  readonly label: string;
  /** Colour and legend. */
  readonly series: string;
  readonly value: number;
  /** Half the length of its bar of error, where there is one. */
  readonly spread?: number;
}

export interface ComparisonChart {
  readonly title: string;
  readonly unit: string;
  /** Rows from top to bottom. */
  readonly labels: readonly string[];
  readonly marks: readonly Mark[];
  /** A value to compare with (the teacher's), drawn through all rows. */
  readonly reference?: { readonly label: string; readonly value: number };
}

const palette = ["#2f6fde", "#d9772b", "#2a9d6f", "#a04fc4", "#c23b5a", "#7a7a2a"];

/** Dots by row, one colour a series, with bars of error. */
export function comparisonChart(chart: ComparisonChart, document: Document): string {
  const { labels, marks, reference } = chart;
  const series = [...new Set(marks.map((m) => m.series))];
  const longest = Math.max(0, ...labels.map((label) => label.length));
  const [width, height] = [760, 74 + 30 * labels.length];
  const spreads = marks.filter((m) => m.spread !== undefined);
  const svg = Plot.plot({
    document,
    width,
    height,
    marginLeft: 16 + 6.6 * longest,
    marginTop: 34,
    marginBottom: 40,
    x: { label: `${chart.unit} →`, grid: true, nice: true },
    y: { domain: [...labels], label: null, type: "point" },
    color: { domain: series, range: palette.slice(0, series.length) },
    marks: [
      ...(reference
        ? [
            Plot.ruleX([reference.value], { stroke: "#888", strokeDasharray: "4 3" }),
            Plot.text([reference], { x: "value", text: "label", frameAnchor: "top", dy: -10, fill: "#666" }),
          ]
        : []),
      Plot.ruleY(spreads, {
        y: "label",
        x1: (m: Mark) => m.value - (m.spread ?? 0),
        x2: (m: Mark) => m.value + (m.spread ?? 0),
        stroke: "series",
      }),
      Plot.dot([...marks], { y: "label", x: "value", fill: "series", r: 5 }),
    ],
  });
  return withLegend(svg.outerHTML, { title: chart.title, series, width, height });
}

const escape = (text: string) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");

interface Frame {
  readonly title: string;
  readonly series: readonly string[];
  readonly width: number;
  readonly height: number;
}

/** Title and legend as parts of the picture itself, so that the SVG stands alone. */
function withLegend(svg: string, { title, series, width, height }: Frame): string {
  const top = 54;
  let x = 16;
  const keys = series.map((name, i) => {
    const part = `<circle cx="${x + 5}" cy="40" r="5" fill="${palette[i % palette.length]}"/><text x="${x + 15}" y="44">${escape(name)}</text>`;
    x += 34 + 7 * name.length;
    return part;
  });
  const inner = svg.replace("<svg ", `<svg y="${top}" `);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + top}" ` +
    `viewBox="0 0 ${width} ${height + top}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${escape(title)}">` +
    `<rect width="100%" height="100%" fill="white"/><text x="16" y="22" font-size="15" font-weight="600">${escape(title)}</text>` +
    `${keys.join("")}${inner}</svg>\n`
  );
}
