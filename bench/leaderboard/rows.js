// The rows of the leaderboard. A row is { label, images, ... } and one of
//   method, options    a student, by `wecolora distill --method METHOD` with further options (the shape is the default's unless
//                      they say otherwise); without a method the teacher itself. Options may be a function of { milliseconds },
//                      the teacher's time;
//   export, exportOptions   what is loaded is this export of it; the file itself is run. Without one, the student is loaded as it
//                      is stored, in float32 products. Its options may be a function of { images, draw, calibration }, where
//                      `calibration` is a folder with the draw's images;
//   short              its name in the charts, where it has one; `namedBy`: in that of "time" alone;
//   deployed           the export that a search chose (`budget`, `agreement`) is what is loaded;
//   rival, arguments   a script of bench/rivals instead of both, which writes an ONNX file; with `single`, one that takes one image.
// `images` lists how many images it may see, of 0, 30, 90, 300 and 593; 0 has one draw, 593 all images. `reduction` is that of the
// student (2 where left out). `kind` groups rows in the charts.
const few = [30, 90, 300, 593];
const half = { reductionFactor: 2 };

const student = (label, method, options = {}, more = {}) => ({
  label,
  method,
  options: { ...half, ...options },
  images: few,
  kind: "other methods, here",
  ...more,
});
const ours = (label, options = {}, more = {}) =>
  student(label, "refit", { shape: "balanced", ...options }, { kind: "wecolora", ...more });
/** The best model for a budget, by the search over shape, tokens and bits: the file that it ships. */
const within = (budget, images = [30, 90, 300, 593]) => ({
  label: `wecolora, ${budget}`,
  short: budget,
  method: "refit",
  options: { shape: "by-block", budget },
  deployed: true,
  images,
  kind: "wecolora",
});
/** The same for a share of the teacher's time in float32, on a machine that does nothing else. */
const withinTime = (timeShare, images = [90]) => ({
  ...within(`${timeShare} of the time`, images),
  short: `${timeShare}× time`,
  namedBy: "time",
  // For a teacher of 100 ms; the run has its own.
  options: ({ milliseconds = 100 }) => ({ shape: "by-block", budget: `${(timeShare * milliseconds).toFixed(1)}ms` }),
});
/** An export of the teacher itself, its weights rounded for the images where there are any. */
const teacherAs = (label, to, exportOptions, images = [0], short = undefined) => ({
  label: `teacher, ${label}`,
  export: to,
  exportOptions: ({ calibration }) => ({
    ...exportOptions,
    ...(calibration === undefined ? {} : { images: calibration }),
  }),
  shown: exportOptions,
  short,
  images,
  kind: "wecolora",
});
const rival = (label, script, scriptArguments, images, short = undefined) => ({
  label,
  short,
  rival: script,
  arguments: scriptArguments,
  images,
  kind: "other packages",
});

export const rows = [
  { label: "teacher", images: [0], kind: "teacher", short: "teacher" },
  { label: "teacher, float16", export: "onnx-float16", images: [0], kind: "teacher" },
  { label: "teacher, int8", export: "onnx-int8", images: [0], kind: "teacher" },
  { label: "teacher, 8-bit weights", export: "onnx-int8-weights", images: [0], kind: "teacher" },
  {
    label: "weight copy, half",
    short: "weight copy",
    method: "weight-copy",
    options: half,
    images: [0],
    kind: "other methods, here",
  },
  student("magnitude, half", "magnitude", {}, { images: [0], short: "magnitude" }),
  student("Wanda, half", "wanda", {}, { short: "Wanda" }),
  student("Taylor, half", "taylor"),
  student("GRAIL (Wanda), half", "grail", {}, { short: "GRAIL" }),
  student("GRAIL (magnitude), half", "grail", { selection: "magnitude" }),
  student("SnapViT, half", "snapvit"),
  student("SnapViT, corrected, half", "snapvit", { correction: true }, { short: "SnapViT" }),
  student("CORP, half", "corp", {}, { short: "CORP" }),
  ours("wecolora, half"),
  ours("wecolora, third", { reductionFactor: 3 }),
  ours("wecolora, quarter", { reductionFactor: 4 }),
  ours("wecolora, half, int8", {}, { export: "onnx-int8" }),
  ours("wecolora, half, by block", { shape: "by-block" }, { short: "half" }),
  ours("wecolora, third, by block", { shape: "by-block", reductionFactor: 3 }, { short: "third" }),
  ours("wecolora, quarter, by block", { shape: "by-block", reductionFactor: 4 }, { short: "quarter" }),
  ours("wecolora, half, by block, prior", { shape: "by-block", priorImages: 150 }, { images: [30, 90] }),
  ours(
    "wecolora, third, by block, prior",
    { shape: "by-block", reductionFactor: 3, priorImages: 150 },
    { images: [90] },
  ),
  ours(
    "wecolora, quarter, by block, prior",
    { shape: "by-block", reductionFactor: 4, priorImages: 150 },
    { images: [90] },
  ),
  {
    ...ours("wecolora, half, no images"),
    options: { reductionFactor: 2, shape: "balanced" },
    images: [0],
    invented: true,
    short: "half, no images",
  },
  {
    ...ours("wecolora, half, by block, no images"),
    options: { reductionFactor: 2, shape: "by-block" },
    images: [0],
    invented: true,
  },
  teacherAs("4 bits", "onnx-q4", {}, [0, 90]),
  teacherAs("4 bits, blocks of 64", "onnx-q4", { blockSize: 64 }, [0, 90]),
  teacherAs("4 bits, blocks of 128", "onnx-q4", { blockSize: 128 }, [0, 90], "4-bit"),
  teacherAs("3 bits, blocks of 128", "onnx-q4", { bits: 3, blockSize: 128 }, [90], "3-bit"),
  teacherAs("2 bits, blocks of 64", "onnx-q4", { bits: 2, blockSize: 64 }, [90], "2-bit"),
  teacherAs("13 tokens merged a block", "onnx", { mergeTokens: 13 }),
  teacherAs("20 tokens merged a block", "onnx", { mergeTokens: 20 }),
  teacherAs("int8, 20 tokens merged a block", "onnx-int8", { mergeTokens: 20 }),
  teacherAs("4 bits, 20 tokens merged a block", "onnx-q4", { mergeTokens: 20 }, [0, 90]),
  within("12.5MB"),
  within("7MB"),
  within("4.5MB"),
  withinTime(0.5),
  withinTime(0.33),
  withinTime(0.2),
  rival("Torch-Pruning magnitude, half", "torch_pruning_vit.py", ["--criterion", "magnitude"], [0], "Torch-Pruning"),
  rival("Torch-Pruning Taylor, half", "torch_pruning_vit.py", ["--criterion", "taylor"], few, "Torch-Pruning"),
  rival("ONNX Runtime dynamic int8", "onnxruntime_quantize.py", ["--kind", "dynamic-int8"], [0]),
  rival("ONNX Runtime 4-bit", "onnxruntime_quantize.py", ["--kind", "matmul-4bits"], [0]),
  rival("onnxsim, simplified", "onnxsim_model.py", ["--kind", "simplify"], [0]),
  { ...rival("onnxsim magnitude, half", "onnxsim_model.py", ["--kind", "magnitude"], [0]), single: true },
  { ...rival("onnxsim Wanda, half", "onnxsim_model.py", ["--kind", "wanda"], few), single: true },
  rival("onnxsim 4-bit", "onnxsim_model.py", ["--kind", "matmul-4bits"], [0]),
];
