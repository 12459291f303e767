// Import directions (ARCHITECTURE.md, "Folders"): each folder may import those named here and itself, nothing else.
const base = ["utils"];
const graph = ["engine/graph", ...base];
const engine = ["engine", "runtime", ...base];
const mayImport = {
  utils: [],
  "engine/graph": base,
  "engine/autograd": graph,
  "engine/passes": graph,
  "engine/onnx": graph,
  "engine/wasm": graph,
  "engine/nn": graph,
  "engine/optim": graph,
  engine: ["runtime", ...base],
  runtime: base,
  files: base,
  checkpoints: ["files", ...base],
  models: ["checkpoints", "files", ...engine],
  data: ["files", ...base],
  report: base,
  context: ["data", "models", "evaluation", "files", "runtime", ...base],
  workspace: ["context", "checkpoints", "data", "files", "report", ...base],
  evaluation: ["models", "data", "report", "workspace", "context", "files", ...engine],
  students: ["models", "data", "evaluation", "report", "workspace", "context", "files", ...engine],
  segmentation: ["models", "data", "files", ...engine],
  exports: ["students", "evaluation", "models", "data", "report", "context", "checkpoints", "files", ...engine],
  launchers: ["workspace", "context", "files", ...base],
  commands: [
    "launchers",
    "students",
    "segmentation",
    "evaluation",
    "exports",
    "report",
    "workspace",
    "context",
    "data",
    "models",
    "checkpoints",
    "files",
    "runtime",
    ...base,
  ],
  platform: [
    "report",
    "students",
    "index",
    "commands",
    "exports",
    "workspace",
    "evaluation",
    "context",
    "data",
    "models",
    "checkpoints",
    "files",
    ...engine,
  ],
};

const pattern = (folder) => (folder === "index" ? "src/index[.]ts" : `src/${folder}/`);

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
      name: "platforms-stand-apart",
      comment: "what both need lies in platform/ itself",
      severity: "error",
      from: { path: "^src/platform/(node|web)/" },
      to: { path: "^src/platform/(node|web)/", pathNot: "^src/platform/$1/" },
    },
    {
      name: "web-without-node",
      severity: "error",
      from: { path: "^src/(platform/web/|platform/[^/]+[.]ts$)" },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "web-runtime-is-handed-in",
      severity: "error",
      from: { path: "^src/(platform/web/|platform/[^/]+[.]ts$)" },
      to: { path: "node_modules/(onnxruntime-|sharp)" },
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
