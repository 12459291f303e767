// What a run came to: table, neighbours and attention maps.
import type { ResultRow, RunReport } from "wecolora/web/client";
import { h } from "./view.ts";
import { megabytes, milliseconds, millions } from "./words.ts";

const percent = (share: number | undefined) => (share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);

const figures: readonly (readonly [title: string, text: (row: ResultRow) => string])[] = [
  ["Parameters", ({ parameters }) => (parameters === undefined ? "–" : millions(parameters))],
  ["Size", ({ bytes }) => (bytes === undefined ? "–" : megabytes(bytes))],
  ["Time per image", ({ millisecondsPerImage: ms }) => (ms === undefined ? "–" : milliseconds(ms))],
  ["Cosine similarity", ({ fidelity }) => fidelity?.cosine.toFixed(3) ?? "–"],
  ["Feature difference", ({ fidelity }) => fidelity?.meanAbsoluteDifference.toFixed(3) ?? "–"],
  ["k-NN", ({ knn }) => percent(knn?.top1)],
  ["Linear probe", ({ probe }) => percent(probe?.top1)],
  ["Classifier", ({ head }) => percent(head?.top1)],
];

/**
 * Teacher, baseline and student beside each other, with a row for each figure, so that it fits a telephone. Figures that nothing
 * was measured for are left out.
 */
export function resultTable(models: readonly ResultRow[]): HTMLElement {
  const used = figures.filter(([, text]) => models.some((row) => text(row) !== "–"));
  const images = models[0]?.images;
  return h(
    "div",
    { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table of results" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td"),
          models.map(({ name }) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        used.map(([title, text]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, title),
            models.map((row) => h("td", {}, text(row))),
          ),
        ),
      ),
    ),
    images === undefined
      ? undefined
      : h(
          "p",
          { className: "soft" },
          `Evaluated on ${images} image${images === 1 ? "" : "s"}${images < 100 ? ". So few give rough figures: the report has their 95 % confidence intervals." : "."}`,
        ),
  );
}

const thumbnail = (name: string, image: string | undefined, className?: string) =>
  h("img", { src: image ?? "data:,", alt: className ?? name.split("/").at(-1) ?? name, title: name });

/** Some images with their nearest ones under teacher and student. */
export function neighbourList({ neighbours: knn }: RunReport): HTMLElement | undefined {
  if (knn.length === 0) return undefined;
  return h(
    "ul",
    { className: "neighbours" },
    knn.map(({ name, image, className, nearest }) =>
      h(
        "li",
        {},
        h("div", { className: "query" }, thumbnail(name, image, className), h("div", { className: "name" }, className)),
        Object.entries(nearest).map(([model, list]) =>
          h(
            "div",
            {},
            h("div", { className: "name" }, `${model}'s nearest`),
            h(
              "ul",
              { className: "thumbnails" },
              list.map((one) => h("li", {}, thumbnail(one.name, one.image, one.className))),
            ),
          ),
        ),
      ),
    ),
  );
}

/** An image and where teacher and student look in it. */
export function attentionItem(image: string, models: Readonly<Record<string, string>>, name: string): HTMLElement {
  const figure = (source: string, caption: string, alt: string) =>
    h("figure", {}, h("img", { src: source, alt }), h("figcaption", {}, caption));
  return h(
    "li",
    {},
    h(
      "div",
      { className: "triple" },
      figure(image, "image", name),
      Object.entries(models).map(([model, map]) => figure(map, model, `where the ${model} looks in ${name}`)),
    ),
  );
}

export function attentionList({ attention }: RunReport): HTMLElement | undefined {
  if (attention.length === 0) return undefined;
  return h(
    "ul",
    { className: "maps" },
    attention.map(({ name, image, models }) => attentionItem(image ?? "", models, name.split("/").at(-1) ?? name)),
  );
}
