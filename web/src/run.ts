// The fourth step: the run, which can be cancelled.
import type { App } from "./app.ts";
import { closeAfter } from "./app.ts";
import { ProgressView } from "./progress.ts";
import { durationText } from "../../src/utils/duration.ts";
import { fill, h } from "./view.ts";
import { messageOf } from "./words.ts";

export function makeRun(app: App): void {
  const { library, steps, state } = app;
  const step = steps.run;
  const place = h("div");
  const button = h("button", { type: "button", className: "primary", onclick: () => void run() }, "Make the student");
  fill(step.body, h("div", { className: "buttons" }, button), place);

  async function run(): Promise<void> {
    const { teacher, images, size } = state;
    if (!teacher || !images || !size) return;
    closeAfter(app, "run");
    button.disabled = true;
    step.note();
    step.say("");
    const controller = new AbortController();
    const view = new ProgressView(() => controller.abort());
    fill(place, view.element);
    const warnings: string[] = [];
    const begin = performance.now();
    try {
      await app.stopPrediction?.();
      state.run = await library.distill({
        teacher,
        images,
        method: "refit",
        budget: size.budget,
        shape: "balanced",
        // The report is made behind it, with what this page shows of it.
        report: false,
        signal: controller.signal,
        onProgress(event) {
          view.take(event);
          if (event.status === "warning") warnings.push(event.message);
        },
      });
      await app.onRun?.();
      step.done(`Done in ${durationText((performance.now() - begin) / 1000)}.`);
    } catch (error) {
      const stopped = controller.signal.aborted;
      step.say(stopped ? "The run was cancelled. Nothing was kept." : messageOf(error), stopped ? "" : "error");
    } finally {
      fill(place);
      step.note(...warnings);
      button.disabled = false;
    }
  }
}
