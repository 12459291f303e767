// Import directions (ARCHITECTURE.md, "Folders"): each folder may import those named here and itself, nothing else.
const pure = ["utils"];
const mayImport = {
  utils: [],
  graph: pure,
  autograd: ["graph", ...pure],
  passes: ["graph", ...pure],
  onnx: ["graph", ...pure],
  wasm: ["graph", ...pure],
  nn: ["graph", ...pure],
  optim: ["graph", ...pure],
  runtime: pure,
  files: pure,
  checkpoints: ["files", ...pure],
  data: ["files", ...pure],
  report: pure,
  models: ["nn", "checkpoints", "files", "graph", ...pure],
  distill: ["models", "data", "optim", "autograd", "passes", "nn", "graph", "runtime", "top", ...pure],
  evaluation: ["models", "data", "optim", "autograd", "nn", "graph", "runtime", "top", ...pure],
  export: ["distill", "report", "models", "checkpoints", "files", "onnx", "passes", "graph", ...pure],
  importing: ["models", "onnx", "passes", "runtime", "graph", "top", ...pure],
  run: [
    "distill",
    "evaluation",
    "export",
    "report",
    "data",
    "models",
    "checkpoints",
    "files",
    "runtime",
    "top",
    ...pure,
  ],
  platform: [
    "run",
    "importing",
    "onnx",
    "report",
    "distill",
    "evaluation",
    "export",
    "models",
    "data",
    "checkpoints",
    "files",
    "runtime",
    "graph",
    "top",
    ...pure,
  ],
};

/** `top` stands for compile.ts, model.ts and precision.ts, which join the graph side with the runtime side. */
const pattern = (folder) => (folder === "top" ? "src/(compile|model|precision|index)[.]ts" : `src/${folder}/`);

const directions = Object.entries(mayImport).map(([folder, allowed]) => ({
  name: `${folder}-imports`,
  severity: "error",
  from: { path: `^src/${folder}/` },
  to: { path: "^src/", pathNot: `^(${[folder, ...allowed].map(pattern).join("|")})` },
}));

module.exports = {
  forbidden: [
    ...directions,
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "node-only-in-platform-and-cli",
      comment: "everything else must run in a browser",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(platform|cli)/" },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "runtime-is-handed-in",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/platform/" },
      to: { path: "node_modules/(onnxruntime-|sharp)" },
    },
    {
      name: "orphans",
      severity: "error",
      from: { orphan: true, path: "^src/" },
      to: {},
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "types"] },
  },
};
