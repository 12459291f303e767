// The options of all commands as the API takes them. Made by `npm run generate` from their schemas; don't edit it.
/** Options of `cache` (`wecolora cache`). */
export interface CacheOptions {
  /** The teacher: a model's directory, its file of weights, or its hub name. */
  teacher: string;
  /**
   * Folder of images, published data set, archive or table. A flat folder, one folder per class, or either in
   * train/ and val/; a published data set as downloaded; or a file: .csv, .tsv, .jsonl, .txt, .parquet, .tar,
   * .nii, .nii.gz or .zip. Default: "procedural:300".
   */
  data?: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  imageColumn?: string;
  /**
   * Column of classes in a table, or several columns of 0 and 1. Several columns of 0 and 1 are labels that may
   * all apply to an image.
   */
  labelColumns?: string | string[];
  /** ChestX-ray14: an image without findings is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /**
   * Whose mean and standard deviation normalize the images. `paper` takes those of the paper's authors for the
   * data set, with their transforms. Default: "model".
   */
  normalization?: "model" | "data-set" | "paper";
  /** Output folder of the cached features. */
  out: string;
  /**
   * Which blocks are kept: evenly spaced, or found by a search. `auto` searches blocks and, for the closed form,
   * shapes with as many weights. The paper's is `even`. Default: "even".
   */
  keep?: "even" | "auto";
  /**
   * Largest file (25MB), time per image (10ms), both, or share (0.3x). The best model within a size of the loaded
   * file (25MB), a time per image on this machine (10ms), both (25MB,10ms), or a share of the teacher's parameters
   * (0.3x).
   */
  budget?: string;
  /**
   * Several students of these shares of the teacher (0.3x,0.5x). From one ranking of cuts. The largest is
   * `student/`, the others are `students/<size>/`.
   */
  sizes?: string | string[];
  /**
   * Cheapest model with this agreement with the teacher. The share of equal predictions; the mean cosine
   * similarity where the teacher has no classifier. A budget bounds it. Range: a number above 0, at most 1.
   */
  agreement?: number;
  /** What --budget (MB or ms) and --agreement may change. */
  levers?: "shape" | "image-size" | "tokens" | "bits" | ("shape" | "image-size" | "tokens" | "bits")[];
  /** The student's start, training and loss (default: the recipe's). Default: "wecolora". */
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
   * The student before training (default: the method's). Copies of the kept blocks (`copy` for short), the
   * closed-form refit of these (`analytic`), the first blocks, or random weights.
   */
  start?: "weight-copy" | "analytic" | "top-blocks" | "random" | "copy";
  /**
   * The student has about 1/n of the teacher's block weights (default: 2). Left out where keptBlocks are given.
   * Range: an integer, above 0.
   */
  reductionFactor?: number;
  /** The teacher's blocks to keep, counted from 0. */
  keptBlocks?: number[];
  /**
   * Losses between student and teacher features (default: the method's). Several with commas add up. Settings are
   * given as kind=smooth-l1,beta=0.5.
   */
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
   * Precision of products with frozen weights and adapters. `auto` measures both and takes int8 where it is faster
   * and features stay close. Default: "float32".
   */
  precision?: "float32" | "int8" | "auto";
  /** Which of these products use int8. Default: ["teacher","student","backward","adapters"]. */
  int8Parts?: ("teacher" | "student" | "backward" | "adapters")[];
  /**
   * Gradient checkpointing: less memory, a fifth more time. Activations are recomputed block by block. Default:
   * false.
   */
  checkpointing?: boolean;
  /** Type of the stored activations; float16 takes less memory. Default: "float32". */
  activations?: "float32" | "float16";
  /** Deit: learn the teacher's probabilities, not its answer. Default: false. */
  softLabels?: boolean;
  /** Dmae: share of the patches that are masked. Range: a number at least 0, below 1. Default: 0.75. */
  maskRatio?: number;
  /**
   * Rank of the adapters, or one per map: q=16,fc1=64 (default: 128). At most the smaller side of the map, which
   * is taken where it is below the default. Range: an integer, above 0.
   */
  rank?: number | Partial<Record<"q" | "k" | "v" | "proj" | "fc1" | "fc2", number>>;
  /** Scale adapters by alpha / rank, as in PEFT (default: no scaling). Range: a number above 0, at most 1000000. */
  alpha?: number;
  /** Scale adapters by alpha / sqrt(rank) instead (rsLoRA). Default: false. */
  rankStabilized?: boolean;
  /** Share of the adapters' inputs set to zero in training. Range: a number at least 0, below 1. Default: 0. */
  adapterDropout?: number;
  /** Maps that get adapters (all six; q and v for lora). */
  targetModules?: ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  /**
   * What selects heads and channels for grail. Norms of weights, or weights times the norms of their inputs.
   * Default: "wanda".
   */
  selection?: "magnitude" | "wanda";
  /** Channels that each MLP keeps, or their share below 1 (default: all). Range: a number above 0. */
  mlpWidth?: number;
  /** Heads that each block keeps, or their share below 1 (default: all). Range: a number above 0. */
  keptHeads?: number;
  /**
   * Heads x MLP channels of each kept block, such as 3x768,0x512,6x0. The same for all blocks where left out.
   * 6x480x24x48 also says the channels of each head's queries and values.
   */
  blockShapes?: string | string[];
  /**
   * Crops of each image in the closed form; the first as for evaluation. Range: an integer, above 0, at most 1000.
   * Default: 1.
   */
  analyticCrops?: number;
  /**
   * Tokens sampled per unknown in the closed form (default: 5). 15 by default where blocks differ. More is slower.
   * Range: a number at least 0.01, at most 1000000000.
   */
  analyticTokens?: number;
  /** Linear maps that the closed form refits. fc2 is refitted in any case, and proj where heads are removed. */
  analyticMaps?: "q" | "k" | "v" | "proj" | "fc1" | "fc2" | ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  /**
   * Passes of the closed form over all blocks. Later passes keep only what comes closer to the teacher. Range: an
   * integer, above 0, at most 100. Default: 1.
   */
  analyticSweeps?: number;
  /**
   * Procedural images that steady the closed form where yours are few. 150 bring a student of 30 images nearer to
   * the teacher, and take two to four times as long. Range: an integer, at least 0, at most 100000. Default: 0.
   */
  priorImages?: number;
  /**
   * The loss whose gradients score heads and channels. Cross-entropy between an image and a crop of it, or the
   * squared distance of their features. Default: "self-supervised".
   */
  gradientLoss?: "self-supervised" | "features";
  /** Also correct the weights behind removed units (snapvit). As SparseGPT does. Default: false. */
  correction?: boolean;
  /** Generations of snapvit's evolution strategy. Range: an integer, above 0, at most 10000. Default: 20. */
  generations?: number;
  /**
   * Optimizer, also with settings: kind=adamw,clipNorm=1. As an object or as
   * kind=adamw,weightDecay=0.05,clipNorm=1,layerDecay=0.8. Default: "adamw".
   */
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
   * What is removed to reach 1/r of the block weights. `balanced` removes blocks, heads and MLP channels;
   * `channels` blocks and MLP channels; `blocks` blocks alone, as the paper does; `by-block` heads and MLP
   * channels, differently in each block, which ONNX files alone can hold. Default: "blocks".
   */
  shape?: "balanced" | "channels" | "blocks" | "by-block";
  /**
   * Learning rate for an effective batch of 256; larger ones scale it up. lr = baseLearningRate * batch / 256.
   * Range: a number at least 1e-30. Default: 0.001.
   */
  baseLearningRate?: number;
  /** Passes over the images. Range: a number above 0, at most 100000. Default: 10. */
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
   * Images per step (1024, or fewer so that an epoch has several steps). Range: an integer, above 0, at most
   * 65536.
   */
  effectiveBatch?: number;
  /**
   * Crops of each image whose teacher features are cached. Training draws from these crops; each epoch has new
   * crops where left out. Range: an integer, above 0, at most 10000.
   */
  cachedCrops?: number;
  /**
   * Where teacher features are cached: auto takes memory if they fit. On disk they stand in the run folder while
   * it trains. Default: "auto".
   */
  cropCache?: "auto" | "memory" | "disk";
  /**
   * Folder of teacher features that wecolora cache made. Training draws from its crops, so the teacher is not
   * shown any.
   */
  cachedFeatures?: string;
  /**
   * Images in a micro-batch (default: 6 to 16, fewer if memory is short). Range: an integer, above 0, at most
   * 65536.
   */
  batch?: number;
  /** Share of each class (or of a flat folder) to train on. Range: a number above 0, at most 1. */
  fewShotRatio?: number;
  /** How a class's share is rounded to a count of at least one image. Default: "nearest". */
  fewShotRounding?: "nearest" | "down";
  /** Images of each class (or of a flat folder) to train on. Range: an integer, above 0. */
  fewShotCount?: number;
  /** Share held out for evaluation where the data has no val/. Range: a number at least 0, below 1. Default: 0.1. */
  heldOut?: number;
  /** Type of the stored weights (default: the teacher's own). */
  weightType?: "float32" | "float16" | "bfloat16";
  /** Steps between checkpoints (default: an eighth of the run). Range: an integer, above 0. */
  checkpointSteps?: number;
  /** A checkpoint is never further back than so many minutes. Range: a number above 0, at most 100000. Default: 5. */
  checkpointMinutes?: number;
  /** The last so many checkpoints are kept, and the best. Range: an integer, above 0. Default: 2. */
  keepCheckpoints?: number;
  /** Steps between held-out evaluations (a fifth of the run; 0: none). Range: an integer, at least 0. */
  evaluateSteps?: number;
  /**
   * Held-out images in each evaluation while training. Twice as many training images are evaluated too. Range: an
   * integer, above 0. Default: 64.
   */
  heldOutImages?: number;
  /**
   * Stop after so many held-out evaluations without a better fidelity. The best student is taken. Range: an
   * integer, above 0.
   */
  earlyStop?: number;
  /** Evaluate the student at the end. Default: true. */
  evaluate?: boolean;
  /** Evaluate teacher and weight copy beside the student. Default: true. */
  evaluateTeacher?: boolean;
  /** At most so many labelled images that k-NN and probe learn from. Range: an integer, above 0. Default: 2000. */
  labelledImages?: number;
  /** At most so many evaluation images. Range: an integer, above 0. Default: 1000. */
  evaluationImages?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Write report.html and report.md at the end. Default: true. */
  report?: boolean;
  /** Replace a run that is already in the folder. Default: false. */
  overwrite?: boolean;
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /**
   * Settings that go together (default: closed-form). `closed-form` refits; `refined` trains adapters after it,
   * and is the default where an option of training is given; `paper` is WeCoLoRA as published.
   */
  recipe?: "closed-form" | "refined" | "paper";
  /** Formats to export at the end; several with commas. */
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
  /** Who runs the work as tasks (local where --tasks is given). */
  launcher?: "kubernetes" | "local" | "plan" | "slurm";
  /** Tasks that the work is cut into. Range: an integer, at least 1, at most 100000. */
  tasks?: number;
  /** Tasks that run at the same time. Range: an integer, at least 1, at most 100000. */
  maxParallel?: number;
  /** Times that a failed task is run again. Range: an integer, at least 0, at most 100. Default: 1. */
  retries?: number;
  /**
   * The jobs' image and volume: image=<image>,volume=<claim>:<path>. Also namespace, queue (of Kueue), cpu,
   * memory, gpu and grace (seconds).
   */
  kubernetes?: {
    /** Image of the containers, with wecolora in it (cluster/Dockerfile builds one). */
    image: string;
    /** PersistentVolumeClaim and where it is mounted, as here: data:/data. */
    volume: string;
    /** Namespace of the jobs. */
    namespace?: string;
    /** Local queue of Kueue. */
    queue?: string;
    /** Processors of a task. */
    cpu?: string | number;
    /** Memory of a task, such as 8Gi. */
    memory?: string | number;
    /** GPUs of a task (nvidia.com/gpu). Range: an integer, at least 0. */
    gpu?: number;
    /** Seconds that a stopped task has to save its state. Range: an integer, at least 1. Default: 120. */
    grace?: number;
  };
  /** Launcher kubernetes: hand the manifests to kubectl. Default: false. */
  apply?: boolean;
  /**
   * Options of sbatch, such as partition=gpu,time=2:00:00,gres=gpu:1. `setup=<commands>` runs these before each
   * task.
   */
  slurm?: Record<string, string | number | boolean>;
  /** @deprecated The earlier name of `evaluate`. */
  judge?: boolean;
  /** @deprecated The earlier name of `evaluateTeacher`. */
  judgeTeacher?: boolean;
  /** @deprecated The earlier name of `labelledImages`. */
  judgeBank?: number;
  /** @deprecated The earlier name of `evaluationImages`. */
  judgeQueries?: number;
  /** @deprecated The earlier name of `heldOutImages`. */
  evaluatePictures?: number;
  /** @deprecated The earlier name of `imageColumn`. */
  pictureColumn?: string;
  /** @deprecated The earlier name of `cachedCrops`. */
  keptViews?: number;
  /** @deprecated The earlier name of `cropCache`. */
  keptViewsOn?: "auto" | "memory" | "disk";
  /** @deprecated The earlier name of `analyticCrops`. */
  analyticViews?: number;
}

/** Options of `cancel` (`wecolora cancel`). */
export interface CancelOptions {
  /** The output whose tasks are ended, or the folder of its plan. */
  out: string;
}

/** Options of `compare` (`wecolora compare`). */
export interface CompareOptions {
  /** The teacher, where the grid has none. */
  teacher?: string;
  /** The images, where the grid has none. */
  data?: string;
  /** Output folder of the comparison; each run has a folder in it. */
  out: string;
  /** Title above the table. */
  title?: string;
  /**
   * Options of distill, each with the values to try. Several seeds give mean and spread. A list of grids shares
   * one table.
   */
  grid:
    | Record<string, (string | number | boolean | unknown[] | Record<string, unknown>)[]>
    | Record<string, (string | number | boolean | unknown[] | Record<string, unknown>)[]>[];
  /** Options of distill that all runs share. Default: {}. */
  base?: Record<string, unknown>;
  /** Further evaluations of each student: options of evaluate, by name. Default: {}. */
  evaluations?: Record<string, Record<string, unknown>>;
  /** A paper's figures, shown beside the measured ones. */
  published?: {
    where: Record<string, string | number>;
    /** The evaluation that it belongs to. */
    on?: string;
    metric:
      | "knn"
      | "probe"
      | "probeBest"
      | "head"
      | "agreement"
      | "knnAuroc"
      | "probeAuroc"
      | "probeBestAuroc"
      | "difference"
      | "cosine"
      | "parameters"
      | "milliseconds"
      | "seconds";
    value: number;
  }[];
  /** Run again where settings, teacher or data have changed. Default: false. */
  overwrite?: boolean;
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Who runs the work as tasks (local where --tasks is given). */
  launcher?: "kubernetes" | "local" | "plan" | "slurm";
  /** Tasks that the work is cut into. Range: an integer, at least 1, at most 100000. */
  tasks?: number;
  /** Tasks that run at the same time. Range: an integer, at least 1, at most 100000. */
  maxParallel?: number;
  /** Times that a failed task is run again. Range: an integer, at least 0, at most 100. Default: 1. */
  retries?: number;
  /**
   * The jobs' image and volume: image=<image>,volume=<claim>:<path>. Also namespace, queue (of Kueue), cpu,
   * memory, gpu and grace (seconds).
   */
  kubernetes?: {
    /** Image of the containers, with wecolora in it (cluster/Dockerfile builds one). */
    image: string;
    /** PersistentVolumeClaim and where it is mounted, as here: data:/data. */
    volume: string;
    /** Namespace of the jobs. */
    namespace?: string;
    /** Local queue of Kueue. */
    queue?: string;
    /** Processors of a task. */
    cpu?: string | number;
    /** Memory of a task, such as 8Gi. */
    memory?: string | number;
    /** GPUs of a task (nvidia.com/gpu). Range: an integer, at least 0. */
    gpu?: number;
    /** Seconds that a stopped task has to save its state. Range: an integer, at least 1. Default: 120. */
    grace?: number;
  };
  /** Launcher kubernetes: hand the manifests to kubectl. Default: false. */
  apply?: boolean;
  /**
   * Options of sbatch, such as partition=gpu,time=2:00:00,gres=gpu:1. `setup=<commands>` runs these before each
   * task.
   */
  slurm?: Record<string, string | number | boolean>;
}

/** Options of `distill` (`wecolora distill`). */
export interface DistillOptions {
  /** The teacher: a model's directory, its file of weights, or its hub name. */
  teacher: string;
  /**
   * Folder of images, published data set, archive or table. A flat folder, one folder per class, or either in
   * train/ and val/; a published data set as downloaded; or a file: .csv, .tsv, .jsonl, .txt, .parquet, .tar,
   * .nii, .nii.gz or .zip. Default: "procedural:300".
   */
  data?: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  imageColumn?: string;
  /**
   * Column of classes in a table, or several columns of 0 and 1. Several columns of 0 and 1 are labels that may
   * all apply to an image.
   */
  labelColumns?: string | string[];
  /** ChestX-ray14: an image without findings is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /**
   * Whose mean and standard deviation normalize the images. `paper` takes those of the paper's authors for the
   * data set, with their transforms. Default: "model".
   */
  normalization?: "model" | "data-set" | "paper";
  /** Empty or absent output folder (default: runs/<teacher>-<size>-<time>). */
  out?: string;
  /**
   * Which blocks are kept: evenly spaced, or found by a search. `auto` searches blocks and, for the closed form,
   * shapes with as many weights. The paper's is `even`. Default: "even".
   */
  keep?: "even" | "auto";
  /**
   * Largest file (25MB), time per image (10ms), both, or share (0.3x). The best model within a size of the loaded
   * file (25MB), a time per image on this machine (10ms), both (25MB,10ms), or a share of the teacher's parameters
   * (0.3x).
   */
  budget?: string;
  /**
   * Several students of these shares of the teacher (0.3x,0.5x). From one ranking of cuts. The largest is
   * `student/`, the others are `students/<size>/`.
   */
  sizes?: string | string[];
  /**
   * Cheapest model with this agreement with the teacher. The share of equal predictions; the mean cosine
   * similarity where the teacher has no classifier. A budget bounds it. Range: a number above 0, at most 1.
   */
  agreement?: number;
  /** What --budget (MB or ms) and --agreement may change. */
  levers?: "shape" | "image-size" | "tokens" | "bits" | ("shape" | "image-size" | "tokens" | "bits")[];
  /** The student's start, training and loss (default: the recipe's). Default: "wecolora". */
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
   * The student before training (default: the method's). Copies of the kept blocks (`copy` for short), the
   * closed-form refit of these (`analytic`), the first blocks, or random weights.
   */
  start?: "weight-copy" | "analytic" | "top-blocks" | "random" | "copy";
  /**
   * The student has about 1/n of the teacher's block weights (default: 2). Left out where keptBlocks are given.
   * Range: an integer, above 0.
   */
  reductionFactor?: number;
  /** The teacher's blocks to keep, counted from 0. */
  keptBlocks?: number[];
  /**
   * Losses between student and teacher features (default: the method's). Several with commas add up. Settings are
   * given as kind=smooth-l1,beta=0.5.
   */
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
   * Precision of products with frozen weights and adapters. `auto` measures both and takes int8 where it is faster
   * and features stay close. Default: "float32".
   */
  precision?: "float32" | "int8" | "auto";
  /** Which of these products use int8. Default: ["teacher","student","backward","adapters"]. */
  int8Parts?: ("teacher" | "student" | "backward" | "adapters")[];
  /**
   * Gradient checkpointing: less memory, a fifth more time. Activations are recomputed block by block. Default:
   * false.
   */
  checkpointing?: boolean;
  /** Type of the stored activations; float16 takes less memory. Default: "float32". */
  activations?: "float32" | "float16";
  /** Deit: learn the teacher's probabilities, not its answer. Default: false. */
  softLabels?: boolean;
  /** Dmae: share of the patches that are masked. Range: a number at least 0, below 1. Default: 0.75. */
  maskRatio?: number;
  /**
   * Rank of the adapters, or one per map: q=16,fc1=64 (default: 128). At most the smaller side of the map, which
   * is taken where it is below the default. Range: an integer, above 0.
   */
  rank?: number | Partial<Record<"q" | "k" | "v" | "proj" | "fc1" | "fc2", number>>;
  /** Scale adapters by alpha / rank, as in PEFT (default: no scaling). Range: a number above 0, at most 1000000. */
  alpha?: number;
  /** Scale adapters by alpha / sqrt(rank) instead (rsLoRA). Default: false. */
  rankStabilized?: boolean;
  /** Share of the adapters' inputs set to zero in training. Range: a number at least 0, below 1. Default: 0. */
  adapterDropout?: number;
  /** Maps that get adapters (all six; q and v for lora). */
  targetModules?: ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  /**
   * What selects heads and channels for grail. Norms of weights, or weights times the norms of their inputs.
   * Default: "wanda".
   */
  selection?: "magnitude" | "wanda";
  /** Channels that each MLP keeps, or their share below 1 (default: all). Range: a number above 0. */
  mlpWidth?: number;
  /** Heads that each block keeps, or their share below 1 (default: all). Range: a number above 0. */
  keptHeads?: number;
  /**
   * Heads x MLP channels of each kept block, such as 3x768,0x512,6x0. The same for all blocks where left out.
   * 6x480x24x48 also says the channels of each head's queries and values.
   */
  blockShapes?: string | string[];
  /**
   * Crops of each image in the closed form; the first as for evaluation. Range: an integer, above 0, at most 1000.
   * Default: 1.
   */
  analyticCrops?: number;
  /**
   * Tokens sampled per unknown in the closed form (default: 5). 15 by default where blocks differ. More is slower.
   * Range: a number at least 0.01, at most 1000000000.
   */
  analyticTokens?: number;
  /** Linear maps that the closed form refits. fc2 is refitted in any case, and proj where heads are removed. */
  analyticMaps?: "q" | "k" | "v" | "proj" | "fc1" | "fc2" | ("q" | "k" | "v" | "proj" | "fc1" | "fc2")[];
  /**
   * Passes of the closed form over all blocks. Later passes keep only what comes closer to the teacher. Range: an
   * integer, above 0, at most 100. Default: 1.
   */
  analyticSweeps?: number;
  /**
   * Procedural images that steady the closed form where yours are few. 150 bring a student of 30 images nearer to
   * the teacher, and take two to four times as long. Range: an integer, at least 0, at most 100000. Default: 0.
   */
  priorImages?: number;
  /**
   * The loss whose gradients score heads and channels. Cross-entropy between an image and a crop of it, or the
   * squared distance of their features. Default: "self-supervised".
   */
  gradientLoss?: "self-supervised" | "features";
  /** Also correct the weights behind removed units (snapvit). As SparseGPT does. Default: false. */
  correction?: boolean;
  /** Generations of snapvit's evolution strategy. Range: an integer, above 0, at most 10000. Default: 20. */
  generations?: number;
  /**
   * Optimizer, also with settings: kind=adamw,clipNorm=1. As an object or as
   * kind=adamw,weightDecay=0.05,clipNorm=1,layerDecay=0.8. Default: "adamw".
   */
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
   * What is removed to reach 1/r of the block weights. `balanced` removes blocks, heads and MLP channels;
   * `channels` blocks and MLP channels; `blocks` blocks alone, as the paper does; `by-block` heads and MLP
   * channels, differently in each block, which ONNX files alone can hold. Default: "blocks".
   */
  shape?: "balanced" | "channels" | "blocks" | "by-block";
  /**
   * Learning rate for an effective batch of 256; larger ones scale it up. lr = baseLearningRate * batch / 256.
   * Range: a number at least 1e-30. Default: 0.001.
   */
  baseLearningRate?: number;
  /** Passes over the images. Range: a number above 0, at most 100000. Default: 10. */
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
   * Images per step (1024, or fewer so that an epoch has several steps). Range: an integer, above 0, at most
   * 65536.
   */
  effectiveBatch?: number;
  /**
   * Crops of each image whose teacher features are cached. Training draws from these crops; each epoch has new
   * crops where left out. Range: an integer, above 0, at most 10000.
   */
  cachedCrops?: number;
  /**
   * Where teacher features are cached: auto takes memory if they fit. On disk they stand in the run folder while
   * it trains. Default: "auto".
   */
  cropCache?: "auto" | "memory" | "disk";
  /**
   * Folder of teacher features that wecolora cache made. Training draws from its crops, so the teacher is not
   * shown any.
   */
  cachedFeatures?: string;
  /**
   * Images in a micro-batch (default: 6 to 16, fewer if memory is short). Range: an integer, above 0, at most
   * 65536.
   */
  batch?: number;
  /** Share of each class (or of a flat folder) to train on. Range: a number above 0, at most 1. */
  fewShotRatio?: number;
  /** How a class's share is rounded to a count of at least one image. Default: "nearest". */
  fewShotRounding?: "nearest" | "down";
  /** Images of each class (or of a flat folder) to train on. Range: an integer, above 0. */
  fewShotCount?: number;
  /** Share held out for evaluation where the data has no val/. Range: a number at least 0, below 1. Default: 0.1. */
  heldOut?: number;
  /** Type of the stored weights (default: the teacher's own). */
  weightType?: "float32" | "float16" | "bfloat16";
  /** Steps between checkpoints (default: an eighth of the run). Range: an integer, above 0. */
  checkpointSteps?: number;
  /** A checkpoint is never further back than so many minutes. Range: a number above 0, at most 100000. Default: 5. */
  checkpointMinutes?: number;
  /** The last so many checkpoints are kept, and the best. Range: an integer, above 0. Default: 2. */
  keepCheckpoints?: number;
  /** Steps between held-out evaluations (a fifth of the run; 0: none). Range: an integer, at least 0. */
  evaluateSteps?: number;
  /**
   * Held-out images in each evaluation while training. Twice as many training images are evaluated too. Range: an
   * integer, above 0. Default: 64.
   */
  heldOutImages?: number;
  /**
   * Stop after so many held-out evaluations without a better fidelity. The best student is taken. Range: an
   * integer, above 0.
   */
  earlyStop?: number;
  /** Evaluate the student at the end. Default: true. */
  evaluate?: boolean;
  /** Evaluate teacher and weight copy beside the student. Default: true. */
  evaluateTeacher?: boolean;
  /** At most so many labelled images that k-NN and probe learn from. Range: an integer, above 0. Default: 2000. */
  labelledImages?: number;
  /** At most so many evaluation images. Range: an integer, above 0. Default: 1000. */
  evaluationImages?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Write report.html and report.md at the end. Default: true. */
  report?: boolean;
  /** Replace a run that is already in the folder. Default: false. */
  overwrite?: boolean;
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /**
   * Settings that go together (default: closed-form). `closed-form` refits; `refined` trains adapters after it,
   * and is the default where an option of training is given; `paper` is WeCoLoRA as published.
   */
  recipe?: "closed-form" | "refined" | "paper";
  /** Formats to export at the end; several with commas. */
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
  /** @deprecated The earlier name of `evaluate`. */
  judge?: boolean;
  /** @deprecated The earlier name of `evaluateTeacher`. */
  judgeTeacher?: boolean;
  /** @deprecated The earlier name of `labelledImages`. */
  judgeBank?: number;
  /** @deprecated The earlier name of `evaluationImages`. */
  judgeQueries?: number;
  /** @deprecated The earlier name of `heldOutImages`. */
  evaluatePictures?: number;
  /** @deprecated The earlier name of `imageColumn`. */
  pictureColumn?: string;
  /** @deprecated The earlier name of `cachedCrops`. */
  keptViews?: number;
  /** @deprecated The earlier name of `cropCache`. */
  keptViewsOn?: "auto" | "memory" | "disk";
  /** @deprecated The earlier name of `analyticCrops`. */
  analyticViews?: number;
}

/** Options of `evaluate` (`wecolora evaluate`). */
export interface EvaluateOptions {
  /** The model or several: a directory, file of weights, or hub name. */
  model: string | string[];
  /**
   * Folder of images, published data set, archive or table. A flat folder, one folder per class, or either in
   * train/ and val/; a published data set as downloaded; or a file: .csv, .tsv, .jsonl, .txt, .parquet, .tar,
   * .nii, .nii.gz or .zip.
   */
  data: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  imageColumn?: string;
  /**
   * Column of classes in a table, or several columns of 0 and 1. Several columns of 0 and 1 are labels that may
   * all apply to an image.
   */
  labelColumns?: string | string[];
  /** ChestX-ray14: an image without findings is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /**
   * Whose mean and standard deviation normalize the images. `paper` takes those of the paper's authors for the
   * data set, with their transforms. Default: "model".
   */
  normalization?: "model" | "data-set" | "paper";
  /** The teacher, for fidelity. */
  teacher?: string;
  /**
   * Output folder for tables of images and classes, and for charts. evaluation.json, images.csv, classes.csv, and
   * the confusion matrix as a table and a chart.
   */
  out?: string;
  /** Share held out for evaluation where the data has no val/. Range: a number above 0, below 1. Default: 0.2. */
  heldOut?: number;
  /**
   * Images that are read at once. On a CPU, models run on four images per thread at once. Range: an integer, above
   * 0, at most 65536. Default: 32.
   */
  batch?: number;
  /**
   * Precision of the models' products; the teacher stays float32. `auto` measures both and takes int8 where it is
   * faster and features stay close. Default: "float32".
   */
  precision?: "float32" | "int8" | "auto";
  /** K of the weighted k-NN classifier. Range: an integer, above 0. Default: 10. */
  knnK?: number;
  /** Temperature of the k-NN weights. Range: a number at least 0.0001, at most 1000. Default: 0.07. */
  temperature?: number;
  /**
   * Epochs of the linear probe (90, or the data set's published protocol). Range: an integer, above 0, at most
   * 100000.
   */
  probeEpochs?: number;
  /**
   * Epochs of the probe's linear warm-up (10, or a ninth of the epochs). The smaller of both. Range: a number at
   * least 0, at most 100000.
   */
  probeWarmupEpochs?: number;
  /** Batch of the linear probe. Range: an integer, above 0, at most 65536. Default: 512. */
  probeBatch?: number;
  /**
   * Base learning rate of the probe (0.1, more where images are few). For a batch of 256. Of several with commas,
   * the best on a tenth of the images is taken. Range: a number at least 1e-30.
   */
  probeLearningRate?: number | number[];
  /** Also report the probe's best epoch on the evaluation images. As the paper's authors do. Default: false. */
  probeBestEpoch?: boolean;
  /** Also fit a logistic regression to convergence. Default: false. */
  logistic?: boolean;
  /** A paper's figures, shown beside the measured ones. */
  published?: {
    /** The model as given, where there are several. */
    model?: string;
    metric:
      | "knn"
      | "probe"
      | "probeBest"
      | "head"
      | "agreement"
      | "knnAuroc"
      | "probeAuroc"
      | "probeBestAuroc"
      | "difference"
      | "cosine"
      | "parameters"
      | "milliseconds"
      | "seconds";
    value: number;
  }[];
  /** Cache features on disk. Default: true. */
  cache?: boolean;
  /** Folder of cached features (default: in the user's cache folder). wecolora/features in the user's cache folder. */
  cacheDir?: string;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /** Who runs the work as tasks (local where --tasks is given). */
  launcher?: "kubernetes" | "local" | "plan" | "slurm";
  /** Tasks that the work is cut into. Range: an integer, at least 1, at most 100000. */
  tasks?: number;
  /** Tasks that run at the same time. Range: an integer, at least 1, at most 100000. */
  maxParallel?: number;
  /** Times that a failed task is run again. Range: an integer, at least 0, at most 100. Default: 1. */
  retries?: number;
  /**
   * The jobs' image and volume: image=<image>,volume=<claim>:<path>. Also namespace, queue (of Kueue), cpu,
   * memory, gpu and grace (seconds).
   */
  kubernetes?: {
    /** Image of the containers, with wecolora in it (cluster/Dockerfile builds one). */
    image: string;
    /** PersistentVolumeClaim and where it is mounted, as here: data:/data. */
    volume: string;
    /** Namespace of the jobs. */
    namespace?: string;
    /** Local queue of Kueue. */
    queue?: string;
    /** Processors of a task. */
    cpu?: string | number;
    /** Memory of a task, such as 8Gi. */
    memory?: string | number;
    /** GPUs of a task (nvidia.com/gpu). Range: an integer, at least 0. */
    gpu?: number;
    /** Seconds that a stopped task has to save its state. Range: an integer, at least 1. Default: 120. */
    grace?: number;
  };
  /** Launcher kubernetes: hand the manifests to kubectl. Default: false. */
  apply?: boolean;
  /**
   * Options of sbatch, such as partition=gpu,time=2:00:00,gres=gpu:1. `setup=<commands>` runs these before each
   * task.
   */
  slurm?: Record<string, string | number | boolean>;
  /** @deprecated The earlier name of `knnK`. */
  neighbours?: number;
  /** @deprecated The earlier name of `imageColumn`. */
  pictureColumn?: string;
}

/** Options of `exportModel` (`wecolora export`). */
export interface ExportOptions {
  /** Run folder, or a model: its directory, file of weights, or hub name. */
  model: string;
  /** Formats to write; several with commas. */
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
  /** Output folder (default: exports/ in the run folder). Each of several formats gets a folder in it. */
  out?: string;
  /** Images to compare on (default: the run's own). */
  data?: string;
  /** Images to round 4-bit weights for (default: those of the run). A model without a run is rounded to nearest. */
  images?: string;
  /**
   * At most so many images, and three times as many labelled ones for k-NN. Range: an integer, above 0. Default:
   * 100.
   */
  maxImages?: number;
  /**
   * Tokens merged away in each block (ToMe), or a list for each; ONNX only. Range: an integer, at least 0, at most
   * 1000000.
   */
  mergeTokens?: number | number[];
  /** Type of the stored weights (default: the teacher's own). */
  weightType?: "float32" | "float16" | "bfloat16";
  /** Bits of a weight in 4-bit exports: fewer make smaller files. Default: 4. */
  bits?: 2 | 3 | 4;
  /** 4-bit products: 0 computes in floats, 4 quantizes them to int8. Default: 0. */
  accuracyLevel?: 0 | 4;
  /** 4-bit weights that share a scale: more take fewer bytes. Default: 32. */
  blockSize?: 32 | 64 | 128;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /** @deprecated The earlier name of `maxImages`. */
  pictures?: number;
}

/** Options of `features` (`wecolora features`). */
export interface FeaturesOptions {
  /** The model: its directory, file of weights, or hub name. */
  model: string;
  /**
   * Folder of images, published data set, archive or table. A flat folder, one folder per class, or either in
   * train/ and val/; a published data set as downloaded; or a file: .csv, .tsv, .jsonl, .txt, .parquet, .tar,
   * .nii, .nii.gz or .zip.
   */
  data: string;
  /** Which published data set it is, where its files don't show it. */
  dataSet?: "imagenet" | "inaturalist2019" | "cifar10" | "cifar100" | "resisc45" | "chestxray14";
  /** The column of paths in a table (path, file, image, ...). */
  imageColumn?: string;
  /**
   * Column of classes in a table, or several columns of 0 and 1. Several columns of 0 and 1 are labels that may
   * all apply to an image.
   */
  labelColumns?: string | string[];
  /** ChestX-ray14: an image without findings is a class of its own. Default: false. */
  includeNoFinding?: boolean;
  /** Output file (safetensors). */
  out: string;
  /**
   * Images that are read at once. On a CPU, models run on four images per thread at once. Range: an integer, above
   * 0, at most 65536. Default: 32.
   */
  batch?: number;
  /**
   * Precision of the model's products. `auto` measures both and takes int8 where it is faster and features stay
   * close. Default: "float32".
   */
  precision?: "float32" | "int8" | "auto";
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Who runs the work as tasks (local where --tasks is given). */
  launcher?: "kubernetes" | "local" | "plan" | "slurm";
  /** Tasks that the work is cut into. Range: an integer, at least 1, at most 100000. */
  tasks?: number;
  /** Tasks that run at the same time. Range: an integer, at least 1, at most 100000. */
  maxParallel?: number;
  /** Times that a failed task is run again. Range: an integer, at least 0, at most 100. Default: 1. */
  retries?: number;
  /**
   * The jobs' image and volume: image=<image>,volume=<claim>:<path>. Also namespace, queue (of Kueue), cpu,
   * memory, gpu and grace (seconds).
   */
  kubernetes?: {
    /** Image of the containers, with wecolora in it (cluster/Dockerfile builds one). */
    image: string;
    /** PersistentVolumeClaim and where it is mounted, as here: data:/data. */
    volume: string;
    /** Namespace of the jobs. */
    namespace?: string;
    /** Local queue of Kueue. */
    queue?: string;
    /** Processors of a task. */
    cpu?: string | number;
    /** Memory of a task, such as 8Gi. */
    memory?: string | number;
    /** GPUs of a task (nvidia.com/gpu). Range: an integer, at least 0. */
    gpu?: number;
    /** Seconds that a stopped task has to save its state. Range: an integer, at least 1. Default: 120. */
    grace?: number;
  };
  /** Launcher kubernetes: hand the manifests to kubectl. Default: false. */
  apply?: boolean;
  /**
   * Options of sbatch, such as partition=gpu,time=2:00:00,gres=gpu:1. `setup=<commands>` runs these before each
   * task.
   */
  slurm?: Record<string, string | number | boolean>;
  /** @deprecated The earlier name of `imageColumn`. */
  pictureColumn?: string;
}

/** Options of `inspect` (`wecolora inspect`). */
export interface InspectOptions {
  /** The model: its directory or file of weights. */
  model: string;
  /** Images to measure on how much each block and run of blocks matters. */
  data?: string;
  /** At most so many images, drawn evenly. Range: an integer, above 0. Default: 48. */
  maxImages?: number;
  /** The longest run of blocks that one block may replace. Range: an integer, above 0. Default: 4. */
  longest?: number;
  /** Also search which blocks to keep, for each number of them. Default: false. */
  search?: boolean;
  /**
   * Also show what you get at each price. Shape, image size, merged tokens and bits together, each built and
   * measured. Default: false.
   */
  frontier?: boolean;
  /**
   * Also propose a model within a size (25MB), time (10ms) or share. The model that loses least within a size of
   * the loaded file (25MB), a time per image on this machine (10ms), both (25MB,10ms), or a share of the teacher's
   * parameters (0.3x).
   */
  budget?: string;
  /** Output folder for tables and charts. blocks.csv, blocks.svg and blocks.png, and frontier.* where asked for. */
  out?: string;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /** Who runs the work as tasks (local where --tasks is given). */
  launcher?: "kubernetes" | "local" | "plan" | "slurm";
  /** Tasks that the work is cut into. Range: an integer, at least 1, at most 100000. */
  tasks?: number;
  /** Tasks that run at the same time. Range: an integer, at least 1, at most 100000. */
  maxParallel?: number;
  /** Times that a failed task is run again. Range: an integer, at least 0, at most 100. Default: 1. */
  retries?: number;
  /**
   * The jobs' image and volume: image=<image>,volume=<claim>:<path>. Also namespace, queue (of Kueue), cpu,
   * memory, gpu and grace (seconds).
   */
  kubernetes?: {
    /** Image of the containers, with wecolora in it (cluster/Dockerfile builds one). */
    image: string;
    /** PersistentVolumeClaim and where it is mounted, as here: data:/data. */
    volume: string;
    /** Namespace of the jobs. */
    namespace?: string;
    /** Local queue of Kueue. */
    queue?: string;
    /** Processors of a task. */
    cpu?: string | number;
    /** Memory of a task, such as 8Gi. */
    memory?: string | number;
    /** GPUs of a task (nvidia.com/gpu). Range: an integer, at least 0. */
    gpu?: number;
    /** Seconds that a stopped task has to save its state. Range: an integer, at least 1. Default: 120. */
    grace?: number;
  };
  /** Launcher kubernetes: hand the manifests to kubectl. Default: false. */
  apply?: boolean;
  /**
   * Options of sbatch, such as partition=gpu,time=2:00:00,gres=gpu:1. `setup=<commands>` runs these before each
   * task.
   */
  slurm?: Record<string, string | number | boolean>;
  /** @deprecated The earlier name of `maxImages`. */
  pictures?: number;
}

/** Options of `merge` (`wecolora merge`). */
export interface MergeOptions {
  /** The plan: its folder, or plan.json. */
  plan: string;
  /** Minutes to wait for tasks that are not finished. Range: a number at least 0, at most 1000000. Default: 0. */
  waitMinutes?: number;
}

/** Options of `report` (`wecolora report`). */
export interface ReportOptions {
  /** Run folders; several are compared on one page. */
  runs: string[];
  /** Output page (default: report.html in the run folder). comparison.html in the current folder for several runs. */
  out?: string;
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
}

/** Options of `rollout` (`wecolora rollout`). */
export interface RolloutOptions {
  /** The model: its directory, file of weights, or hub name. */
  model: string;
  /** The teacher, whose attention maps are shown beside the model's. */
  teacher?: string;
  /** A folder of images. */
  data: string;
  /** Output folder for one PNG per image. */
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
  /** At most so many images, drawn evenly. Range: an integer, above 0. Default: 16. */
  maxImages?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /** @deprecated The earlier name of `maxImages`. */
  pictures?: number;
}

/** Options of `segment` (`wecolora segment`). */
export interface SegmentOptions {
  /** Encoders, one or several: directory, file of weights, or hub name. */
  model: string | string[];
  /** Folder of NIfTI volumes with masks. Masks are *_seg.nii.gz and the like, or in labelsTr/ beside imagesTr/. */
  data: string;
  /** Output folder for table, masks and decoders. */
  out: string;
  /** Axis that slices are cut across. Default: "axial". */
  axis?: "axial" | "coronal" | "sagittal";
  /** Kinds of scans, as their files end (t1ce,t2,flair): the channels. */
  kinds?: string | string[];
  /** How masks' files end, where it is not seg, mask, label, gt or tissue. */
  maskName?: string;
  /** Names of the masks' numbers, from the smallest above 0. */
  classNames?: string | string[];
  /** Whether the encoder trains with the decoder. Default: "frozen". */
  encoder?: "frozen" | "trained";
  /** Also train the decoder on raw pixels as a baseline. Default: false. */
  baseline?: boolean;
  /**
   * What is held out: cases, or slices of each case. Cases are the default where there are several; else a block
   * of slices in the lower and one in the upper half, or the two ends.
   */
  split?: "cases" | "blocks" | "ends";
  /** Share of the cases or slices held out for evaluation. Range: a number above 0, below 1. Default: 0.3. */
  heldOut?: number;
  /**
   * Slices next to held-out blocks that are not trained on. Range: an integer, at least 0, at most 1000. Default:
   * 4.
   */
  gap?: number;
  /** At most so many slices to train on, evenly spread. Range: an integer, above 0. */
  trainSlices?: number;
  /** Passes over the slices. Range: an integer, above 0, at most 100000. Default: 30. */
  epochs?: number;
  /** Epochs of linear warm-up. Range: a number at least 0, at most 100000. Default: 2. */
  warmupEpochs?: number;
  /** Batch: slices per step. Range: an integer, above 0, at most 65536. Default: 8. */
  batch?: number;
  /** Highest learning rate of the decoder. Range: a number at least 1e-30. Default: 0.002. */
  learningRate?: number;
  /** Encoder's learning rate as a multiple of the decoder's. Range: a number above 0, at most 1000. Default: 0.05. */
  encoderRate?: number;
  /** Weight decay of matrices and kernels. Range: a number at least 0, at most 1000. Default: 0.01. */
  weightDecay?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /** @deprecated The earlier name of `baseline`. */
  yardstick?: boolean;
}

/** Options of `similarity` (`wecolora similarity`). */
export interface SimilarityOptions {
  /** The student: its directory, file of weights, or hub name. */
  model: string;
  /** The teacher. */
  teacher: string;
  /** A folder of images. */
  data: string;
  /** Output folder for similarity.csv, .svg and .png (default: print only). */
  out?: string;
  /** At most so many images, drawn evenly. Range: an integer, above 0. Default: 64. */
  maxImages?: number;
  /** The model's attention heads, where no config.json says it (width / 64). Range: an integer, above 0. */
  numHeads?: number;
  /** Side of the images in pixels (default: the model's own). Range: an integer, above 0, at most 16384. */
  imageSize?: number;
  /** Branch, tag or commit of a model that is named as on the hub. */
  revision?: string;
  /** Mean of each channel, from 0 to 1, in place of the model's own. */
  mean?: [number, number, number];
  /** Standard deviation of each channel, in place of the model's own. */
  std?: [number, number, number];
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
  /** Report an image that can't be read as an error instead of skipping it. Default: false. */
  strict?: boolean;
  /** Seed of everything random. Range: an integer. Default: 0. */
  seed?: number;
  /** @deprecated The earlier name of `maxImages`. */
  pictures?: number;
}

/** Options of `status` (`wecolora status`). */
export interface StatusOptions {
  /** The output whose tasks are looked at, or the folder of its plan. */
  out: string;
  /** Show changes until nothing waits or runs. Default: false. */
  watch?: boolean;
}

/** Options of `task` (`wecolora task`). */
export interface TaskOptions {
  /** The plan: its folder, or plan.json. */
  plan: string;
  /** Which task, from 0. Range: an integer, at least 0. */
  index: number;
}

/** Options of `distill` where it resumes a run. */
export interface ResumeOptions {
  /** The folder of a run to resume, with its own settings. */
  resume: string;
  /** Threads of ONNX Runtime (default: all cores). Range: an integer, above 0, at most 1024. */
  threads?: number;
  /** Device that models run on; tried at the start. */
  device?: "cpu" | "cuda" | "webgpu" | "coreml" | "dml" | "directml";
}
