// How far a run is: its stage, a bar, and the time left, estimated from how fast it went so far.
import type { ProgressEvent } from "wecolora/web/client";
import { fill, h } from "./view.ts";
import { durationText } from "../../src/utils/duration.ts";

/** Seconds that each stage took of the demo's run that docs/reference/browser.md tells of: what is still to come is estimated by them. */
const shares: readonly (readonly [stage: string, title: string, share: number])[] = [
  ["reading images", "Reading images", 1],
  ["refitting blocks", "Refitting blocks", 105],
  ["saving the student", "Saving the student", 19],
  ["evaluating", "Evaluating", 48],
  ["measuring latency", "Measuring time per image", 13],
];
const whole = shares.reduce((sum, [, , share]) => sum + share, 0);

export class ProgressView {
  readonly element: HTMLElement;
  private readonly bar = h("progress", { max: 1, value: 0, "aria-label": "Progress of the run" });
  private readonly text = h("p", { role: "status" });
  private readonly begin = performance.now();

  constructor(cancel: () => void) {
    const button = h(
      "button",
      {
        type: "button",
        onclick: () => {
          button.disabled = true;
          fill(this.text, "Stopping...");
          cancel();
        },
      },
      "Cancel",
    );
    this.element = h("div", {}, this.bar, this.text, h("div", { className: "buttons" }, button));
  }

  take(event: ProgressEvent): void {
    if (event.status !== "stage" && event.status !== "progress") return;
    const at = shares.findIndex(([stage]) => stage === event.stage);
    const done = event.status === "progress" && event.total ? event.done / event.total : 0;
    const before = shares.slice(0, Math.max(0, at)).reduce((sum, [, , share]) => sum + share, 0);
    const share = at < 0 ? this.bar.value : (before + done * shares[at][2]) / whole;
    this.bar.value = Math.max(this.bar.value, share);
    const seconds = (performance.now() - this.begin) / 1000;
    // What was slow so far is so for the rest; too early, that says nothing.
    const remaining =
      share > 0.04 && seconds > 2 ? ` · about ${durationText(Math.ceil((seconds * (1 - share)) / share))} left` : "";
    const count = event.status === "progress" && event.total ? ` ${event.done} of ${event.total}` : "";
    fill(this.text, `${at < 0 ? event.stage : shares[at][1]}${count}${remaining}`);
  }
}
