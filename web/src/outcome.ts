// The last steps: results, one's own image, downloads.
import type { App } from "./app.ts";
import { filePicker } from "./drop.ts";
import { attentionItem, attentionList, neighbourList, resultTable } from "./results.ts";
import { snippets } from "./snippets.ts";
import { fill, h, save } from "./view.ts";
import { megabytes } from "./words.ts";

export function showOutcome(app: App): void {
  const { library, steps, state } = app;
  ownImage(app);
  app.onRun = async () => {
    const { run, teacher } = state;
    if (!run || !teacher) return;
    const report = await library.report({ run: run.output, teacher });
    state.student = await library.fromPretrained(run.student);
    const page = URL.createObjectURL(await run.output.file("report.html"));
    const part = (title: string, content: HTMLElement | undefined) => content && [h("h3", {}, title), content];
    fill(
      steps.results.body,
      report.verdicts.map((sentence) => h("p", { className: "verdict" }, sentence)),
      resultTable(run.results),
      part("Nearest neighbours", neighbourList(report)),
      part("Attention maps", attentionList(report)),
      h(
        "details",
        {},
        h("summary", {}, "The run's report"),
        h("iframe", { src: page, title: "Report of the run", loading: "lazy" }),
      ),
    );
    download(app);
    for (const name of ["results", "own", "download"] as const) {
      steps[name].open();
      steps[name].say("");
    }
    steps.results.section.querySelector("h2")?.scrollIntoView({ block: "start" });
  };
}

function ownImage(app: App): void {
  const { library, steps, state } = app;
  const step = steps.own;
  const shown = h("ul", { className: "maps" });
  fill(
    step.body,
    h("p", { className: "soft" }, "See where teacher and student look in an image that neither was evaluated on."),
    filePicker({
      what: "an image",
      folder: false,
      accept: "image/*",
      take: (files) => void take("files" in files ? [...files.files.values()] : [files]),
    }),
    shown,
  );

  async function take(images: readonly Blob[]): Promise<void> {
    const { teacher, student } = state;
    if (!teacher || !student) return;
    await step.attempt("Running both models...", async () => {
      const maps = await library.attention({ models: { teacher, student }, images: images as readonly File[] });
      const seen = await Promise.all(
        [teacher, student].map(async (model) => (await model.forward(await model.preprocess(images))).pooled),
      );
      const url = (blob: Blob) => URL.createObjectURL(blob);
      fill(
        shown,
        maps.map(({ name, image, models }) =>
          attentionItem(
            url(image),
            Object.fromEntries(Object.entries(models).map(([model, map]) => [model, url(map)])),
            name,
          ),
        ),
      );
      const width = seen[0].dims[1];
      const cosines = images.map((_, i) => cosine(seen[0].data, seen[1].data, i * width, width));
      step.say(`Cosine similarity of the two models' features: ${cosines.map((c) => c.toFixed(3)).join(", ")}.`);
    });
  }
}

function cosine(a: Float32Array, b: Float32Array, from: number, length: number): number {
  let [dot, left, right] = [0, 0, 0];
  for (let i = from; i < from + length; i++) {
    dot += a[i] * b[i];
    left += a[i] ** 2;
    right += b[i] ** 2;
  }
  return dot / Math.sqrt(left * right);
}

/** Formats that are offered besides the folder: their names in the library, and what buttons say. */
const formats = [
  ["onnx", "ONNX, float32"],
  ["onnx-float16", "ONNX, float16"],
  ["onnx-int8", "ONNX, int8"],
  ["onnx-q4", "ONNX, 4 bits"],
] as const;

function download({ library, steps, state }: App): void {
  const step = steps.download;
  const { run } = state;
  if (!run) return;
  const whole = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) =>
    new Response(stream, { headers: { "content-type": "application/zip" } }).blob();
  const button = (text: string, work: () => Promise<void>) => {
    const made = h("button", { type: "button", onclick: () => void go() }, text);
    const go = async () => {
      made.disabled = true;
      await step.attempt(`${text}...`, work);
      made.disabled = false;
    };
    return made;
  };
  const zip = button("Student and report (zip)", async () => {
    const blob = await whole(run.output.zip("wecolora-run"));
    save(blob, "wecolora-run.zip");
    step.done(`wecolora-run.zip: ${megabytes(blob.size)}.`);
  });
  zip.classList.add("primary");
  const exports = formats.map(([format, title]) =>
    button(title, async () => {
      const made = await library.exportModel({ model: run.output, to: [format] });
      const [{ bytes, cosine: near, images }] = made.exports;
      save(await whole(made.output.zip(`student-${format}`)), `student-${format}.zip`);
      step.done(
        `student-${format}.zip: ${megabytes(bytes)} of weights, cosine similarity ${near.toFixed(4)} to the student on ${images} images.`,
      );
    }),
  );
  const card = button("Model card", async () => {
    save(await run.output.file("student/README.md"), "README.md");
    step.done("README.md: the student's model card.");
  });
  fill(
    step.body,
    h(
      "p",
      { className: "soft" },
      "The zip's student/ folder loads in transformers, transformers.js and the command line; its onnx/ in any ONNX Runtime.",
    ),
    h("div", { className: "buttons" }, zip, exports, card),
    snippets.map(([title, code]) => {
      const copy = h(
        "button",
        {
          type: "button",
          "aria-label": `Copy the code for ${title}`,
          onclick: () => void navigator.clipboard.writeText(code).then(() => step.say("Copied.")),
        },
        "Copy",
      );
      return [
        h("h3", {}, title),
        h("pre", { tabIndex: 0, "aria-label": `Code for ${title}` }, code),
        h("div", { className: "buttons" }, copy),
      ];
    }),
  );
}
