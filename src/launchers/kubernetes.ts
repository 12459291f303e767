// Tasks as an Indexed Job of Kubernetes, and the merge as a Job that waits for their results on the shared volume: Kubernetes
// itself knows no job behind another.
// @see https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
// @see https://kueue.sigs.k8s.io/docs/tasks/run/jobs/
import { z } from "zod";
import type { RunContext } from "../context/run-context.ts";
import { sha256 } from "../utils/digest.ts";
import { counted } from "../utils/counted.ts";
import { RunError, UserError } from "../utils/errors.ts";
import { shellWord } from "../utils/option-names.ts";
import { textChunks } from "../workspace/output-files.ts";
import { logEntry, mergeLogEntry } from "../workspace/plan-folder.ts";
import type { ActiveState, LaunchRequest } from "./launcher.ts";
import { absolutePath, defineLauncher, programsOf } from "./launcher.ts";
import { forwardingLines } from "./shell.ts";

const quantity = z.union([z.string(), z.number()]).transform(String);
const kubernetesOption = z
  .strictObject({
    image: z.string().min(1).describe("image of the containers, with wecolora in it (cluster/Dockerfile builds one)"),
    volume: z
      .string()
      .regex(/^[a-z0-9][a-z0-9.-]*:\/.+$/, "a claim and where it is mounted, such as data:/data")
      .describe("PersistentVolumeClaim and where it is mounted, as here: data:/data"),
    namespace: z.string().min(1).optional().describe("namespace of the jobs"),
    queue: z.string().min(1).optional().describe("local queue of Kueue"),
    cpu: quantity.optional().describe("processors of a task"),
    memory: quantity.optional().describe("memory of a task, such as 8Gi"),
    gpu: z.number().int().min(0).optional().describe("GPUs of a task (nvidia.com/gpu)"),
    grace: z.number().int().min(1).default(120).describe("seconds that a stopped task has to save its state"),
  })
  .describe("the jobs' image and volume: image=<image>,volume=<claim>:<path>")
  .meta({ placeholder: "settings", note: "Also namespace, queue (of Kueue), cpu, memory, gpu and grace (seconds)." });

type KubernetesOptions = z.output<typeof kubernetesOption>;

/** The merge waits for tasks at most so long, in minutes. */
const mergeMinutes = 7 * 24 * 60;

function kubernetesOf(options: Readonly<Record<string, unknown>>): KubernetesOptions {
  if (options.kubernetes !== undefined) return kubernetesOption.parse(options.kubernetes);
  throw new UserError(
    "The launcher kubernetes needs kubernetes (--kubernetes): the image of the containers and the volume of data and results, as in image=registry/wecolora:1,volume=data:/data.",
    { code: "INVALID_OPTION" },
  );
}

/** Where the volume is mounted. */
const mountOf = ({ volume }: KubernetesOptions) => volume.slice(volume.indexOf(":") + 1).replace(/\/+$/, "") || "/";

const isBelow = (path: string, folder: string) =>
  path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);

async function check(context: RunContext, options: Readonly<Record<string, unknown>>): Promise<void> {
  const settings = kubernetesOf(options);
  const { folder } = programsOf(context);
  const mount = mountOf(settings);
  for (const name of ["out", "model", "teacher", "data"]) {
    const value = options[name];
    for (const path of Array.isArray(value) ? value : [value]) {
      // A name on the hub or of procedural images is no path.
      const isPath = typeof path === "string" && (name === "out" || /^[./]/.test(path));
      if (isPath && !isBelow(absolutePath(folder, path), mount))
        throw new UserError(
          `--${name} ${path} does not lie on the volume, which is mounted at ${mount} (volume in kubernetes): tasks would not see it.`,
          { code: "INVALID_OPTION" },
        );
    }
  }
}

/** What manifests are made of. */
export interface ManifestFacts {
  readonly name: string;
  readonly command: string;
  readonly settings: KubernetesOptions;
  /** Of the plan, as containers see it. */
  readonly path: string;
  readonly folder: string;
  readonly count: number;
  readonly maxParallel: number | undefined;
  readonly retries: number;
  readonly ended: readonly string[];
  /** A file with the number of a task in each line: the line of an index is its task. */
  readonly list: string;
}

/** The script of a container: its own log is that of the task, on the volume, where `wecolora status` reads it. */
function script(
  { ended }: ManifestFacts,
  job: string,
  log: string,
  before: readonly string[],
  args: readonly string[],
) {
  return [
    ...before,
    `export WECOLORA_JOB=${job} WECOLORA_ATTEMPT="$POD_UID"`,
    `export WECOLORA_ENDED_JOBS=${shellWord(ended.join(" "))}`,
    `log=${log}`,
    `exec >> "$log" 2>&1`,
    'echo "# job $WECOLORA_JOB, pod $POD_UID, $(date +%FT%T)"',
    ...forwardingLines(["wecolora", ...args]),
    'exit "$code"',
  ].join("\n");
}

/** What both jobs' pods have. */
function podOf({ settings, folder }: ManifestFacts, name: string, text: string, resources: Resources) {
  return {
    restartPolicy: "Never",
    terminationGracePeriodSeconds: settings.grace,
    containers: [
      {
        name,
        image: settings.image,
        command: ["bash", "-c", text],
        workingDir: folder,
        env: [{ name: "POD_UID", valueFrom: { fieldRef: { fieldPath: "metadata.uid" } } }],
        resources,
        volumeMounts: [{ name: "data", mountPath: mountOf(settings) }],
      },
    ],
    volumes: [{ name: "data", persistentVolumeClaim: { claimName: settings.volume.split(":")[0] } }],
  };
}

/** What a container asks for, and what it may not go beyond, by Kubernetes' names. */
interface Resources {
  readonly requests?: Readonly<Record<string, string>>;
  readonly limits?: Readonly<Record<string, string>>;
}

function resourcesOf({ cpu, memory, gpu }: KubernetesOptions): Resources {
  const requests: Record<string, string> = {
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
  };
  const cards: Record<string, string> = gpu === undefined || gpu === 0 ? {} : { "nvidia.com/gpu": String(gpu) };
  return { requests: { ...requests, ...cards }, limits: { ...requests, ...cards } };
}

function metadataOf({ settings, command }: ManifestFacts, name: string) {
  return {
    name,
    ...(settings.namespace === undefined ? {} : { namespace: settings.namespace }),
    labels: {
      "app.kubernetes.io/name": "wecolora",
      "app.kubernetes.io/component": command,
      ...(settings.queue === undefined ? {} : { "kueue.x-k8s.io/queue-name": settings.queue }),
    },
  };
}

/** The Indexed Job of the tasks, and the Job of the merge. */
export function manifests(facts: ManifestFacts) {
  const { name, path, count, maxParallel = count, retries, settings, list } = facts;
  // Kueue starts jobs itself, once their quota is there.
  const suspend = settings.queue === undefined ? {} : { suspend: true };
  const index = [`task=$(sed -n "$((JOB_COMPLETION_INDEX + 1))p" ${shellWord(list)})`];
  const task = script(
    facts,
    `${name}_$JOB_COMPLETION_INDEX`,
    `${shellWord(`${path}/logs`)}/$(printf %06d "$task").txt`,
    index,
    ["task", "--plan", shellWord(path), "--index", '"$task"'],
  );
  const merge = script(
    facts,
    `${name}-merge`,
    shellWord(`${path}/${mergeLogEntry}`),
    [],
    [...["merge", "--plan", shellWord(path), "--wait-minutes", String(mergeMinutes)]],
  );
  const tasks = {
    ...suspend,
    ...{ completionMode: "Indexed", completions: count, parallelism: Math.min(maxParallel, count) },
    ...{ backoffLimitPerIndex: retries, podReplacementPolicy: "Failed" },
    // A pod that a node lost or that gave way to others has not failed.
    podFailurePolicy: {
      rules: [{ action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] }],
    },
    template: { spec: podOf(facts, "task", task, resourcesOf(settings)) },
  };
  const merging = { backoffLimit: retries, template: { spec: podOf(facts, "merge", merge, {}) } };
  const kind = { apiVersion: "batch/v1", kind: "Job" };
  return [
    { ...kind, metadata: metadataOf(facts, name), spec: tasks },
    {
      ...kind,
      metadata: metadataOf({ ...facts, settings: { ...settings, queue: undefined } }, `${name}-merge`),
      spec: merging,
    },
  ];
}

const folderEntry = "kubernetes";
const manifestEntry = `${folderEntry}/jobs.yaml`;

/** What `kubectl` says at last, without its log of attempts (`E1130 12:00:00.000000  99 memcache.go:265] ...`). */
const complaint = (printed: string): string =>
  printed
    .split("\n")
    .filter((line) => line.trim() !== "" && !/^[EWIF]\d{4} /.test(line))
    .join(" ") || printed.trim();

/** What `kubectl` printed; undefined where it is not here, or what was asked for does not exist. */
async function kubectl(context: RunContext, args: readonly string[]): Promise<string | undefined> {
  const outcome = await programsOf(context)
    .run("kubectl", args)
    .catch((error: unknown) => {
      if (error instanceof UserError) return undefined;
      throw error;
    });
  if (outcome === undefined || (outcome.code !== 0 && /NotFound/.test(outcome.err))) return undefined;
  if (outcome.code !== 0) throw new RunError(`kubectl failed: ${complaint(outcome.err)}`);
  return outcome.out;
}

/** A job's name with the namespace that was asked for: `ml/wecolora-features-1f2e3d4c-1`. */
const jobName = ({ namespace }: KubernetesOptions, name: string) =>
  namespace === undefined ? name : `${namespace}/${name}`;

/** The name that the job has in its containers, and arguments of kubectl that find it. */
function jobParts(job: string): { readonly name: string; readonly where: readonly string[] } {
  const [namespace, name] = job.includes("/") ? job.split("/") : [undefined, job];
  return { name, where: namespace === undefined ? [] : ["--namespace", namespace] };
}

async function submit(context: RunContext, request: LaunchRequest) {
  const { opened, folder, missing, maxParallel, retries, options } = request;
  const programs = programsOf(context);
  const settings = kubernetesOf(options);
  const path = absolutePath(programs.folder, opened.path);
  // Names that no other plan has, and no earlier launch of this one.
  const launches = (await folder.directory.list(folderEntry)).filter((entry) => entry.endsWith(".txt")).length;
  const name = `wecolora-${opened.plan.command}-${(await sha256(path)).slice(0, 8)}-${launches + 1}`;
  const listEntry = `${folderEntry}/${name}.txt`;
  const facts = {
    ...{ name, command: opened.plan.command, settings, path, folder: programs.folder, count: missing.length },
    ...{ maxParallel, retries, ended: request.ended.map((job) => jobParts(job).name), list: `${path}/${listEntry}` },
  };
  await folder.directory.write(listEntry, textChunks(missing.map((index) => `${index}\n`).join("")));
  for (const index of missing) await folder.directory.append(logEntry(index), "");
  await folder.directory.append(mergeLogEntry, "");
  const { stringify } = await import("yaml");
  const [tasks, merge] = manifests(facts);
  const wanted = missing.length > 0 ? [tasks, merge] : [merge];
  const text = wanted.map((manifest) => stringify(manifest, { lineWidth: 0 })).join("---\n");
  await folder.directory.write(manifestEntry, textChunks(text));
  const file = `${path}/${manifestEntry}`;
  const jobs = [name, `${name}-merge`].map((each) => jobName(settings, each));
  if (options.apply !== true) return { jobs, notes: [`Start them with: kubectl apply -f ${shellWord(file)}`] };
  const applied = await kubectl(context, ["apply", "-f", file]);
  if (applied === undefined)
    throw new UserError(`There is no program kubectl here. Apply ${file} where there is one.`, {
      code: "FILE_NOT_FOUND",
    });
  return { jobs, notes: [`Jobs of Kubernetes: ${jobs.join(", ")}.`] };
}

const jobSchema = z.object({
  status: z
    .object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]) })
    .default({ conditions: [] }),
});
const podsSchema = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ labels: z.record(z.string(), z.string()).default({}) }),
      status: z.object({ phase: z.string().optional() }).default({}),
    }),
  ),
});
const indexLabel = "batch.kubernetes.io/job-completion-index";

/** Tasks by the pods of an Indexed Job; those without a pod wait while the job is not over. */
export function activePods(jobJson: string, podsJson: string, tasks: readonly number[]): Map<number, ActiveState> {
  const { conditions } = jobSchema.parse(JSON.parse(jobJson)).status;
  if (conditions.some(({ type, status }) => ["Complete", "Failed"].includes(type) && status === "True"))
    return new Map();
  const active = new Map<number, ActiveState>(tasks.map((task) => [task, "waiting"]));
  for (const { metadata, status } of podsSchema.parse(JSON.parse(podsJson)).items) {
    const task = tasks[Number(metadata.labels[indexLabel])];
    if (task === undefined) continue;
    if (status.phase === "Running") active.set(task, "running");
    if (status.phase === "Failed" && active.get(task) === "waiting") active.delete(task);
  }
  return active;
}

export const launcher = defineLauncher({
  name: "kubernetes",
  summary: "an Indexed Job of Kubernetes, and a Job that merges; as manifests, or applied",
  options: {
    kubernetes: kubernetesOption.optional(),
    apply: z.boolean().default(false).describe("launcher kubernetes: hand the manifests to kubectl"),
  },
  check,
  submit,
  async active(context, _, { jobs, tasks }) {
    if (jobs.length === 0 || tasks.length === 0) return undefined;
    const { name, where } = jobParts(jobs[0]);
    const job = await kubectl(context, ["get", "job", name, ...where, "-o", "json"]);
    const label = `batch.kubernetes.io/job-name=${name}`;
    const pods = job && (await kubectl(context, ["get", "pods", ...where, "-l", label, "-o", "json"]));
    // The merge waits from the start, also for tasks that have failed: it says nothing of whether anything runs.
    return job && pods ? { tasks: activePods(job, pods, tasks) } : undefined;
  },
  async cancel(context, { path }, { jobs, tasks }) {
    for (const job of jobs) {
      const { name, where } = jobParts(job);
      await kubectl(context, ["delete", "job", name, ...where, "--ignore-not-found"]);
    }
    return `${counted(jobs.length, "job")} with ${counted(tasks.length, "task")} of ${path} ${jobs.length === 1 ? "was" : "were"} deleted. Finished tasks keep their results.`;
  },
});
