// The options of all commands as the API takes them. Made by `npm run generate` from their schemas; don't edit it.
/** Options of `compare` (`wecolora compare`). */
export interface CompareOptions {
  /** The teacher, where the grid has none. */
  teacher?: string;
  /** The pictures, where the grid has none. */
  data?: string;
  /** The folder of the comparison; each run has a folder in it. */
  out: string;
  /** What stands above the table. */
  title?: string;
  /**
   * Options of distill, each with the values to try; a seed among them gives mean and spread; several grids stand
   * in one table.
   */
  grid:
    | Record<string, (string | number | boolean | unknown[] | Record<string, unknown>)[]>
    | Record<string, (string | number | boolean | unknown[] | Record<string, unknown>)[]>[];
  /** Options of distill that all runs share. Default: {}. */
  base?: Record<string, unknown>;
  /** Further evaluations of each student, by name: options of evaluate, data among them. Default: {}. */
  evaluations?: Record<string, Record<string, unknown>>;
  /** Figures of a paper, shown beside those measured. */
  published?: {
    where: Record<string, string | number>;
    /** The evaluation that it belongs to. */
    on?: string;
    metric:
      | "neighbours"
      | "probe"
      | "probeBest"
      | "head"
      | "agreement"
      | "neighboursAuroc"
      | "probeAuroc"
      | "probeBestAuroc"
      | "difference"
      | "cosine"
      | "parameters"
      | "milliseconds"
      | "seconds";
    value: number;
  }[];
  /** Run again what was run with other settings, another teacher or other data. Default: false. */
  overwrite?: boolean;
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
}

/** Options of `distill` (`wecolora distill`). */
export interface DistillOptions {
  /** The teacher: a model's directory, its file of weights, or its hub name. */
  teacher: string;
  /**
   * Pictures: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded,
   * or a .csv, .tsv, .jsonl, .txt, .parquet, .tar, .nii, .nii.gz or .zip; procedural:<n> for n procedural images.
   * Default: "procedural:300".
   */
  data?: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  pictureColumn?: string;
  /** The column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply. */
  labelColumns?: string | string[];
  /** ChestX-ray14: that a picture shows nothing is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /** Whose mean and deviation; paper: the authors' for the data set, with their transforms. Default: "model". */
  normalization?: "model" | "data-set" | "paper";
  /** Output folder; must be empty or absent (default: runs/<teacher>-<size>-<time>). */
  out?: string;
  /**
   * Which blocks: as many as every r-th leaves, evenly (the paper's), or what a search finds to stand best for
   * all: of whole blocks and, with the closed form, of shapes with as many weights. Default: "even".
   */
  keep?: "even" | "auto";
  /**
   * The best model within a size of the loaded file (25MB), a time per image on this machine (10ms), both
   * (25MB,10ms), or a share of the teacher's parameters (0.3x). Range: must match
   * ^(?:(?=[^,]*[1-9])(\d{1,12}(?:\.\d{1,12})?)\s*(MB|ms|x)(?:,(?=[^,]+)|$)){1,3}$.
   */
  budget?: string;
  /**
   * The cheapest model with this share of the teacher's predictions (mean cosine similarity without a head);
   * within --budget, where that is given. Range: a number above 0, at most 1.
   */
  agreement?: number;
  /** What a budget in MB or ms and an agreement are reached by. */
  levers?: "shape" | "tokens" | "bits" | ("shape" | "tokens" | "bits")[];
  /** How the student starts, what trains, and the loss (the recipe's where left out). Default: "wecolora". */
  method?:
    | "corp"
    | "deit"
    | "dmae"
    | "dora"
    | "grail"
    | "kd"
    | "lora"
    | "magnitude"
    | "minivit"
    | "refit"
    | "snapvit"
    | "taylor"
    | "top-pruning"
    | "wanda"
    | "weco-kd"
    | "wecolora"
    | "weight-copy";
  /**
   * The student before training (the method's own): kept blocks (copy for short), these refitted in closed form,
   * the first blocks, or random weights.
   */
  start?: "weight-copy" | "analytic" | "top-blocks" | "random" | "copy";
  /** Every r-th block of the teacher is kept (2 unless keptBlocks are given). Range: an integer, above 0. */
  reductionFactor?: number;
  /** The teacher's blocks to keep, counted from 0. */
  keptBlocks?: number[];
  /** What features are brought near by (the method's own), several with commas; also kind=smooth-l1,beta=0.5. */
  loss?:
    | "l1"
    | "mse"
    | "smooth-l1"
    | "cosine"
    | "l1+kl"
    | "multi-block"
    | "blockwise"
    | ("l1" | "mse" | "smooth-l1" | "cosine" | "l1+kl" | "multi-block" | "blockwise")[]
    | {
        kind: string;
        [other: string]: unknown;
      }
    | {
        kind: string;
        [other: string]: unknown;
      }[];
  /**
   * Products with frozen weights and adapters: float32, 8 bits, or what is faster here while features stay near
   * (auto, the usual of the closed form, where pictures are many). Default: "float32".
   */
  precision?: "float32" | "int8" | "auto";
  /**
   * Where these products are in 8 bits: the teacher's, the student's, those of gradients, and adapters'. Default:
   * ["teacher","student","backward","adapters"].
   */
  int8Parts?: ("teacher" | "student" | "backward" | "adapters")[];
  /** Compute activations anew for the gradients, block by block: less memory, a fifth more time. Default: false. */
  checkpointing?: boolean;
  /**
   * What the student's activations are saved in for the gradients: float16 takes less memory, and hardly more
   * time. Default: "float32".
   */
  activations?: "float32" | "float16";
  /** Deit: learn the teacher's probabilities, not its answer. Default: false. */
  softLabels?: boolean;
  /** Dmae: share of the patches that the models don't see. Range: a number at least 0, below 1. Default: 0.75. */
  maskRatio?: number;
  /**
   * Rank of the adapters, or one for each map: q=16,v=16,fc1=64; at most the smaller side of the map, which is
   * taken where it is below the default (default: 128). Range: an integer, above 0.
   */
  rank?: number | Partial<Record<"q" | "k" | "v" | "proj" | "fc1" | "fc2", number>>;
  /**
   * Adapters are scaled by alpha / rank, as in PEFT (the paper: not scaled). Range: a number above 0, at most
   * 1000000.
   */
  alpha?: number;
  /** Scale adapters by alpha / sqrt(rank) instead (rsLoRA). Default: false. */
  rankStabilized?: boolean;
  /** Share of the adapters' inputs set to zero in training. Range: a number at least 0, below 1. Default: 0. */
  adapterDropout?: number;
  /** Maps that get adapters (all six; q and v for lora). */
  targetModules?: ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  /** What selects heads and channels for grail: norms of weights, or weights times input norms. Default: "wanda". */
  selection?: "magnitude" | "wanda";
  /**
   * Channels that each MLP keeps, or their share below 1; the refit makes up for the others (all where left out).
   * Range: a number above 0.
   */
  mlpWidth?: number;
  /**
   * Heads that each attention keeps, or their share below 1, likewise (all where left out). Range: a number above
   * 0.
   */
  keptHeads?: number;
  /**
   * Heads and MLP channels of each kept block, such as 3x768,0x512,6x0 (default: the same for all). Range: must
   * match ^\d{1,6}x\d{1,7}$.
   */
  blockShapes?: string | string[];
  /**
   * Views of each picture that an analytic start is fitted on: as for evaluation, then random ones. Range: an
   * integer, above 0, at most 1000. Default: 1.
   */
  analyticViews?: number;
  /**
   * Tokens that an analytic start fits a map on, about, for each number that enters it: all of them cost time.
   * Range: a number at least 0.01, at most 1000000000. Default: 5.
   */
  analyticTokens?: number;
  /** Maps that an analytic start refits; fc2 in any case, and proj where heads go. */
  analyticMaps?: "q" | "k" | "v" | "proj" | "fc1" | "fc2" | ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  /**
   * How often an analytic start goes through all blocks; later sweeps only move what comes nearer by that. Range:
   * an integer, above 0, at most 100. Default: 1.
   */
  analyticSweeps?: number;
  /**
   * The loss whose gradients score heads and channels: cross-entropy between an image and a crop of it, or the
   * squared distance of their features. Default: "self-supervised".
   */
  gradientLoss?: "self-supervised" | "features";
  /** Also change the weights behind removed units, as SparseGPT does (snapvit). Default: false. */
  correction?: boolean;
  /** Generations of snapvit's evolution strategy. Range: an integer, above 0, at most 10000. Default: 20. */
  generations?: number;
  /** What takes the steps; also kind=adamw,weightDecay=0.05,clipNorm=1,layerDecay=0.8. Default: "adamw". */
  optimizer?:
    | "adamw"
    | {
        kind: "adamw";
        /** Default: [0.9,0.95]. */
        betas?: [number, number];
        /** Range: a number at least 1e-30, at most 1000000. Default: 1e-8. */
        eps?: number;
        /** Range: a number at least 0, at most 1000. Default: 0.05. */
        weightDecay?: number;
        /** Gradients are scaled down to this norm over all of them. Range: a number above 0. */
        clipNorm?: number;
        /**
         * Learning rate of a block is this times that of the block after it. Range: a number above 0, at most 1.
         * Default: 1.
         */
        layerDecay?: number;
      };
  /**
   * What a smaller student gives up, for as many weights as every r-th block has: some blocks, heads and channels
   * of MLPs (the usual of the closed form), some blocks and channels, blocks alone (the paper's), or by-block:
   * heads and channels that differ by block (for ONNX; transformers and timm can't load it). Default: "blocks".
   */
  shape?: "balanced" | "channels" | "blocks" | "by-block";
  /**
   * For an effective batch of 256; larger ones scale it up (lr = blr * batch / 256). Range: a number at least
   * 1e-30. Default: 0.001.
   */
  baseLearningRate?: number;
  /** Passes over the pictures. Range: a number above 0, at most 100000. Default: 10. */
  epochs?: number;
  /** Epochs of linear warm-up, before the rate falls to 0. Range: a number at least 0, at most 100000. Default: 2. */
  warmupEpochs?: number;
  /**
   * So many steps instead of epochs; the same share of them is warm-up. Range: an integer, above 0, at most
   * 10000000.
   */
  steps?: number;
  /** How the learning rate falls. Default: "cosine". */
  schedule?: "cosine" | "linear";
  /**
   * Pictures to a step (1024, or fewer so that an epoch has several steps). Range: an integer, above 0, at most
   * 65536.
   */
  effectiveBatch?: number;
  /**
   * Views of each picture that training draws from: each is read once, and what teacher and embedding make of it
   * is kept (new views in each epoch where left out). Range: an integer, above 0, at most 10000.
   */
  keptViews?: number;
  /** Where kept views lie: in memory, in a file in the run folder while it trains, or as they fit. Default: "auto". */
  keptViewsOn?: "auto" | "memory" | "disk";
  /**
   * Pictures at once in memory (6 to 16 that make up a step, about 8, on a GPU 16; fewer where memory is short).
   * Range: an integer, above 0, at most 65536.
   */
  batch?: number;
  /** Share of each class (or of a flat folder) to train on. Range: a number above 0, at most 1. */
  fewShotRatio?: number;
  /** How a class's share becomes a count, of at least one image (recipe paper: down). Default: "nearest". */
  fewShotRounding?: "nearest" | "down";
  /** Pictures of each class (or of a flat folder) to train on. Range: an integer, above 0. */
  fewShotCount?: number;
  /** Share kept for judging where the data has no val/. Range: a number at least 0, below 1. Default: 0.1. */
  heldOut?: number;
  /** Type of the stored weights (the teacher's own where left out). */
  weightType?: "float32" | "float16" | "bfloat16";
  /** Steps between checkpoints (an eighth of the run where left out). Range: an integer, above 0. */
  checkpointSteps?: number;
  /** A checkpoint is never further back than so many minutes. Range: a number above 0, at most 100000. Default: 5. */
  checkpointMinutes?: number;
  /** The last so many checkpoints are kept, and the best. Range: an integer, above 0. Default: 2. */
  keepCheckpoints?: number;
  /**
   * Steps between looks at held-out pictures while training (a fifth of the run; 0: none). Range: an integer, at
   * least 0.
   */
  evaluateSteps?: number;
  /**
   * Held-out pictures, and twice as many training pictures, to look at then. Range: an integer, above 0. Default:
   * 64.
   */
  evaluatePictures?: number;
  /**
   * Stop after so many looks without a better held-out fidelity, and take the best student. Range: an integer,
   * above 0.
   */
  earlyStop?: number;
  /** Judge the student at the end. Default: true. */
  judge?: boolean;
  /** Judge teacher and weight copy beside the student. Default: true. */
  judgeTeacher?: boolean;
  /** At most so many labelled pictures for neighbours and probe. Range: an integer, above 0. Default: 2000. */
  judgeBank?: number;
  /** At most so many pictures to judge on. Range: an integer, above 0. Default: 1000. */
  judgeQueries?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Write report.html and report.md at the end. Default: true. */
  report?: boolean;
  /** Replace a run that is in the folder already. Default: false. */
  overwrite?: boolean;
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** A file that can't be read as a picture is an error, not skipped. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /**
   * Settings that go together: a refit in closed form (the usual), adapters trained from there (where an option
   * speaks of training), or the paper's.
   */
  recipe?: "closed-form" | "refined" | "paper";
  /** Formats to write at the end, as wecolora export does it; several with commas. */
  export?:
    | "huggingface"
    | "onnx"
    | "onnx-float16"
    | "onnx-int8"
    | "onnx-int8-weights"
    | "onnx-q4"
    | "onnx-q4f16"
    | "peft"
    | "safetensors"
    | "timm"
    | (string & {})
    | (
        | "huggingface"
        | "onnx"
        | "onnx-float16"
        | "onnx-int8"
        | "onnx-int8-weights"
        | "onnx-q4"
        | "onnx-q4f16"
        | "peft"
        | "safetensors"
        | "timm"
        | (string & {})
      )[];
}

/** Options of `evaluate` (`wecolora evaluate`). */
export interface EvaluateOptions {
  /** The model, or several with commas: a directory, file of weights, or hub name. */
  model: string | string[];
  /**
   * Pictures: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded,
   * or a .csv, .tsv, .jsonl, .txt, .parquet, .tar, .nii, .nii.gz or .zip.
   */
  data: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  pictureColumn?: string;
  /** The column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply. */
  labelColumns?: string | string[];
  /** ChestX-ray14: that a picture shows nothing is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /** Whose mean and deviation; paper: the authors' for the data set, with their transforms. Default: "model". */
  normalization?: "model" | "data-set" | "paper";
  /** The teacher, for fidelity. */
  teacher?: string;
  /** A folder for evaluation.json, pictures.csv, classes.csv, and the confusion of classes as table and picture. */
  out?: string;
  /** Share to judge on where the data has no val/. Range: a number above 0, below 1. Default: 0.2. */
  heldOut?: number;
  /**
   * Pictures read at once; on a processor, models run on four a thread of them at once. Range: an integer, above
   * 0, at most 65536. Default: 32.
   */
  batch?: number;
  /**
   * Of the models' products, the teacher's aside: float32, 8 bits, or what is faster here while features stay
   * near. Default: "float32".
   */
  precision?: "float32" | "int8" | "auto";
  /** K of the weighted nearest neighbours. Range: an integer, above 0. Default: 10. */
  neighbours?: number;
  /** Temperature of the neighbours' weights. Range: a number at least 0.0001, at most 1000. Default: 0.07. */
  temperature?: number;
  /**
   * Epochs of the linear probe (90; the published protocol's for its data set). Range: an integer, above 0, at
   * most 100000.
   */
  probeEpochs?: number;
  /**
   * Epochs of the probe's linear warm-up (10, or a ninth of the epochs where that is less). Range: a number at
   * least 0, at most 100000.
   */
  probeWarmupEpochs?: number;
  /** Batch of the linear probe. Range: an integer, above 0, at most 65536. Default: 512. */
  probeBatch?: number;
  /**
   * Base learning rate of the probe, for 256 pictures (0.1, or more where the pictures are few); of several with
   * commas, trained in one pass, the best on a tenth of the pictures is taken. Range: a number at least 1e-30.
   */
  probeLearningRate?: number | number[];
  /** Also report the probe's best epoch on the evaluation images, as the paper's authors do. Default: false. */
  probeBestEpoch?: boolean;
  /** Also fit a logistic regression to convergence, as a second opinion. Default: false. */
  logistic?: boolean;
  /** Figures of a paper, shown beside those measured. */
  published?: {
    /** The model as given, where there are several. */
    model?: string;
    metric:
      | "neighbours"
      | "probe"
      | "probeBest"
      | "head"
      | "agreement"
      | "neighboursAuroc"
      | "probeAuroc"
      | "probeBestAuroc"
      | "difference"
      | "cosine"
      | "parameters"
      | "milliseconds"
      | "seconds";
    value: number;
  }[];
  /** Keep features on disk for the next time. Default: true. */
  cache?: boolean;
  /** Where to (wecolora/features in the user's cache folder). */
  cacheDir?: string;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** A file that can't be read as a picture is an error, not skipped. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
}

/** Options of `exportModel` (`wecolora export`). */
export interface ExportOptions {
  /** A run's folder, or a model: its directory, file of weights, or hub name. */
  model: string;
  /** What to write, several with commas. */
  to:
    | "huggingface"
    | "onnx"
    | "onnx-float16"
    | "onnx-int8"
    | "onnx-int8-weights"
    | "onnx-q4"
    | "onnx-q4f16"
    | "peft"
    | "safetensors"
    | "timm"
    | (string & {})
    | (
        | "huggingface"
        | "onnx"
        | "onnx-float16"
        | "onnx-int8"
        | "onnx-int8-weights"
        | "onnx-q4"
        | "onnx-q4f16"
        | "peft"
        | "safetensors"
        | "timm"
        | (string & {})
      )[];
  /** Where to write (exports/ in the run's folder where left out); a folder a format where there are several. */
  out?: string;
  /** Pictures to compare on (the run's own where left out). */
  data?: string;
  /** Images to round 4-bit weights for (those of the run where left out; a model without one rounds plainly). */
  images?: string;
  /**
   * At most so many pictures, and three times as many labelled ones for neighbours. Range: an integer, above 0.
   * Default: 100.
   */
  pictures?: number;
  /**
   * Tokens merged away in each block (ToMe), or a list for each; ONNX only. Range: an integer, at least 0, at most
   * 1000000.
   */
  mergeTokens?: number | number[];
  /** Type of the stored weights (the teacher's own where left out). */
  weightType?: "float32" | "float16" | "bfloat16";
  /** How 4-bit products are computed: 0 with floats as they are, 4 with floats brought to int8. Default: 0. */
  accuracyLevel?: 0 | 4;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
}

/** Options of `features` (`wecolora features`). */
export interface FeaturesOptions {
  /** The model: its directory, file of weights, or hub name. */
  model: string;
  /**
   * Pictures: a folder (flat, one folder a class, either in train/ and val/), a published data set as downloaded,
   * or a .csv, .tsv, .jsonl, .txt, .parquet, .tar, .nii, .nii.gz or .zip.
   */
  data: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  pictureColumn?: string;
  /** The column of classes in a table (label, class, ...); several of 0 and 1 are labels that may all apply. */
  labelColumns?: string | string[];
  /** ChestX-ray14: that a picture shows nothing is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /** The safetensors file to write. */
  out: string;
  /**
   * Pictures read at once; on a processor, models run on four a thread of them at once. Range: an integer, above
   * 0, at most 65536. Default: 32.
   */
  batch?: number;
  /** Of the model's products: float32, 8 bits, or what is faster here while features stay near. Default: "float32". */
  precision?: "float32" | "int8" | "auto";
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** A file that can't be read as a picture is an error, not skipped. Default: false. */
  strict?: boolean;
}

/** Options of `inspect` (`wecolora inspect`). */
export interface InspectOptions {
  /** The model: its directory or file of weights. */
  model: string;
  /** Pictures, to see how much each block and each run of blocks matters for them. */
  data?: string;
  /** At most so many pictures, drawn evenly. Range: an integer, above 0. Default: 48. */
  pictures?: number;
  /** The longest run of blocks that one may stand for. Range: an integer, above 0. Default: 4. */
  longest?: number;
  /** Also search which blocks to keep, for each number of them. Default: false. */
  search?: boolean;
  /** Also refit students of six sizes and measure what each costs and gives up, in 8 bits too. Default: false. */
  frontier?: boolean;
  /**
   * Also say what gives up least within it, of blocks, widths and 8 bits: weights on disk (25MB), a share of the
   * teacher (0.3x), or time a picture (10ms). Range: must match
   * ^(?=.*[1-9])(\d{1,12}(?:\.\d{1,12})?)\s*(MB|ms|x)$.
   */
  budget?: string;
  /** A folder for blocks.csv, blocks.svg and blocks.png, and frontier.* where asked for. */
  out?: string;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** A file that can't be read as a picture is an error, not skipped. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
}

/** Options of `report` (`wecolora report`). */
export interface ReportOptions {
  /** Run folders; several are compared on one page. */
  runs: string[];
  /** The page to write (report.html in the run's folder; for several, comparison.html here). */
  out?: string;
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
}

/** Options of `rollout` (`wecolora rollout`). */
export interface RolloutOptions {
  /** The model: its directory, file of weights, or hub name. */
  model: string;
  /** A model to show beside it. */
  teacher?: string;
  /** A folder of pictures. */
  data: string;
  /** The folder to write one PNG a picture into. */
  out: string;
  /** Attention followed through all blocks, or that of the last block alone. Default: "rollout". */
  attention?: "rollout" | "last-attention";
  /** How the heads of a block become one. Default: "max". */
  fusion?: "max" | "mean";
  /**
   * Share of a block's smallest entries that rollout leaves out. Range: a number at least 0, below 1. Default:
   * 0.9.
   */
  discard?: number;
  /** At most so many pictures, drawn evenly. Range: an integer, above 0. Default: 16. */
  pictures?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** A file that can't be read as a picture is an error, not skipped. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
}

/** Options of `segment` (`wecolora segment`). */
export interface SegmentOptions {
  /** Encoders, several with commas: a model's directory, file of weights, or hub name. */
  model: string | string[];
  /** A folder of NIfTI volumes with masks (*_seg.nii.gz; imagesTr/ and labelsTr/; ...). */
  data: string;
  /** The folder for table, masks and decoders. */
  out: string;
  /** What slices are cut across. Default: "axial". */
  axis?: "axial" | "coronal" | "sagittal";
  /** Kinds of scans, as their files end (t1ce,t2,flair): the channels. */
  kinds?: string | string[];
  /** How masks' files end, where it is not seg, mask, label, gt or tissue. */
  maskName?: string;
  /** Names of the masks' numbers, from the smallest above 0. */
  classNames?: string | string[];
  /** Whether the encoder trains with the decoder. Default: "frozen". */
  encoder?: "frozen" | "trained";
  /** Also train the decoder on bare pixels, to compare with. Default: false. */
  yardstick?: boolean;
  /**
   * What is held out: whole cases (the usual for several), or of each case a block of slices in the lower and one
   * in the upper half, or its two ends.
   */
  split?: "cases" | "blocks" | "ends";
  /** Share of the cases or slices to judge on. Range: a number above 0, below 1. Default: 0.3. */
  heldOut?: number;
  /**
   * Slices beside held-out blocks that nothing learns from. Range: an integer, at least 0, at most 1000. Default:
   * 4.
   */
  gap?: number;
  /** At most so many slices to train on, evenly spread. Range: an integer, above 0. */
  trainSlices?: number;
  /** Passes over the slices. Range: an integer, above 0, at most 100000. Default: 30. */
  epochs?: number;
  /** Epochs of linear warm-up. Range: a number at least 0, at most 100000. Default: 2. */
  warmupEpochs?: number;
  /** Slices to a step. Range: an integer, above 0, at most 65536. Default: 8. */
  batch?: number;
  /** The decoder's, at its highest. Range: a number at least 1e-30. Default: 0.002. */
  learningRate?: number;
  /** The encoder's learning rate, times the decoder's. Range: a number above 0, at most 1000. Default: 0.05. */
  encoderRate?: number;
  /** Of matrices and kernels. Range: a number at least 0, at most 1000. Default: 0.01. */
  weightDecay?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
}

/** Options of `similarity` (`wecolora similarity`). */
export interface SimilarityOptions {
  /** The student: its directory, file of weights, or hub name. */
  model: string;
  /** The teacher. */
  teacher: string;
  /** A folder of pictures. */
  data: string;
  /** A folder for similarity.csv, .svg and .png (only the table where left out). */
  out?: string;
  /** At most so many pictures, drawn evenly. Range: an integer, above 0. Default: 64. */
  pictures?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Pixels per side of the pictures (the model's own where left out). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** A file that can't be read as a picture is an error, not skipped. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
}

/** Options of `distill` where it resumes a run. */
export interface ResumeOptions {
  /** The folder of a run to go on with; its own settings hold. */
  resume: string;
  /** Threads of ONNX Runtime (all cores where left out). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Where graphs run; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
}
