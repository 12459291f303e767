// What launchers write for schedulers, and what they read of their answers.
import { execFileSync, spawnSync } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v1 from "kubernetes-models/batch/v1";
import { parseAllDocuments } from "yaml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { features } from "wecolora/node";
import { activePods, manifests } from "../../src/launchers/kubernetes.ts";
import { rangesText } from "../../src/launchers/launcher.ts";
import { activeJobs, arrayLength, logPattern, mergeScript, taskArrays, taskScript } from "../../src/launchers/slurm.ts";
import { shellWord } from "../../src/utils/option-names.ts";
import { noiseImage, runScript, script } from "../support/cli.ts";
import { referencePath } from "../support/reference.ts";

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wecolora-launchers-"));
  for (let i = 0; i < 9; i++) await noiseImage(at("data", `p${i}.jpg`), i, i % 3);
});
afterAll(() => rm(folder, { recursive: true }));

test("numbers as ranges", () => {
  expect(rangesText([0, 1, 2, 5, 7, 8])).toBe("0-2,5,7-8");
  expect(rangesText([4])).toBe("4");
});

test("words come out of a shell as they went in", () => {
  const words = ["plain", "two words", "it's", '$HOME `x` "y"', "a\nb", "*"];
  const printed = execFileSync("bash", ["-c", `printf '%s\\0' ${words.map(shellWord).join(" ")}`], {
    encoding: "utf8",
  });
  expect(printed.split("\0").slice(0, -1)).toEqual(words);
});

describe("Slurm", () => {
  test("arrays are cut at the cluster's size, all elements below it", () => {
    expect(arrayLength("MaxArraySize            = 1001\n")).toBe(1000);
    expect(arrayLength("SlurmctldPort = 1\nMaxArraySize = 75000\nX = 2")).toBe(10_000);
    expect(arrayLength("")).toBe(1000);
    const arrays = taskArrays([0, 1, 999, 1000, 2501], 1000);
    expect(arrays).toEqual([
      { base: 0, elements: [0, 1, 999] },
      { base: 1000, elements: [0] },
      { base: 2000, elements: [501] },
    ]);
  });

  test("the log of an element is the task's, once Slurm has put its number in", () => {
    const filled = (pattern: string, element: number) =>
      pattern.replace(/%(\d)a/, (_, digits: string) => String(element).padStart(Number(digits), "0"));
    for (const [base, length, element] of [
      [0, 1000, 7],
      [12_000, 1000, 345],
      [30, 10, 4],
    ])
      expect(filled(logPattern(base, length), element)).toBe(`logs/${String(base + element).padStart(6, "0")}.txt`);
    expect(logPattern(42, 1)).toBe("logs/000042.txt");
  });

  test("states of tasks by what squeue prints", () => {
    const printed =
      "features-0|3|RUNNING\nfeatures-1000|7|PENDING\nfeatures-0|4|COMPLETING\nfeatures-merge|N/A|PENDING\n";
    expect(activeJobs(printed)).toEqual({
      tasks: new Map([
        [3, "running"],
        [1007, "waiting"],
        [4, "running"],
      ]),
      merge: "waiting",
    });
    expect(activeJobs("")).toEqual({ tasks: new Map() });
  });

  describe("the scripts", () => {
    interface Circumstances {
      readonly state?: string;
      readonly restarts?: number;
      readonly failures?: number;
      readonly merges?: boolean;
    }
    /** Runs one with commands that note how they were called. */
    async function run(name: string, code: number, more: Circumstances = {}) {
      const bin = at(name, "bin");
      await mkdir(join(bin, "logs"), { recursive: true });
      const tool = async (tool: string, text: string) => {
        await writeFile(join(bin, tool), `#!/bin/sh\n${text}\n`);
        await chmod(join(bin, tool), 0o755);
      };
      await tool("squeue", `echo ${more.state ?? "RUNNING"}`);
      await tool("scontrol", `echo "$@" >> "${at(name, "requeued")}"`);
      await tool("sleep", "exit 0");
      await tool(
        "wecolora",
        `echo "$@" "$WECOLORA_JOB" "$WECOLORA_ATTEMPT" "$WECOLORA_ENDED_JOBS" > "${at(name, "called")}"; exit ${code}`,
      );
      const facts = {
        self: [join(bin, "wecolora")],
        path: "/a plan",
        logs: join(bin, "logs"),
        folder: bin,
        setup: "",
        ended: ["7", "9"],
      };
      const script = more.merges ? mergeScript : taskScript;
      await writeFile(at(name, "script.sh"), script({ ...facts, retries: 1 }));
      const log = join(bin, "logs", more.merges ? "merge.txt" : "000042.txt");
      const job = more.merges ? "slurm-13" : "slurm-11_2";
      await writeFile(log, `# failed with exit code 1 (${job})\n`.repeat(more.failures ?? 0));
      const env = {
        ...{
          PATH: `${bin}:${process.env.PATH}`,
          SLURM_ARRAY_JOB_ID: "11",
          SLURM_ARRAY_TASK_ID: "2",
          SLURM_JOB_ID: "13",
        },
        ...(more.restarts === undefined ? {} : { SLURM_RESTART_COUNT: String(more.restarts) }),
      };
      const outcome = spawnSync("bash", ["-c", `bash "${at(name, "script.sh")}" 40 >> "${log}"`], {
        env,
        encoding: "utf8",
      });
      const requeued = await readFile(at(name, "requeued"), "utf8").catch(() => "");
      return { code: outcome.status, requeued, called: await readFile(at(name, "called"), "utf8") };
    }

    test("run the task with its job, its attempt and the jobs before", async () => {
      const { code, called, requeued } = await run("fine", 0, { restarts: 3 });
      expect({ code, requeued }).toEqual({ code: 0, requeued: "" });
      expect(called).toBe("task --plan /a plan --index 42 slurm-11_2 3 slurm-7 slurm-9\n");
    });

    test.each([
      ["fails the first time", 1, {}, "requeue 13\n"],
      ["has failed as often as it may", 1, { failures: 1 }, ""],
      ["is stopped", 143, { restarts: 4, failures: 1 }, "requeue 13\n"],
      ["is stopped without end", 143, { restarts: 100 }, ""],
      ["is cancelled", 143, { state: "COMPLETING" }, ""],
    ])("where it %s", async (name, code, more, requeued) => {
      expect(await run(name.replaceAll(" ", "-"), code, more)).toMatchObject({ code, requeued });
    });

    test.each([
      ["ends well", 0, {}, ""],
      ["fails the first time", 1, {}, "requeue 13\n"],
      ["has failed as often as it may", 1, { failures: 1 }, ""],
      ["is stopped", 143, {}, "requeue 13\n"],
      ["is stopped again", 143, { failures: 1 }, ""],
      ["is cancelled", 143, { state: "COMPLETING" }, ""],
    ])("where the merge %s", async (name, code, more, requeued) => {
      const outcome = await run(`merge-${name.replaceAll(" ", "-")}`, code, { ...more, merges: true });
      expect(outcome).toMatchObject({ code, requeued });
      expect(outcome.called).toBe("merge --plan /a plan slurm-13 0 slurm-7 slurm-9\n");
    });
  });
});

/** A stand-in for kubectl with the arguments that it knows: jobs are what a server took, by Kubernetes' published schemas. */
const standIn = ({ asked, jobs }: { readonly asked: string; readonly jobs: string }) => `
import { createRequire } from "node:module";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
const load = createRequire(${JSON.stringify(import.meta.url)});
const { Job } = load("kubernetes-models/batch/v1");
const { parseAllDocuments } = load("yaml");
const args = process.argv.slice(2);
appendFileSync(${JSON.stringify(asked)}, args.join(" ") + "\\n");
const known = existsSync(${JSON.stringify(jobs)}) ? JSON.parse(readFileSync(${JSON.stringify(jobs)}, "utf8")) : [];
const keep = (all) => writeFileSync(${JSON.stringify(jobs)}, JSON.stringify(all));
const option = (name) => args.includes(name) ? args[args.indexOf(name) + 1] : undefined;
const fail = (text) => { console.error(text); process.exit(1); };
const find = (name) => known.find(({ metadata }) => metadata.name === name && metadata.namespace === option("--namespace"));
const missing = (name) => fail('Error from server (NotFound): jobs.batch "' + name + '" not found');
const [verb, kind, name] = args;
if (verb === "apply") {
  if (kind !== "-f" || args.length !== 3) fail("error: unknown arguments");
  const made = parseAllDocuments(readFileSync(name, "utf8")).map((each) => each.toJS());
  for (const job of made) {
    if (job.apiVersion !== "batch/v1" || job.kind !== "Job") fail("error: no matches for kind");
    new Job(job).validate();
    if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(job.metadata.name) || job.metadata.name.length > 63) fail("Invalid value: name");
    console.log("job.batch/" + job.metadata.name + " created");
  }
  keep([...known, ...made]);
} else if (verb === "get" && kind === "job" && option("-o") === "json") {
  if (!find(name)) missing(name);
  console.log(JSON.stringify({ ...find(name), status: {} }));
} else if (verb === "get" && kind === "pods" && option("-o") === "json") {
  const job = (option("-l") ?? "").replace("batch.kubernetes.io/job-name=", "");
  const labels = { "batch.kubernetes.io/job-completion-index": "0" };
  console.log(JSON.stringify({ items: find(job) ? [{ metadata: { labels }, status: { phase: "Running" } }] : [] }));
} else if (verb === "delete" && kind === "job") {
  if (!find(name) && !args.includes("--ignore-not-found")) missing(name);
  keep(known.filter((job) => job !== find(name)));
} else fail("error: unknown command");
`;

describe("Kubernetes", () => {
  const facts = {
    ...{ name: "wecolora-features-1f2e3d4c-1", command: "features", path: "/data/f.tasks", folder: "/data" },
    settings: {
      image: "registry/wecolora:1",
      volume: "claim:/data",
      grace: 60,
      queue: "gpus",
      namespace: "ml",
      gpu: 1,
      cpu: "8",
      memory: "16Gi",
    },
    ...{ count: 5, maxParallel: 2, retries: 3, ended: ["older"], list: "/data/f.tasks/kubernetes/list.txt" },
  };

  test("manifests are Jobs by the published schemas of Kubernetes", () => {
    for (const manifest of manifests(facts)) expect(() => new v1.Job(manifest as never).validate()).not.toThrow();
    const [tasks] = manifests(facts);
    // The schemas are strict enough to be worth asking.
    expect(() => new v1.Job({ ...tasks, spec: { ...tasks.spec, completions: "five" } } as never).validate()).toThrow();
    expect(tasks).toMatchObject({
      metadata: { namespace: "ml", labels: { "kueue.x-k8s.io/queue-name": "gpus" } },
      spec: { completionMode: "Indexed", completions: 5, parallelism: 2, backoffLimitPerIndex: 3, suspend: true },
    });
    const [container] = tasks.spec.template.spec.containers;
    expect(container.resources.limits).toEqual({ cpu: "8", memory: "16Gi", "nvidia.com/gpu": "1" });
  });

  test("the containers' command runs a task with the variables that an Indexed Job sets", async () => {
    await cp(referencePath("teachers/timm-vit"), at("teacher"), { recursive: true });
    const options = { model: at("teacher"), data: at("data"), batch: 3, threads: 1 };
    const args = [
      "--model",
      options.model,
      "--data",
      options.data,
      "--batch",
      "3",
      "--threads",
      "1",
      "--out",
      at("f.safetensors"),
    ];
    const settings = `image=registry/wecolora:1,volume=claim:${folder}`;
    const outcome = await runScript(script, [
      ...["features", ...args, "--launcher", "kubernetes", "--tasks", "3", "--kubernetes", settings, "--json"],
    ]);
    expect(outcome, outcome.err).toMatchObject({ code: 0 });
    const written = await readFile(at("f.safetensors.tasks", "kubernetes", "jobs.yaml"), "utf8");
    const [tasks, merge] = parseAllDocuments(written).map((document) => document.toJS());
    for (const manifest of [tasks, merge]) expect(() => new v1.Job(manifest).validate()).not.toThrow();
    await mkdir(at("bin"));
    await writeFile(at("bin", "wecolora"), `#!/bin/sh\nexec "${process.execPath}" "${script}" "$@"\n`);
    await chmod(at("bin", "wecolora"), 0o755);
    const inPod = (manifest: typeof tasks, variables: Record<string, string>) => {
      const [{ command, workingDir }] = manifest.spec.template.spec.containers;
      const env = { ...process.env, PATH: `${at("bin")}:${process.env.PATH}`, POD_UID: "u1", ...variables };
      return spawnSync(command[0], command.slice(1), { cwd: workingDir, env }).status;
    };
    expect(tasks.spec.completions).toBe(3);
    for (const index of [2, 0, 1]) expect(inPod(tasks, { JOB_COMPLETION_INDEX: String(index) })).toBe(0);
    expect(inPod(merge, {})).toBe(0);
    await features({ ...options, out: at("whole.safetensors") });
    expect(await readFile(at("f.safetensors"))).toEqual(await readFile(at("whole.safetensors")));
  });

  test("--apply hands the manifests to kubectl; status and cancel ask it for the jobs", async () => {
    // It checks arguments and manifests as the program and its server do, and keeps the jobs in a file.
    const [bin, asked, jobs] = [at("kubectl-bin"), at("asked.txt"), at("applied.json")];
    await mkdir(bin);
    await writeFile(join(bin, "kubectl.mjs"), standIn({ asked, jobs }));
    await writeFile(join(bin, "kubectl"), `#!/bin/sh\nexec "${process.execPath}" "${bin}/kubectl.mjs" "$@"\n`);
    await chmod(join(bin, "kubectl"), 0o755);
    await cp(referencePath("teachers/timm-vit"), at("applied-teacher"), { recursive: true });
    const out = at("applied.safetensors");
    const data = [
      "--model",
      at("applied-teacher"),
      "--data",
      at("data"),
      "--batch",
      "3",
      "--threads",
      "1",
      "--out",
      out,
    ];
    const launch = ["--launcher", "kubernetes", "--tasks", "3", "--apply", "--retries", "2", "--max-parallel", "2"];
    const settings = `image=registry/wecolora:1,volume=claim:${folder},namespace=ml,queue=gpus`;
    const onPath = { PATH: `${bin}:${process.env.PATH}` };
    const run = (...args: string[]) => runScript(script, [...args, "--json"], onPath);
    const launched = await run("features", ...data, ...launch, "--kubernetes", settings);
    expect(launched, launched.err).toMatchObject({ code: 0 });
    const [tasks, merge] = JSON.parse(await readFile(jobs, "utf8"));
    expect(tasks).toMatchObject({ metadata: { namespace: "ml" }, spec: { completions: 3, parallelism: 2 } });
    const { name } = tasks.metadata;
    expect(merge.metadata).toMatchObject({ name: `${name}-merge`, namespace: "ml" });
    expect(JSON.parse(launched.out.trimEnd().split("\n").at(-1) ?? "").jobs).toEqual([
      `ml/${name}`,
      `ml/${name}-merge`,
    ]);
    const seen = await run("status", out);
    expect(seen, seen.err).toMatchObject({ code: 0 });
    const { tasks: states } = JSON.parse(seen.out.trimEnd().split("\n").at(-1) ?? "");
    expect(states.map(({ state }: { state: string }) => state)).toEqual(["running", "waiting", "waiting"]);
    // While its jobs are there, nothing is applied twice.
    const again = await run("features", ...data, ...launch, "--kubernetes", settings);
    expect(again).toMatchObject({ code: 2 });
    expect(again.err).toContain("3 tasks of");
    expect(await run("cancel", out)).toMatchObject({ code: 0 });
    expect(JSON.parse(await readFile(jobs, "utf8"))).toEqual([]);
    const lines = (await readFile(asked, "utf8")).trim().split("\n");
    expect(lines[0]).toBe(`apply -f ${out}.tasks/kubernetes/jobs.yaml`);
    expect(lines).toContain(`get job ${name} --namespace ml -o json`);
    expect(lines).toContain(`get pods --namespace ml -l batch.kubernetes.io/job-name=${name} -o json`);
    expect(lines.slice(-2)).toEqual(
      [name, `${name}-merge`].map((job) => `delete job ${job} --namespace ml --ignore-not-found`),
    );
    // What kubectl complains of is shown.
    await writeFile(join(bin, "kubectl"), "#!/bin/sh\necho 'error: You must be logged in' >&2\nexit 1\n");
    const refused = await run("features", ...data, ...launch, "--kubernetes", settings);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.err).toContain("kubectl failed: error: You must be logged in");
  });

  test("what the volume does not hold is refused", async () => {
    const outcome = await runScript(script, [
      ...[
        "features",
        "--model",
        referencePath("teachers/timm-vit"),
        "--data",
        at("data"),
        "--out",
        at("x.safetensors"),
      ],
      ...["--launcher", "kubernetes", "--kubernetes", "image=i,volume=claim:/mnt/data"],
    ]);
    expect(outcome).toMatchObject({ code: 2 });
    expect(outcome.err).toContain("does not lie on the volume, which is mounted at /mnt/data");
  });

  test("states of tasks by the pods of the job", () => {
    const pod = (index: number, phase: string) => ({
      metadata: { labels: { "batch.kubernetes.io/job-completion-index": String(index) } },
      status: { phase },
    });
    const pods = JSON.stringify({ items: [pod(0, "Running"), pod(1, "Pending"), pod(2, "Failed")] });
    expect([...activePods("{}", pods, [4, 7, 8, 9])]).toEqual([
      [4, "running"],
      [7, "waiting"],
      [9, "waiting"],
    ]);
    const over = JSON.stringify({ status: { conditions: [{ type: "Failed", status: "True" }] } });
    expect(activePods(over, pods, [4, 7]).size).toBe(0);
  });
});
