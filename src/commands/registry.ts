// All of `wecolora`'s commands, from the files of this folder. Made by `npm run generate`; don't edit it.
import { command as cacheCommand } from "./cache.ts";
import { command as cancelCommand } from "./cancel.ts";
import { command as compareCommand } from "./compare.ts";
import { command as distillCommand } from "./distill.ts";
import { command as evaluateCommand } from "./evaluate.ts";
import { command as exportCommand } from "./export.ts";
import { command as featuresCommand } from "./features.ts";
import { command as inspectCommand } from "./inspect.ts";
import { command as mergeCommand } from "./merge.ts";
import { command as reportCommand } from "./report.ts";
import { command as rolloutCommand } from "./rollout.ts";
import { command as segmentCommand } from "./segment.ts";
import { command as similarityCommand } from "./similarity.ts";
import { command as statusCommand } from "./status.ts";
import { command as taskCommand } from "./task.ts";

export const commands = [
  cacheCommand,
  cancelCommand,
  compareCommand,
  distillCommand,
  evaluateCommand,
  exportCommand,
  featuresCommand,
  inspectCommand,
  mergeCommand,
  reportCommand,
  rolloutCommand,
  segmentCommand,
  similarityCommand,
  statusCommand,
  taskCommand,
] as const;
