// The first two steps: the teacher, and the images.
import type { FileTree, WebImages, WebModelInput, WebProgress } from "wecolora/web/client";
import type { App } from "./app.ts";
import { closeAfter } from "./app.ts";
import { filePicker } from "./drop.ts";
import { sampleImages, sampleTeacher } from "./sample.ts";
import { fill, h } from "./view.ts";
import { counted, megabytes, millions } from "./words.ts";

const facts = (entries: readonly (readonly [string, string])[]) =>
  h(
    "dl",
    { className: "facts" },
    entries.map(([title, text]) => h("div", {}, h("dt", {}, title), h("dd", {}, text))),
  );

export function chooseTeacher(app: App): void {
  const { library, steps, state } = app;
  const step = steps.teacher;
  const shown = h("div");

  async function load(input: () => WebModelInput | Promise<WebModelInput>, named: string): Promise<void> {
    closeAfter(app, "teacher");
    fill(shown);
    const warnings: string[] = [];
    await step.attempt(`Loading ${named}...`, async () => {
      await app.stopPrediction?.();
      await state.teacher?.dispose();
      const teacher = await library.fromPretrained(await input(), {
        onProgress(progress: WebProgress) {
          if (progress.status === "progress")
            step.say(`Downloading ${progress.file}: ${megabytes(progress.loaded)} of ${megabytes(progress.total)}`);
        },
        warn: (warning) => warnings.push(warning),
      });
      const sizes = await library.sizes(teacher);
      if (sizes.length === 0) throw new Error("This model has one block, which can't be made fewer.");
      Object.assign(state, { teacher, sizes });
      const { config, parameters, bytes } = teacher;
      fill(
        shown,
        facts([
          ["Blocks", String(config.depth)],
          ["Width", String(config.width)],
          ["Image size", `${config.imageSize} px`],
          ["Parameters", millions(parameters)],
          ...(bytes === undefined ? [] : ([["Size", megabytes(bytes)]] as const)),
        ]),
      );
      step.done(`${named} is loaded.`);
      step.note(...warnings);
      await app.onTeacher?.();
    });
  }

  const name = h("input", {
    type: "text",
    id: "hub-name",
    placeholder: "facebook/dinov2-small",
    autocomplete: "off",
    spellcheck: false,
  });
  const form = h(
    "form",
    {
      className: "row",
      onsubmit(event: SubmitEvent) {
        event.preventDefault();
        const id = name.value.trim() || name.placeholder;
        void load(() => id, id);
      },
    },
    h("div", {}, h("label", { for: "hub-name" }, "Or a model's name on the Hugging Face hub"), name),
    h("button", { type: "submit" }, "Load"),
  );
  const sample = h(
    "button",
    { type: "button", onclick: () => void load(sampleTeacher, "The sample teacher") },
    "Use the sample (43 MB)",
  );
  fill(
    step.body,
    h("p", { className: "soft" }, "The model to make smaller: DINOv2, ViT, DeiT, CLIP and others of their kind."),
    filePicker({
      what: "a model's folder or file (safetensors, .pth, .onnx, .zip)",
      accept: ".safetensors,.bin,.pth,.pt,.onnx,.json,.zip",
      take: (files) =>
        void load(() => files as WebModelInput, "name" in files && files.name ? files.name : "The model"),
      others: [sample],
    }),
    form,
    shown,
  );
}

export function chooseImages(app: App): void {
  const { steps, state } = app;
  const step = steps.images;

  async function take(input: () => FileTree | File | Promise<FileTree | File>): Promise<void> {
    closeAfter(app, "images");
    await step.attempt("Reading the list of images...", async () => {
      await app.stopPrediction?.();
      const images = await input();
      const count = "files" in images ? imageNames(images).length : undefined;
      if (count === 0) throw new Error("There are no images among these files (JPEG, PNG, WebP, AVIF, GIF or BMP).");
      Object.assign(state, { images, imageCount: count });
      step.done(describe(images, count));
      if (count !== undefined && count < 30)
        step.note("So few images make a rough student and rough figures. 90 or more are better.");
      app.onImages?.();
    });
  }

  /** Procedural images stand in for real ones. */
  function useNone(): void {
    closeAfter(app, "images");
    const images: WebImages = `procedural:${proceduralImages}`;
    void step.attempt("", async () => {
      await app.stopPrediction?.();
      Object.assign(state, { images, imageCount: proceduralImages });
      step.done(`${proceduralImages} procedural images stand in for real ones.`);
      step.note("Images of what the model will see make a better student, and figures that hold for them.");
      app.onImages?.();
    });
  }

  fill(
    step.body,
    h(
      "p",
      { className: "soft" },
      "About a hundred images of what the model will see. Labels are not needed; class folders add k-NN accuracy and a linear probe to the results.",
    ),
    filePicker({
      what: "a folder of images, or a zip",
      accept: "image/*,.zip,.tar,.parquet",
      take: (files) => void take(() => files),
      others: [
        h("button", { type: "button", onclick: () => void take(sampleImages) }, "Use the sample images (7 MB)"),
        h("button", { type: "button", onclick: () => useNone() }, "I have no images"),
      ],
    }),
  );
}

/** As many as make a rough student in minutes. */
const proceduralImages = 90;

const imageName = /\.(jpe?g|png|webp|avif|gif|bmp)$/i;
const imageNames = ({ files }: FileTree) => [...files.keys()].filter((name) => imageName.test(name));

function describe(images: FileTree | File, count: number | undefined): string {
  if (!("files" in images) || count === undefined) return `${images.name ?? "The file"} was chosen.`;
  // A class may have a folder in each split.
  const folders = new Set(imageNames(images).flatMap((name) => name.split("/").slice(-2, -1)));
  const classes = folders.size > 1 ? `; by their folders, ${folders.size} classes` : "";
  return `${counted(count, "image")}${classes}.`;
}
