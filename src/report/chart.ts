// Charts as SVG, by Observable Plot: what all have in common, and the chart of a comparison. The document that it draws into is handed in: linkedom on Node, the page's own in a
// browser. Marks carry titles, which are shown on hover.
import * as Plot from "@observablehq/plot";
import { escapeHtml } from "./html.ts";

/** Pixels of a page's charts: two stand beside each other, and a telephone shows one without cutting it. */
export const chartWidth = 420;

const palette = ["#2f6fde", "#d9772b", "#2a9d6f", "#a04fc4", "#c23b5a", "#7a7a2a"];
/** Models keep their colours through all charts of a report. */
const modelColours: Readonly<Record<string, string>> = {
  teacher: "#808080",
  "weight copy": "#d9772b",
  student: "#2f6fde",
};

export function colourOf(series: readonly string[]): { domain: string[]; range: string[] } {
  let next = 0;
  return {
    domain: [...series],
    range: series.map((name) => modelColours[name] ?? palette[next++ % palette.length]),
  };
}

/** A legend's entries: names with their colours. */
export function legendOf(series: readonly string[]): { name: string; colour: string }[] {
  const { domain, range } = colourOf(series);
  return domain.map((name, i) => ({ name, colour: range[i] }));
}

/** What Plot gives, as text. Its figure has a name for those who don't see it. */
export function svgOf(options: Plot.PlotOptions, label: string, document: Document): string {
  const svg = Plot.plot({ style: { fontSize: "12.5px" }, ...options, document });
  // The figure is one image with one name; Plot's names of its layers are not for groups without a role.
  for (const layer of svg.querySelectorAll("[aria-label]")) layer.removeAttribute("aria-label");
  // Not set on the element: what documents write for an attribute need not be XML, and the SVG may stand alone.
  return svg.outerHTML.replace("<svg ", `<svg role="img" aria-label="${escapeHtml(label)}" `);
}

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

/** Dots by row, one colour a series, with bars of error. */
export function comparisonChart(chart: ComparisonChart, document: Document): string {
  const { labels, marks, reference } = chart;
  const series = [...new Set(marks.map((m) => m.series))];
  const longest = Math.max(0, ...labels.map((label) => label.length));
  const [width, height] = [760, 74 + 30 * labels.length];
  const spreads = marks.filter((m) => m.spread !== undefined);
  const svg = svgOf(
    {
      width,
      height,
      marginLeft: 16 + 7.2 * longest,
      marginTop: 34,
      marginBottom: 40,
      x: { label: `${chart.unit} →`, grid: true, nice: true },
      y: { domain: [...labels], label: null, type: "point" },
      color: colourOf(series),
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
        Plot.dot([...marks], { y: "label", x: "value", fill: "series", r: 5, title: markTitle }),
      ],
    },
    chart.title,
    document,
  );
  return standalone(svg, { title: chart.title, legend: legendOf(series), width, height });
}

const markTitle = ({ label, series, value, spread }: Mark) =>
  `${label}, ${series}: ${value.toFixed(2)}${spread === undefined ? "" : ` ± ${spread.toFixed(2)}`}`;

interface Frame {
  readonly title: string;
  readonly legend: readonly { readonly name: string; readonly colour: string }[];
  readonly width: number;
  readonly height: number;
}

/** Title and legend as parts of the image itself, so that the SVG stands alone. */
export function standalone(svg: string, { title, legend, width, height }: Frame): string {
  const top = legend.length > 0 ? 54 : 34;
  let x = 16;
  const keys = legend.map(({ name, colour }) => {
    const part = `<circle cx="${x + 5}" cy="40" r="5" fill="${colour}"/><text x="${x + 15}" y="44">${escapeHtml(name)}</text>`;
    x += 34 + 7 * name.length;
    return part;
  });
  const inner = svg.replace("<svg ", `<svg y="${top}" `);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + top}" ` +
    `viewBox="0 0 ${width} ${height + top}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${escapeHtml(title)}">` +
    `<rect width="100%" height="100%" fill="white"/><text x="16" y="22" font-size="15" font-weight="600">${escapeHtml(title)}</text>` +
    `${keys.join("")}${inner}</svg>\n`
  );
}
