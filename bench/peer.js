// The same distillation step here and in PyTorch, interleaved in one run: npm run bench:peer
// PyTorch goes into a virtual environment under .bench (python3 with venv and pip needed); PEER_PYTHON names another. PEER_MODELS=vit-s
// takes one of the two models, PEER_WAYS=int8,int8-kept some of the ways that our step can be taken in.
import { spawn } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median, steps } from "./models.js";
import { python } from "./python.js";

const rounds = Number(process.env.ROUNDS ?? 8);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** A process that takes one step a line. */
async function runProgram(command, args) {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command} ${args.join(" ")} ended early`);
    return value;
  };
  await next();
  return {
    async step() {
      child.stdin.write("\n");
      return JSON.parse(await next());
    },
    end: () => child.kill(),
  };
}

/** Our step in the ways that it can be taken in. */
async function ours(model) {
  const ways = (process.env.PEER_WAYS ?? "float32,int8,kept,int8-kept,checkpointing").split(",");
  const made = {};
  for (const how of ways)
    made[`wecolora ${how}`] = await runProgram(process.execPath, [here("step.js"), model, "0", how, "ask"]);
  return made;
}

/** PyTorch's; PEER_TYPES=float32 leaves bfloat16 out, which takes minutes where the processor has none. */
async function peers(model) {
  const types = (process.env.PEER_TYPES ?? "float32,bfloat16").split(",");
  const made = {};
  for (const type of types) made[`PyTorch ${type}`] = await runProgram(interpreter, [here("step.py"), model, type]);
  return made;
}

const interpreter = python();
const report = { machine: cpus()[0].model, cores: availableParallelism(), rounds };
for (const model of (process.env.PEER_MODELS ?? Object.keys(steps).join()).split(",")) {
  const programs = {
    ...(await ours(model)),
    ...(await peers(model)),
  };
  const results = Object.fromEntries(Object.keys(programs).map((name) => [name, []]));
  for (let i = 0; i < rounds; i++) {
    for (const [name, { step }] of Object.entries(programs)) results[name].push(await step());
  }
  for (const { end } of Object.values(programs)) end();
  const summary = Object.fromEntries(
    Object.entries(results).map(([name, list]) => [
      name,
      {
        secondsPerImage: Number(median(list.map((r) => r.secondsPerImage)).toFixed(4)),
        peakMegabytes: Math.max(...list.map((r) => r.peakMegabytes)),
      },
    ]),
  );
  const theirs = summary["PyTorch float32"];
  for (const figures of Object.values(summary)) {
    figures.timeRatio = Number((figures.secondsPerImage / theirs.secondsPerImage).toFixed(3));
    figures.memoryRatio = Number((figures.peakMegabytes / theirs.peakMegabytes).toFixed(3));
  }
  report[model] = summary;
}
console.log(JSON.stringify(report, null, 2));
