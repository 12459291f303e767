// A PEFT adapter directory over the shallow base: base model, adapter_config.json and adapter_model.safetensors.
import { z } from "zod";
import { readSafetensors, writeSafetensors } from "../checkpoints/safetensors-file.ts";
import { readOptions } from "../context/common-options.ts";
import { loadRequest } from "../context/run-context.ts";
import type { Directory } from "../files/storage.ts";
import { readText } from "../files/storage.ts";
import type { AdapterPlan } from "../students/training/adapters.ts";
import { adapterName, adapterScale, rankOf } from "../students/training/adapters.ts";
import { adapterPlanOf } from "../students/methods/lookup.ts";
import type { StudentRunOptions } from "../students/run-options.ts";
import { createDistillation } from "../students/training/distillation.ts";
import { copyBlocks } from "../students/kept-blocks.ts";
import { Model } from "../models/model.ts";
import type { ModelDefinition } from "../models/definition.ts";
import type { Layout } from "../models/layouts/registry.ts";
import type { TargetModule } from "../models/vit.ts";
import { moduleWeightName } from "../models/vit.ts";
import { UserError } from "../utils/errors.ts";
import type { WeightType } from "../utils/half.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { concatRows, elementBytes, rows } from "../utils/tensor.ts";
import { conformTo } from "../models/conform.ts";
import { jsonFile, writeWithOnnx } from "./directories.ts";
import type { RunOrigin, Warn, WriteContext } from "./export-format.ts";
import { defineExport, embedderOf, exactTolerance, openDirectory } from "./export-format.ts";
import { splitBlockName } from "../models/weight-table.ts";

/** Where the base model lies, seen from the adapter's directory. */
const peftBase = "base";

/** The name of a module's map in a layout of transformers: `encoder.layer.0.attention.attention.query`. */
function moduleFileName(layout: Layout, block: number, module: TargetModule): string {
  const weightName = splitBlockName(moduleWeightName(block, module))?.inBlock;
  const parts = layout.block.find(({ ours }) => ours === weightName)?.parts ?? [];
  const index = Math.max(0, ["q", "k", "v"].indexOf(module));
  const part = parts.length > 1 ? parts[index] : parts[0];
  const split = ["q", "k", "v"].includes(module) && parts.length !== 3;
  if (!part || split || (module === "fc1" && parts.length > 1)) {
    throw new UserError(`${layout.name} has no map of its own for ${module}, so its adapter can't be written for PEFT`);
  }
  return layout.blockPrefix(block) + part.name.replace(/\.weight$/, "");
}

/**
 * Writes the adapter directory. `base` is the student before training. Throws a UserError where PEFT has no place for
 * what trained.
 */
async function writePeft(
  base: ModelDefinition,
  adapters: ReadonlyMap<string, FloatTensor>,
  plan: AdapterPlan,
  directory: Directory,
  weightType: WeightType,
  warn?: Warn,
): Promise<void> {
  const { layout, model: conformed } = conformTo(base, "transformers");
  const prefix = layout.writePrefix(conformed.config);
  const tensors = new Map<string, FloatTensor>();
  const [targets, ranks]: [string[], Record<string, number>] = [[], {}];
  for (let block = 0; block < conformed.config.depth; block++) {
    for (const module of plan.targetModules) {
      const name = prefix + moduleFileName(layout, block, module);
      targets.push(name);
      ranks[name] = rankOf(plan, module);
      for (const part of ["A", "B"] as const) {
        const tensor = adapters.get(adapterName(block, module, part));
        if (!tensor) throw new UserError(`There is no adapter for ${module} of block ${block}`);
        tensors.set(`base_model.model.${name}.lora_${part}.weight`, tensor);
      }
      const magnitude = magnitudeOf(adapters, block, module);
      if (magnitude) tensors.set(`base_model.model.${name}.lora_magnitude_vector.weight`, magnitude);
    }
  }
  const [first] = Object.values(ranks);
  // PEFT scales by alpha / r; the paper's adapters are not scaled, which is alpha = r.
  const alphas = Object.fromEntries(Object.entries(ranks).map(([name, rank]) => [name, plan.alpha ?? rank]));
  await writeWithOnnx(base, "transformers", directory.below(peftBase), weightType, warn);
  await directory.write("adapter_model.safetensors", writeSafetensors(tensors, { format: "pt" }));
  await directory.write(
    "adapter_config.json",
    jsonFile({
      peft_type: "LORA",
      task_type: null,
      base_model_name_or_path: peftBase,
      inference_mode: true,
      bias: "none",
      r: first,
      lora_alpha: plan.alpha ?? first,
      rank_pattern: ranks,
      alpha_pattern: alphas,
      lora_dropout: plan.dropout ?? 0,
      use_rslora: plan.rankStabilized ?? false,
      use_dora: plan.magnitude ?? false,
      target_modules: targets,
      fan_in_fan_out: false,
      init_lora_weights: true,
    }),
  );
}

/** DoRA's lengths of one map; q, k and v have a third of their joint vector each. */
function magnitudeOf(
  adapters: ReadonlyMap<string, FloatTensor>,
  block: number,
  module: TargetModule,
): FloatTensor | undefined {
  const index = ["q", "k", "v"].indexOf(module);
  const joint = adapters.get(`blocks.${block}.${index < 0 ? module : "qkv"}.magnitude`);
  if (!joint || index < 0) return joint;
  const third = joint.dims[0] / 3;
  return rows(joint, index * third, (index + 1) * third);
}

const adapterConfigSchema = z.looseObject({
  r: z.number(),
  lora_alpha: z.number(),
  rank_pattern: z.record(z.string(), z.number()).default({}),
  alpha_pattern: z.record(z.string(), z.number()).default({}),
  use_rslora: z.boolean().default(false),
});

/** What PEFT scales a module's adapter by, as adapter_config.json says it: patterns name the end of a module's name. */
async function scalesIn(directory: Directory): Promise<(module: string) => number> {
  const entry = "adapter_config.json";
  const text = await readText(directory, entry);
  if (text === undefined) throw new UserError(`There is no ${directory.describe(entry)}`, { code: "FILE_NOT_FOUND" });
  const config = adapterConfigSchema.parse(JSON.parse(text));
  const patternOf = (patterns: Readonly<Record<string, number>>, module: string) =>
    Object.entries(patterns).find(([key]) => module === key || module.endsWith(`.${key}`))?.[1];
  return (module) => {
    const rank = patternOf(config.rank_pattern, module) ?? config.r;
    const alpha = patternOf(config.alpha_pattern, module) ?? config.lora_alpha;
    return alpha / (config.use_rslora ? Math.sqrt(rank) : rank);
  };
}

/** Adapters by our names from a PEFT file's tensors, over a base read from its directory. */
function readPeft(
  base: ModelDefinition,
  tensors: ReadonlyMap<string, FloatTensor>,
  plan: AdapterPlan,
  scaleOf: (module: string) => number,
): Map<string, FloatTensor> {
  const { layout, model: conformed } = conformTo(base, "transformers");
  const prefix = layout.writePrefix(conformed.config);
  const adapters = new Map<string, FloatTensor>();
  const find = (block: number, module: TargetModule, part: string): FloatTensor => {
    const name = `base_model.model.${prefix}${moduleFileName(layout, block, module)}.${part}.weight`;
    const tensor = tensors.get(name);
    if (!tensor) throw new UserError(`The PEFT adapter lacks ${name}`, { code: "FILE_NOT_READABLE" });
    return tensor;
  };
  for (let block = 0; block < conformed.config.depth; block++) {
    for (const module of plan.targetModules) {
      adapters.set(adapterName(block, module, "A"), find(block, module, "lora_A"));
      // What folding scales by is the run's; what PEFT would scale by stands in the file.
      const scale = scaleOf(prefix + moduleFileName(layout, block, module)) / adapterScale(plan, module);
      const B = find(block, module, "lora_B");
      adapters.set(adapterName(block, module, "B"), { ...B, data: B.data.map((v) => scale * v) });
      if (!plan.magnitude) continue;
      const joint = ["q", "k", "v"].includes(module);
      const modules = joint ? (["q", "k", "v"] as const) : [module];
      const magnitudes = modules.map((m) => find(block, m, "lora_magnitude_vector"));
      adapters.set(`blocks.${block}.${joint ? "qkv" : module}.magnitude`, concatRows(magnitudes));
    }
  }
  return adapters;
}

/**
 * The model that a run's adapters were trained on: the weight copy, or, where that was changed before, the student with
 * the adapters taken out again. Throws a UserError where they can't be (DoRA scales what it adds to).
 */
async function peftBaseOf(
  student: ModelDefinition,
  teacher: Model,
  adapters: ReadonlyMap<string, FloatTensor>,
  plan: AdapterPlan,
  { options, keptBlocks }: RunOrigin,
): Promise<ModelDefinition> {
  if (options.start === undefined || options.start === "weight-copy") return copyBlocks(teacher, keptBlocks);
  if (plan.magnitude)
    throw new UserError(
      `The format peft can't hold dora's adapters over a start that is not the teacher's (${options.start}).`,
      { code: "INVALID_OPTION" },
    );
  const negated = [...adapters].map(([name, tensor]): [string, FloatTensor] => [
    name,
    name.endsWith("lora_B") ? { ...tensor, data: tensor.data.map((v) => -v) } : tensor,
  ]);
  return folded(new Model(student, teacher.device), options, plan, new Map(negated));
}

/** A model with adapters folded in. */
async function folded(
  model: Model,
  { alpha, rankStabilized, method }: StudentRunOptions,
  plan: AdapterPlan,
  initialAdapters: ReadonlyMap<string, FloatTensor>,
): Promise<Model> {
  const distillation = await createDistillation(model, {
    method,
    reductionFactor: 1,
    rank: plan.rank,
    alpha,
    rankStabilized,
    targetModules: [...plan.targetModules],
    initialAdapters,
  });
  const result = await distillation.student();
  await distillation.dispose();
  return result;
}

const withoutRun = () =>
  new UserError("The format peft needs the adapters of a run: give the run's folder, --model <run>.", {
    code: "INVALID_OPTION",
  });

/** Where the adapters of a run sit. Throws a UserError where there is no run, or it trained none. */
function adapterPlan(options: StudentRunOptions | undefined): AdapterPlan {
  if (!options) throw withoutRun();
  const plan = adapterPlanOf(options);
  if (plan) return plan;
  throw new UserError(`The method ${options.method} trains no adapters, so there is nothing to write for PEFT.`, {
    code: "INVALID_OPTION",
  });
}

async function readFloats(directory: Directory, entry: string): Promise<Map<string, FloatTensor>> {
  const file = await directory.open(entry);
  if (!file) throw new UserError(`There is no ${directory.describe(entry)}`, { code: "FILE_NOT_FOUND" });
  try {
    return (await readSafetensors(file)).tensors as Map<string, FloatTensor>;
  } finally {
    await file.close();
  }
}

async function writeRunAdapters({ model, directory, weightType, warn, run }: WriteContext): Promise<void> {
  if (!run) throw withoutRun();
  const { origin, context } = run;
  const plan = adapterPlan(origin.options);
  const adapters = await readFloats(origin.directory, "checkpoints/final/adapters.safetensors");
  const teacher = await context.environment.loadModel(
    origin.options.teacher,
    loadRequest(context, readOptions(origin.options)),
  );
  const base = await peftBaseOf(model, teacher, adapters, plan, origin);
  await writePeft(base, adapters, plan, directory, weightType, warn);
  await teacher.dispose();
}

export const format = defineExport({
  name: "peft",
  summary: "a PEFT adapter directory with its base model, for runs that train adapters",
  options: {},
  needsRun: true,
  check(_, origin) {
    adapterPlan(origin?.options);
  },
  write: writeRunAdapters,
  /** The base with the adapters that the directory's own files hold folded in. */
  async open(context) {
    const { directory, origin } = context;
    const base = await openDirectory("peft", context, peftBase);
    if (!origin) throw withoutRun();
    const plan = adapterPlan(origin.options);
    const scaleOf = await scalesIn(directory);
    const adapters = readPeft(base, await readFloats(directory, "adapter_model.safetensors"), plan, scaleOf);
    return embedderOf(await folded(base, origin.options, plan, adapters), "peft");
  },
  files: ["adapter_model.safetensors", `${peftBase}/model.safetensors`],
  // Adapters are small beside the base.
  bytesPerWeight: (weightType) => elementBytes[weightType],
  tolerance: exactTolerance,
});
