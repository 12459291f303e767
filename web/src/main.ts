// The page: teacher, images, size, run, results, one's own image, download. All work happens in the worker.
import { connectWecolora } from "wecolora/web/client";
import { chooseImages, chooseTeacher } from "./inputs.ts";
import { isolate } from "./isolation.ts";
import { makeRun } from "./run.ts";
import { showOutcome } from "./outcome.ts";
import { chooseSize } from "./size.ts";
import type { App } from "./app.ts";
import { Step } from "./step.ts";
import { fill, h } from "./view.ts";
import { messageOf } from "./words.ts";

const main = document.getElementById("steps") ?? document.body;

function start(): void {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const steps = {
    teacher: new Step(1, "teacher", "Teacher"),
    images: new Step(2, "images", "Images"),
    size: new Step(3, "size", "Size"),
    run: new Step(4, "run", "Run"),
    results: new Step(5, "results", "Results"),
    own: new Step(6, "own", "Try your own image"),
    download: new Step(7, "download", "Download and use"),
  };
  const app: App = { library: connectWecolora(worker), steps, state: {} };
  fill(
    main,
    Object.values(steps).map(({ section }) => section),
  );
  chooseTeacher(app);
  chooseImages(app);
  chooseSize(app);
  makeRun(app);
  showOutcome(app);
  steps.teacher.open();
  // ONNX Runtime is fetched now, not in the middle of the work; what goes wrong is said where it is needed.
  app.library.device().catch(() => undefined);
}

isolate().then(start, (error: unknown) => {
  fill(main, h("p", { className: "error", role: "alert" }, messageOf(error)));
});
