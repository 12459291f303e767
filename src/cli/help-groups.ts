// How help sorts options: by what they are about, the important ones first. Options that no group names are for rare
// cases, and shown by --help-all.

interface Group {
  readonly title: string;
  /** Options by name, in this order. */
  readonly options: readonly string[];
}

/** What `--help` shows. */
export const groups: readonly Group[] = [
  {
    title: "Basics",
    options: [
      ...["teacher", "model", "runs", "data", "data-b", "student", "out", "to", "recipe", "method", "resume"],
      ...["quick", "overwrite", "plan", "index", "watch", "waitMinutes"],
    ],
  },
  {
    title: "Size",
    options: [
      "reductionFactor",
      "budget",
      "agreement",
      "sizes",
      "levers",
      "shape",
      "keep",
      "keptBlocks",
      "mergeTokens",
    ],
  },
  {
    title: "Training",
    options: ["epochs", "steps", "rank", "targetModules", "loss", "baseLearningRate", "earlyStop"],
  },
  {
    title: "Images",
    options: ["fewShotRatio", "fewShotCount", "dataSet", "normalization", "heldOut", "maxImages", "kinds"],
  },
  {
    title: "Evaluation",
    options: [
      "evaluate",
      "evaluateTeacher",
      "labelledImages",
      "evaluationImages",
      "knnK",
      "probe",
      "frontier",
      "search",
    ],
  },
  { title: "Output", options: ["export", "weightType", "report", "title"] },
  {
    title: "Cluster",
    options: ["launcher", "tasks", "maxParallel", "retries", "slurm", "kubernetes", "apply"],
  },
  { title: "Runtime", options: ["device", "threads", "precision", "seed", "revision", "offline"] },
];

/** What `wecolora --help` lists: commands by what they are for. */
export const commandGroups: readonly { readonly title: string; readonly commands: readonly string[] }[] = [
  { title: "Make a student", commands: ["distill", "demo", "compare", "cache"] },
  {
    title: "Evaluate and look inside",
    commands: ["evaluate", "inspect", "report", "similarity", "rollout", "segment"],
  },
  { title: "Use a model", commands: ["export", "features"] },
  { title: "Work in tasks", commands: ["status", "cancel", "task", "merge"] },
];
