// What the steps of the page share.
import type { StudentSize, WebDistillResult, WebImages, Wecolora, WebModel } from "wecolora/web/client";
import type { Step } from "./step.ts";

/** What was chosen and made so far. */
export interface State {
  teacher?: WebModel;
  images?: WebImages;
  /** How many images were chosen, about: files that are none are counted too. */
  imageCount?: number;
  sizes?: readonly StudentSize[];
  size?: StudentSize;
  run?: WebDistillResult;
  student?: WebModel;
}

export type StepName = "teacher" | "images" | "size" | "run" | "results" | "own" | "download";

export interface App {
  readonly library: Wecolora;
  readonly steps: Readonly<Record<StepName, Step>>;
  readonly state: State;
  /** Ends a prediction that is being made, and waits for that: its results are no longer wanted. */
  stopPrediction?: () => Promise<void>;
  /** Set by the steps that others hand on to. */
  onTeacher?: () => Promise<void>;
  onImages?: () => void;
  onRun?: () => Promise<void>;
}

/** Closes the steps behind one, whose results are no longer those of what was chosen. */
export function closeAfter({ steps }: App, name: StepName): void {
  const all = Object.keys(steps) as StepName[];
  for (const later of all.slice(all.indexOf(name) + 1)) steps[later].close();
}
