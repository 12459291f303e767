// What the command line knows of all commands before it loads them. Made by `npm run generate` from their schemas; don't edit it.
import type { CommandRow } from "./command-row.ts";

export const commandTable: readonly CommandRow[] = [
  {
    name: "compare",
    summary: "Run a grid of distillations and compare them in one table; needs --config.",
    positional: [],
    options: {
      teacher: { type: "string", description: "the teacher, where the grid has none" },
      data: { type: "string", description: "the images, where the grid has none" },
      out: { type: "string", description: "output folder of the comparison; each run has a folder in it" },
      title: { type: "string", description: "title above the table" },
      grid: {
        description:
          "options of distill, each with the values to try; several seeds give mean and spread; several grids share one table",
        anyOf: [{ type: "object" }, { type: "array", items: { type: "object" } }],
      },
      base: { type: "object", description: "options of distill that all runs share", default: {} },
      evaluations: {
        type: "object",
        description: "further evaluations of each student, by name: options of evaluate, data among them",
        default: {},
      },
      published: {
        type: "array",
        description: "a paper's figures, shown beside the measured ones",
        items: { type: "object" },
      },
      overwrite: {
        type: "boolean",
        description: "run again where settings, teacher or data have changed",
        default: false,
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
    },
    required: ["out", "grid"],
  },
  {
    name: "distill",
    summary: "Distil a teacher into a smaller student.",
    positional: ["teacher", "data", "out"],
    options: {
      teacher: {
        type: "string",
        description: "the teacher: a model's directory, its file of weights, or its hub name",
      },
      data: {
        type: "string",
        description:
          "images: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded, or a .csv, .tsv, .jsonl, .txt, .parquet, .tar, .nii, .nii.gz or .zip; procedural:<n> for n procedural images",
        default: "procedural:300",
      },
      dataSet: {
        type: "string",
        description: "which published data set it is, where its files don't show it",
        enum: ["imagenet", "inaturalist2019", "cifar10", "cifar100", "resisc45", "chestxray14"],
      },
      pictureColumn: {
        type: "string",
        description: "the column of paths in a table (path, file, image, ...)",
        placeholder: "text",
      },
      labelColumns: {
        description:
          "the column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply",
        anyOf: [
          { type: "string", placeholder: "text" },
          { type: "array", items: { type: "string", placeholder: "text" } },
        ],
      },
      includeNoFinding: {
        type: "boolean",
        description: "ChestX-ray14: an image without findings is a class of its own",
        default: false,
      },
      normalization: {
        type: "string",
        description: "whose mean and deviation; paper: the authors' for the data set, with their transforms",
        default: "model",
        enum: ["model", "data-set", "paper"],
      },
      out: {
        type: "string",
        description: "output folder; must be empty or absent (default: runs/<teacher>-<size>-<time>)",
      },
      keep: {
        type: "string",
        description:
          "which blocks are kept: evenly spaced (the paper's), or auto: found by a search over blocks and, in the closed form, over shapes with as many weights",
        default: "even",
        enum: ["even", "auto"],
      },
      budget: {
        type: "string",
        description:
          "the best model within a size of the loaded file (25MB), a time per image on this machine (10ms), both (25MB,10ms), or a share of the teacher's parameters (0.3x)",
      },
      sizes: {
        description: "several students, each at most this share of the teacher (0.3x,0.5x,0.7x)",
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
      },
      agreement: {
        type: "number",
        description:
          "the cheapest model with this share of the teacher's predictions (mean cosine similarity without a head); within --budget, where that is given",
      },
      levers: {
        description: "what a budget in MB or ms and an agreement are reached by",
        anyOf: [
          { type: "string", enum: ["shape", "tokens", "bits"] },
          { type: "array", items: { type: "string", enum: ["shape", "tokens", "bits"] } },
        ],
      },
      method: {
        type: "string",
        description: "how the student starts, what trains, and the loss (the recipe's where left out)",
        default: "wecolora",
        enum: [
          "corp",
          "deit",
          "dmae",
          "dora",
          "grail",
          "kd",
          "lora",
          "magnitude",
          "minivit",
          "refit",
          "snapvit",
          "taylor",
          "top-pruning",
          "wanda",
          "weco-kd",
          "wecolora",
          "weight-copy",
        ],
      },
      start: {
        type: "string",
        description:
          "the student before training (the method's own): kept blocks (copy for short), these refitted in closed form, the first blocks, or random weights",
        enum: ["weight-copy", "analytic", "top-blocks", "random", "copy"],
      },
      reductionFactor: {
        type: "integer",
        description: "every r-th block of the teacher is kept (2 unless keptBlocks are given)",
      },
      keptBlocks: {
        type: "array",
        description: "the teacher's blocks to keep, counted from 0",
        items: { type: "integer" },
      },
      loss: {
        description:
          "losses between student and teacher features (the method's own), several with commas; also kind=smooth-l1,beta=0.5",
        anyOf: [
          { type: "string", enum: ["l1", "mse", "smooth-l1", "cosine", "l1+kl", "multi-block", "blockwise"] },
          {
            type: "array",
            items: { type: "string", enum: ["l1", "mse", "smooth-l1", "cosine", "l1+kl", "multi-block", "blockwise"] },
          },
          { type: "object" },
          { type: "array", items: { type: "object" } },
        ],
      },
      precision: {
        type: "string",
        description:
          "precision of products with frozen weights and adapters: float32, int8, or auto: the faster one if features stay close (the closed form's default where images are many)",
        default: "float32",
        enum: ["float32", "int8", "auto"],
      },
      int8Parts: {
        type: "array",
        description:
          "which of these products use int8: the teacher's, the student's, those of gradients, and the adapters'",
        default: ["teacher", "student", "backward", "adapters"],
        items: { type: "string", enum: ["teacher", "student", "backward", "adapters"] },
      },
      checkpointing: {
        type: "boolean",
        description: "gradient checkpointing: recompute activations block by block; less memory, a fifth more time",
        default: false,
      },
      activations: {
        type: "string",
        description: "type that activations are stored in for the gradients; float16 takes less memory",
        default: "float32",
        enum: ["float32", "float16"],
      },
      softLabels: {
        type: "boolean",
        description: "deit: learn the teacher's probabilities, not its answer",
        default: false,
      },
      maskRatio: { type: "number", description: "dmae: share of the patches that are masked", default: 0.75 },
      rank: {
        description:
          "rank of the adapters, or one for each map: q=16,v=16,fc1=64; at most the smaller side of the map, which is taken where it is below the default (default: 128)",
        anyOf: [{ type: "integer" }, { type: "object" }],
      },
      alpha: { type: "number", description: "adapters are scaled by alpha / rank, as in PEFT (the paper: not scaled)" },
      rankStabilized: {
        type: "boolean",
        description: "scale adapters by alpha / sqrt(rank) instead (rsLoRA)",
        default: false,
      },
      adapterDropout: {
        type: "number",
        description: "share of the adapters' inputs set to zero in training",
        default: 0,
      },
      targetModules: {
        type: "array",
        description: "maps that get adapters (all six; q and v for lora)",
        items: { type: "string", enum: ["q", "k", "v", "proj", "fc1", "fc2"] },
      },
      selection: {
        type: "string",
        description: "what selects heads and channels for grail: norms of weights, or weights times input norms",
        default: "wanda",
        enum: ["magnitude", "wanda"],
      },
      mlpWidth: {
        type: "number",
        description: "channels that each MLP keeps, or their share below 1 (all where left out)",
      },
      keptHeads: {
        type: "number",
        description: "heads that each attention keeps, or their share below 1 (all where left out)",
      },
      blockShapes: {
        description: "heads and MLP channels of each kept block, such as 3x768,0x512,6x0 (default: the same for all)",
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
      },
      analyticViews: {
        type: "integer",
        description: "crops of each image in the closed form: first as for evaluation, then random ones",
        default: 1,
      },
      analyticTokens: {
        type: "number",
        description: "tokens sampled per unknown in the closed form; more is slower",
        default: 5,
      },
      analyticMaps: {
        description: "linear maps that the closed form refits; fc2 in any case, and proj where heads are removed",
        anyOf: [
          { type: "string", enum: ["q", "k", "v", "proj", "fc1", "fc2"] },
          { type: "array", items: { type: "string", enum: ["q", "k", "v", "proj", "fc1", "fc2"] } },
        ],
      },
      analyticSweeps: {
        type: "integer",
        description:
          "passes of the closed form over all blocks; later passes keep only what comes closer to the teacher",
        default: 1,
      },
      gradientLoss: {
        type: "string",
        description:
          "the loss whose gradients score heads and channels: cross-entropy between an image and a crop of it, or the squared distance of their features",
        default: "self-supervised",
        enum: ["self-supervised", "features"],
      },
      correction: {
        type: "boolean",
        description: "also change the weights behind removed units, as SparseGPT does (snapvit)",
        default: false,
      },
      generations: { type: "integer", description: "generations of snapvit's evolution strategy", default: 20 },
      optimizer: {
        description: "what takes the steps; also kind=adamw,weightDecay=0.05,clipNorm=1,layerDecay=0.8",
        default: "adamw",
        anyOf: [{ type: "string", enum: ["adamw"] }, { oneOf: [{ type: "object" }] }],
      },
      shape: {
        type: "string",
        description:
          "what is removed to reach 1/r of the block weights: blocks, heads and MLP channels (the closed form's default), blocks and MLP channels, blocks alone (the paper's), or heads and MLP channels by block (ONNX only)",
        default: "blocks",
        enum: ["balanced", "channels", "blocks", "by-block"],
      },
      baseLearningRate: {
        type: "number",
        description: "for an effective batch of 256; larger ones scale it up (lr = blr * batch / 256)",
        default: 0.001,
      },
      epochs: { type: "number", description: "passes over the images", default: 10 },
      warmupEpochs: { type: "number", description: "epochs of linear warm-up, before the rate falls to 0", default: 2 },
      steps: { type: "integer", description: "so many steps instead of epochs; the same share of them is warm-up" },
      schedule: {
        type: "string",
        description: "how the learning rate falls",
        default: "cosine",
        enum: ["cosine", "linear"],
      },
      effectiveBatch: {
        type: "integer",
        description: "effective batch: images per step (1024, or fewer so that an epoch has several steps)",
      },
      keptViews: {
        type: "integer",
        description:
          "crops of each image whose teacher features are cached; training draws from them (new crops in each epoch where left out)",
      },
      keptViewsOn: {
        type: "string",
        description:
          "where cached teacher features are kept: in memory, in a file in the run folder while it trains, or as they fit",
        default: "auto",
        enum: ["auto", "memory", "disk"],
      },
      batch: {
        type: "integer",
        description: "images in a micro-batch (6 to 16, about 8; 16 on a GPU; fewer where memory is short)",
      },
      fewShotRatio: { type: "number", description: "share of each class (or of a flat folder) to train on" },
      fewShotRounding: {
        type: "string",
        description: "how a class's share becomes a count, of at least one image (recipe paper: down)",
        default: "nearest",
        enum: ["nearest", "down"],
      },
      fewShotCount: { type: "integer", description: "images of each class (or of a flat folder) to train on" },
      heldOut: {
        type: "number",
        description: "share held out for evaluation where the data has no val/",
        default: 0.1,
      },
      weightType: {
        type: "string",
        description: "type of the stored weights (the teacher's own where left out)",
        enum: ["float32", "float16", "bfloat16"],
      },
      checkpointSteps: {
        type: "integer",
        description: "steps between checkpoints (an eighth of the run where left out)",
      },
      checkpointMinutes: {
        type: "number",
        description: "a checkpoint is never further back than so many minutes",
        default: 5,
      },
      keepCheckpoints: {
        type: "integer",
        description: "the last so many checkpoints are kept, and the best",
        default: 2,
      },
      evaluateSteps: {
        type: "integer",
        description: "steps between evaluations on held-out images while training (a fifth of the run; 0: none)",
      },
      evaluatePictures: {
        type: "integer",
        description: "held-out images, and twice as many training images, for these evaluations",
        default: 64,
      },
      earlyStop: {
        type: "integer",
        description: "stop after so many held-out evaluations without a better fidelity, and take the best student",
      },
      judge: { type: "boolean", description: "evaluate the student at the end", default: true },
      judgeTeacher: {
        type: "boolean",
        description: "evaluate teacher and weight copy beside the student",
        default: true,
      },
      judgeBank: {
        type: "integer",
        description: "at most so many labelled images that k-NN and probe learn from",
        default: 2000,
      },
      judgeQueries: { type: "integer", description: "at most so many evaluation images", default: 1000 },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      report: { type: "boolean", description: "write report.html and report.md at the end", default: true },
      overwrite: { type: "boolean", description: "replace a run that is already in the folder", default: false },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      strict: {
        type: "boolean",
        description: "report an image that can't be read as an error instead of skipping it",
        default: false,
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
      recipe: {
        type: "string",
        description:
          "settings that go together: closed-form refit (default), adapters trained after it (where an option of training is given), or the paper's",
        enum: ["closed-form", "refined", "paper"],
      },
      export: {
        description: "formats to export at the end, as wecolora export does; several with commas",
        anyOf: [
          {
            type: "string",
            enum: [
              "huggingface",
              "onnx",
              "onnx-float16",
              "onnx-int8",
              "onnx-int8-weights",
              "onnx-q4",
              "onnx-q4f16",
              "peft",
              "safetensors",
              "timm",
            ],
          },
          {
            type: "array",
            items: {
              type: "string",
              enum: [
                "huggingface",
                "onnx",
                "onnx-float16",
                "onnx-int8",
                "onnx-int8-weights",
                "onnx-q4",
                "onnx-q4f16",
                "peft",
                "safetensors",
                "timm",
              ],
            },
          },
        ],
      },
      resume: { type: "string", description: "the folder of a run to resume, with its own settings" },
    },
    required: ["teacher"],
    insteadOfAll: "resume",
    recipes: {
      "closed-form": { method: "refit", shape: "balanced", precision: "auto" },
      refined: { method: "wecolora", start: "analytic", shape: "balanced", baseLearningRate: 0.0003, earlyStop: 2 },
      paper: { method: "wecolora", fewShotRounding: "down" },
    },
    details:
      "Methods:\n  corp         heads narrowed inside and channels, made up for in closed form (CORP)\n  deit         random weights and a distillation token; learns labels and the teacher's answers (arXiv 2012.12877)\n  dmae         random weights; reconstructs masked patches, with features close to the teacher's (arXiv 2208.12256)\n  dora         weight copy, weight-decomposed adapters on all six maps\n  grail        heads and channels by magnitude or Wanda, the map behind them by ridge regression\n  kd           random weights, all train\n  lora         weight copy, adapters on q and v alone\n  magnitude    heads and channels with the largest weights, as they are\n  minivit      maps shared by groups of blocks, small transformations per block (arXiv 2204.07154)\n  refit        kept blocks, their maps refitted in closed form; no steps\n  snapvit      heads and channels by gradients and their correlations, weighed by an evolution strategy\n  taylor       heads and channels by first-order Taylor scores, as they are\n  top-pruning  the first blocks alone\n  wanda        heads and channels by weights times input norms, as they are\n  weco-kd      weight copy, then all weights train\n  wecolora     weight copy, adapters on all six maps (the paper's method)\n  weight-copy  weight copy alone\n\nData:\n  cifar        CIFAR-10 and CIFAR-100 as published, as binary files or pickles\n  procedural   procedural:<n> for n procedural images, where there are no real ones; --seed draws others\n  chestxray    ChestX-ray14 as the NIH publishes it\n  inaturalist  iNaturalist as its competitions publish it\n  lists        tables and lists of paths, and the classes beside them .csv .tsv .jsonl .txt\n  parquet      parquet files with a column of encoded images, as the hub has them .parquet\n  shards       tar archives: WebDataset's shards, or folders of images that were packed .tar\n  scan-slices  NIfTI scans, each slice an image .nii .nii.gz\n  archive      zip archives of folders of images .zip\n  folders      folders of images: flat, one folder a class, either in train/ and val/",
  },
  {
    name: "evaluate",
    summary: "Evaluate a model on a folder of images.",
    positional: [],
    options: {
      model: {
        description: "the model, or several with commas: a directory, file of weights, or hub name",
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
      },
      data: {
        type: "string",
        description:
          "images: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded, or a .csv, .tsv, .jsonl, .txt, .parquet, .tar, .nii, .nii.gz or .zip",
      },
      dataSet: {
        type: "string",
        description: "which published data set it is, where its files don't show it",
        enum: ["imagenet", "inaturalist2019", "cifar10", "cifar100", "resisc45", "chestxray14"],
      },
      pictureColumn: {
        type: "string",
        description: "the column of paths in a table (path, file, image, ...)",
        placeholder: "text",
      },
      labelColumns: {
        description:
          "the column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply",
        anyOf: [
          { type: "string", placeholder: "text" },
          { type: "array", items: { type: "string", placeholder: "text" } },
        ],
      },
      includeNoFinding: {
        type: "boolean",
        description: "ChestX-ray14: an image without findings is a class of its own",
        default: false,
      },
      normalization: {
        type: "string",
        description: "whose mean and deviation; paper: the authors' for the data set, with their transforms",
        default: "model",
        enum: ["model", "data-set", "paper"],
      },
      teacher: { type: "string", description: "the teacher, for fidelity" },
      out: {
        type: "string",
        description:
          "output folder for evaluation.json, pictures.csv, classes.csv, and the confusion matrix as a table and a chart",
      },
      heldOut: {
        type: "number",
        description: "share held out for evaluation where the data has no val/",
        default: 0.2,
      },
      batch: {
        type: "integer",
        description: "images that are read at once; on a CPU, models run on four per thread at once",
        default: 32,
      },
      precision: {
        type: "string",
        description:
          "precision of the models' products (the teacher stays float32): float32, int8, or auto: the faster one if features stay close",
        default: "float32",
        enum: ["float32", "int8", "auto"],
      },
      neighbours: { type: "integer", description: "k of the weighted k-NN classifier", default: 10 },
      temperature: { type: "number", description: "temperature of the k-NN weights", default: 0.07 },
      probeEpochs: {
        type: "integer",
        description: "epochs of the linear probe (90; the published protocol's for its data set)",
      },
      probeWarmupEpochs: {
        type: "number",
        description: "epochs of the probe's linear warm-up (10, or a ninth of the epochs where that is less)",
      },
      probeBatch: { type: "integer", description: "batch of the linear probe", default: 512 },
      probeLearningRate: {
        description:
          "base learning rate of the probe, for a batch of 256 (0.1, or more where images are few); of several with commas, the best on a tenth of the images is taken",
        anyOf: [{ type: "number" }, { type: "array", items: { type: "number" } }],
      },
      probeBestEpoch: {
        type: "boolean",
        description: "also report the probe's best epoch on the evaluation images, as the paper's authors do",
        default: false,
      },
      logistic: { type: "boolean", description: "also fit a logistic regression to convergence", default: false },
      published: {
        type: "array",
        description: "a paper's figures, shown beside the measured ones",
        items: { type: "object" },
      },
      cache: { type: "boolean", description: "cache features on disk", default: true },
      cacheDir: {
        type: "string",
        description: "folder of cached features (wecolora/features in the user's cache folder)",
      },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      strict: {
        type: "boolean",
        description: "report an image that can't be read as an error instead of skipping it",
        default: false,
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: ["model", "data"],
  },
  {
    name: "export",
    summary: "Export a model to other formats; each is loaded again and compared.",
    positional: [],
    options: {
      model: { type: "string", description: "a run's folder, or a model: its directory, file of weights, or hub name" },
      to: {
        description: "formats to write; several with commas",
        anyOf: [
          {
            type: "string",
            enum: [
              "huggingface",
              "onnx",
              "onnx-float16",
              "onnx-int8",
              "onnx-int8-weights",
              "onnx-q4",
              "onnx-q4f16",
              "peft",
              "safetensors",
              "timm",
            ],
          },
          {
            type: "array",
            items: {
              type: "string",
              enum: [
                "huggingface",
                "onnx",
                "onnx-float16",
                "onnx-int8",
                "onnx-int8-weights",
                "onnx-q4",
                "onnx-q4f16",
                "peft",
                "safetensors",
                "timm",
              ],
            },
          },
        ],
      },
      out: {
        type: "string",
        description:
          "output folder (exports/ in the run's folder where left out), with a folder per format where there are several",
      },
      data: { type: "string", description: "images to compare on (the run's own where left out)" },
      images: {
        type: "string",
        description:
          "images to round 4-bit weights for (those of the run where left out; a model without one rounds plainly)",
      },
      pictures: {
        type: "integer",
        description: "at most so many images, and three times as many labelled ones for k-NN",
        default: 100,
      },
      mergeTokens: {
        description: "tokens merged away in each block (ToMe), or a list for each; ONNX only",
        anyOf: [{ type: "integer" }, { type: "array", items: { type: "integer" } }],
      },
      weightType: {
        type: "string",
        description: "type of the stored weights (the teacher's own where left out)",
        enum: ["float32", "float16", "bfloat16"],
      },
      accuracyLevel: {
        description: "how 4-bit products are computed: 0 with floats as they are, 4 with floats brought to int8",
        default: 0,
        anyOf: [{ type: "number" }, { type: "number" }],
      },
      blockSize: {
        description: "4-bit weights that share a scale: more take fewer bytes",
        default: 32,
        anyOf: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: ["model", "to"],
    details:
      "Formats:\n  huggingface        a directory that transformers and transformers.js load (dtype fp32 of transformers.js)\n  onnx               one ONNX file in float32, for transformers.js and other runtimes (dtype fp32 of transformers.js)\n  onnx-float16       one ONNX file in float16, for GPUs (dtype fp16 of transformers.js)\n  onnx-int8          one ONNX file whose linear maps compute in int8, for CPUs (dtype int8 of transformers.js)\n  onnx-int8-weights  one ONNX file with int8 weights that computes in float32, for small downloads (dtype q8 of transformers.js)\n  onnx-q4            one ONNX file with 4-bit weights that computes in float32, for the smallest downloads (dtype q4 of transformers.js)\n  onnx-q4f16         one ONNX file with 4-bit weights that computes in float16, for GPUs (dtype q4f16 of transformers.js)\n  peft               a PEFT adapter directory with its base model, for runs that train adapters\n  safetensors        a directory of wecolora's own, for models that no other library has a class for (dtype fp32 of transformers.js)\n  timm               a directory that timm loads",
  },
  {
    name: "features",
    summary: "Write the features of images, one row per image.",
    positional: [],
    options: {
      model: { type: "string", description: "the model: its directory, file of weights, or hub name" },
      data: {
        type: "string",
        description:
          "images: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded, or a .csv, .tsv, .jsonl, .txt, .parquet, .tar, .nii, .nii.gz or .zip",
      },
      dataSet: {
        type: "string",
        description: "which published data set it is, where its files don't show it",
        enum: ["imagenet", "inaturalist2019", "cifar10", "cifar100", "resisc45", "chestxray14"],
      },
      pictureColumn: {
        type: "string",
        description: "the column of paths in a table (path, file, image, ...)",
        placeholder: "text",
      },
      labelColumns: {
        description:
          "the column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply",
        anyOf: [
          { type: "string", placeholder: "text" },
          { type: "array", items: { type: "string", placeholder: "text" } },
        ],
      },
      includeNoFinding: {
        type: "boolean",
        description: "ChestX-ray14: an image without findings is a class of its own",
        default: false,
      },
      out: { type: "string", description: "output file (safetensors)" },
      batch: {
        type: "integer",
        description: "images that are read at once; on a CPU, models run on four per thread at once",
        default: 32,
      },
      precision: {
        type: "string",
        description: "precision of the model's products: float32, int8, or auto: the faster one if features stay close",
        default: "float32",
        enum: ["float32", "int8", "auto"],
      },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      strict: {
        type: "boolean",
        description: "report an image that can't be read as an error instead of skipping it",
        default: false,
      },
    },
    required: ["model", "data", "out"],
  },
  {
    name: "inspect",
    summary: "Describe a model and, with --data, measure how much its blocks matter.",
    positional: ["model"],
    options: {
      model: { type: "string", description: "the model: its directory or file of weights" },
      data: { type: "string", description: "images to measure on how much each block and each run of blocks matters" },
      pictures: { type: "integer", description: "at most so many images, drawn evenly", default: 48 },
      longest: { type: "integer", description: "the longest run of blocks that one block may replace", default: 4 },
      search: {
        type: "boolean",
        description: "also search which blocks to keep, for each number of them",
        default: false,
      },
      frontier: {
        type: "boolean",
        description: "also show what you get at each price: shape, merged tokens and bits together",
        default: false,
      },
      budget: {
        type: "string",
        description: "also propose the model that loses least within a budget, such as 12MB, 10ms, 12MB,10ms or 0.3x",
      },
      out: {
        type: "string",
        description: "a folder for blocks.csv, blocks.svg and blocks.png, and frontier.* where asked for",
      },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      strict: {
        type: "boolean",
        description: "report an image that can't be read as an error instead of skipping it",
        default: false,
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: ["model"],
  },
  {
    name: "report",
    summary: "Write the report of a run again, or one page that compares runs.",
    positional: ["runs"],
    options: {
      runs: { type: "array", description: "run folders; several are compared on one page", items: { type: "string" } },
      out: {
        type: "string",
        description: "output page (report.html in the run's folder; for several runs, comparison.html here)",
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
    },
    required: ["runs"],
  },
  {
    name: "rollout",
    summary: "Draw a model's attention maps, with its teacher's beside them.",
    positional: [],
    options: {
      model: { type: "string", description: "the model: its directory, file of weights, or hub name" },
      teacher: { type: "string", description: "the teacher, whose attention maps are shown beside the model's" },
      data: { type: "string", description: "a folder of images" },
      out: { type: "string", description: "output folder for one PNG per image" },
      attention: {
        type: "string",
        description: "attention followed through all blocks, or that of the last block alone",
        default: "rollout",
        enum: ["rollout", "last-attention"],
      },
      fusion: {
        type: "string",
        description: "how the heads of a block become one",
        default: "max",
        enum: ["max", "mean"],
      },
      discard: {
        type: "number",
        description: "share of a block's smallest entries that rollout leaves out",
        default: 0.9,
      },
      pictures: { type: "integer", description: "at most so many images, drawn evenly", default: 16 },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      strict: {
        type: "boolean",
        description: "report an image that can't be read as an error instead of skipping it",
        default: false,
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: ["model", "data", "out"],
  },
  {
    name: "segment",
    summary: "Train decoders on models' patch tokens over slices of scans, and evaluate their masks.",
    positional: [],
    options: {
      model: {
        description: "encoders, several with commas: a model's directory, file of weights, or hub name",
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
      },
      data: {
        type: "string",
        description: "a folder of NIfTI volumes with masks (*_seg.nii.gz; imagesTr/ and labelsTr/; ...)",
      },
      out: { type: "string", description: "output folder for table, masks and decoders" },
      axis: {
        type: "string",
        description: "axis that slices are cut across",
        default: "axial",
        enum: ["axial", "coronal", "sagittal"],
      },
      kinds: {
        description: "kinds of scans, as their files end (t1ce,t2,flair): the channels",
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
      },
      maskName: { type: "string", description: "how masks' files end, where it is not seg, mask, label, gt or tissue" },
      classNames: {
        description: "names of the masks' numbers, from the smallest above 0",
        anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }],
      },
      encoder: {
        type: "string",
        description: "whether the encoder trains with the decoder",
        default: "frozen",
        enum: ["frozen", "trained"],
      },
      yardstick: { type: "boolean", description: "also train the decoder on raw pixels as a baseline", default: false },
      split: {
        type: "string",
        description:
          "what is held out: whole cases (default for several), or of each case a block of slices in the lower and one in the upper half, or its two ends",
        enum: ["cases", "blocks", "ends"],
      },
      heldOut: { type: "number", description: "share of the cases or slices held out for evaluation", default: 0.3 },
      gap: { type: "integer", description: "slices next to held-out blocks that are not trained on", default: 4 },
      trainSlices: { type: "integer", description: "at most so many slices to train on, evenly spread" },
      epochs: { type: "integer", description: "passes over the slices", default: 30 },
      warmupEpochs: { type: "number", description: "epochs of linear warm-up", default: 2 },
      batch: { type: "integer", description: "batch: slices per step", default: 8 },
      learningRate: { type: "number", description: "highest learning rate of the decoder", default: 0.002 },
      encoderRate: {
        type: "number",
        description: "encoder's learning rate as a multiple of the decoder's",
        default: 0.05,
      },
      weightDecay: { type: "number", description: "weight decay of matrices and kernels", default: 0.01 },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: ["model", "data", "out"],
  },
  {
    name: "similarity",
    summary: "Compare a student's blocks with its teacher's.",
    positional: [],
    options: {
      model: { type: "string", description: "the student: its directory, file of weights, or hub name" },
      teacher: { type: "string", description: "the teacher" },
      data: { type: "string", description: "a folder of images" },
      out: {
        type: "string",
        description: "output folder for similarity.csv, .svg and .png (only the table is printed where left out)",
      },
      pictures: { type: "integer", description: "at most so many images, drawn evenly", default: 64 },
      numHeads: {
        type: "integer",
        description: "the model's attention heads, where no config.json says it (width / 64)",
      },
      imageSize: { type: "integer", description: "side of the images in pixels (the model's own where left out)" },
      revision: { type: "string", description: "branch, tag or commit of a model that is named as on the hub" },
      mean: {
        type: "array",
        description: "mean of each channel, from 0 to 1, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      std: {
        type: "array",
        description: "standard deviation of each channel, in place of the model's own",
        prefixItems: [{ type: "number" }, { type: "number" }, { type: "number" }],
      },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      strict: {
        type: "boolean",
        description: "report an image that can't be read as an error instead of skipping it",
        default: false,
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: ["model", "teacher", "data"],
  },
  {
    name: "demo",
    summary: "Distil the demo's teacher with the demo's images.",
    positional: [],
    options: {
      quick: { type: "boolean", description: "a short run, evaluated on fewer images", default: false },
      recipe: {
        type: "string",
        description: "settings that go together (closed-form where left out)",
        enum: ["closed-form", "refined", "paper"],
      },
      out: { type: "string", description: "output folder of the run (a new temporary one where left out)" },
      overwrite: { type: "boolean", description: "replace a run that is already in the folder", default: false },
      threads: { type: "integer", description: "threads of ONNX Runtime (all cores where left out)" },
      device: {
        type: "string",
        description: "device that models run on; tried at the start",
        enum: ["cpu", "cuda", "webgpu", "coreml", "dml", "directml"],
      },
      seed: { type: "integer", description: "seed of everything random", default: 0 },
    },
    required: [],
  },
];
