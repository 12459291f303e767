// The third step: the size, with what is predicted for it.
import type { FrontierPoint } from "wecolora/web/client";
import { memoryNeeded, mostWasmBytes } from "wecolora/web/client";
import type { App } from "./app.ts";
import { fill, h } from "./view.ts";
import { gigabytes, megabytes, messageOf, milliseconds, millions } from "./words.ts";

/** A figure at a number of weights, between those that were measured. */
function between(points: readonly FrontierPoint[], parameters: number, figure: (point: FrontierPoint) => number) {
  const sorted = [...points].sort((a, b) => a.parameters - b.parameters);
  const above = sorted.find((point) => point.parameters >= parameters) ?? sorted[sorted.length - 1];
  const below = sorted.findLast((point) => point.parameters <= parameters) ?? sorted[0];
  const span = above.parameters - below.parameters;
  const share = span > 0 ? Math.min(1, Math.max(0, (parameters - below.parameters) / span)) : 0;
  return figure(below) + share * (figure(above) - figure(below));
}

/** Sizes that are measured for a prediction: a quarter, a half and three quarters of the blocks. */
const measured = (depth: number) => [...new Set([1, 2, 3].map((i) => Math.max(1, Math.round((i * depth) / 4))))];

export function chooseSize(app: App): void {
  const { library, steps, state } = app;
  const step = steps.size;
  let points: readonly FrontierPoint[] = [];

  const slider = h("input", { type: "range", id: "size-slider", min: 1, step: 1, oninput: () => show() });
  const [size, share, time, cosine] = [h("dd"), h("dd"), h("dd"), h("dd")];
  const fact = (title: string, value: HTMLElement) => h("div", {}, h("dt", {}, title), value);
  const predict = h("button", { type: "button", onclick: () => startPrediction() }, "Predict again");
  let predicting: { readonly controller: AbortController; readonly ended: Promise<void> } | undefined;
  const memory = h("p", { className: "soft" });

  function show(): void {
    const chosen = state.sizes?.[Number(slider.value) - 1];
    if (!chosen || !state.teacher) return;
    state.size = chosen;
    const { bytes, parameters } = chosen;
    fill(size, megabytes(bytes));
    fill(share, `${(100 * chosen.share).toFixed(0)} %`, " ", h("small", {}, millions(parameters)));
    const hasLoss = points.length > 1;
    fill(time, hasLoss ? milliseconds(between(points, parameters, (p) => p.milliseconds)) : "–");
    fill(cosine, hasLoss ? between(points, parameters, (p) => p.cosine).toFixed(3) : "–");
    slider.setAttribute(
      "aria-valuetext",
      `${(100 * chosen.share).toFixed(0)} percent of the weights, ${megabytes(bytes)}`,
    );
  }

  async function measure(signal: AbortSignal): Promise<void> {
    const { teacher, images } = state;
    if (!teacher || !images) return;
    predict.disabled = true;
    step.say("Predicting time and fidelity: students of three sizes on a few images...");
    try {
      points = await library.predict({
        teacher,
        images,
        sizes: measured(teacher.config.depth),
        signal,
        onProgress(event) {
          if (event.status === "progress" && event.total)
            step.say(`Predicting time and fidelity. ${event.stage}: ${event.done} of ${event.total}`);
        },
      });
      show();
      step.say("Predicted from students that were refitted on up to 24 of the images. The run's own will be better.");
    } catch (error) {
      if (signal.aborted) step.say("The prediction was stopped.");
      else step.say(messageOf(error), "error");
    }
    predict.disabled = false;
  }

  function startPrediction(): void {
    const controller = new AbortController();
    predicting = { controller, ended: measure(controller.signal) };
  }

  app.stopPrediction = async () => {
    predicting?.controller.abort();
    await predicting?.ended;
  };

  app.onTeacher = async () => {
    points = [];
    const { sizes = [] } = state;
    slider.max = String(sizes.length);
    const half = sizes.findIndex(({ share: loss }) => loss >= 0.5);
    slider.value = String(Math.max(1, half < 0 ? sizes.length : half + 1));
    show();
    steps.images.open();
    if (state.images) app.onImages?.();
  };

  app.onImages = () => {
    const { teacher, imageCount = 100 } = state;
    if (!teacher) return;
    const needed = memoryNeeded(teacher, imageCount);
    fill(memory, `The run needs about ${gigabytes(needed.wasm + needed.script)} of memory.`);
    steps.size.open();
    if (needed.wasm > mostWasmBytes) {
      step.say(
        `This teacher is too large for a browser: WASM has ${gigabytes(mostWasmBytes)} of memory, and the run needs about ${gigabytes(needed.wasm)}. Use the command line: npx wecolora distill.`,
        "error",
      );
      steps.run.close();
      return;
    }
    step.say("");
    steps.run.open();
    // At once: a slider without its figures would be a guess.
    startPrediction();
    void library
      .device((warning) => step.note(warning))
      .then(
        ({ name, threads = 1 }) =>
          fill(
            memory,
            `The run needs about ${gigabytes(needed.wasm + needed.script)} of memory. It uses ${name === "webgpu" ? "WebGPU" : `WASM with ${threads} thread${threads === 1 ? "" : "s"}`}.`,
          ),
        (error: unknown) => step.say(messageOf(error), "error"),
      );
  };

  fill(
    step.body,
    h("label", { for: "size-slider" }, "Size of the student"),
    slider,
    h(
      "dl",
      { className: "facts" },
      fact("Size on disk", size),
      fact("Weights", share),
      fact("Time per image", time),
      fact("Cosine similarity", cosine),
    ),
    h("div", { className: "buttons" }, predict),
    memory,
  );
}
