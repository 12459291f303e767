// What tasks cost beside their work: start of a process, a task of one image, the merge of 1,000 parts, planning a long list; and
// simulated times to completion with stragglers and failures.
//   node bench/cluster.js [--images 1280000] [--parts 1000] [--skip-plan]
//   node bench/cluster.js --overhead 2 --merge 0.005     simulates alone, with these seconds for each task and for each part
import { execFileSync, spawnSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const cli = join(root, "dist/cli.js");
/** V8 collects garbage late where memory is plenty: so much heap shows what planning needs. */
const smallHeap = 1000;
const { values } = parseArgs({
  options: {
    images: { type: "string", default: "1280000" },
    parts: { type: "string", default: "1000" },
    model: { type: "string", default: join(root, "demo/teacher") },
    "skip-plan": { type: "boolean", default: false },
    overhead: { type: "string" },
    merge: { type: "string", default: "0.005" },
  },
});
const folder = mkdtempSync(join(tmpdir(), "wecolora-cluster-bench-"));
const at = (...parts) => join(folder, ...parts);

/** Seconds, and peak memory in MiB, of a command that must end well. */
const timed = (...args) => timedWith("", args);

/** The same with more options of Node. */
function timedWith(more, args) {
  const begin = performance.now();
  const outcome = spawnSync("/usr/bin/env", ["bash", "-c", 'exec "$0" "$@"', process.execPath, cli, ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { ...process.env, NODE_OPTIONS: `--import ${at("peak.mjs")} ${more}`, PEAK_FILE: at("peak") },
  });
  if (outcome.status !== 0) throw new Error(outcome.stderr);
  const seconds = (performance.now() - begin) / 1000;
  return { seconds, peak: Number(readFileSync(at("peak"), "utf8")) };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
const row = (...cells) => console.log(`| ${cells.join(" | ")} |`);
const shown = (seconds) => (seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(0));

/** The peak of the process's memory, written when it ends; workers write nothing. */
writeFileSync(
  at("peak.mjs"),
  `import { isMainThread } from "node:worker_threads"; import { writeFileSync } from "node:fs";
  if (isMainThread) process.on("exit", () => writeFileSync(process.env.PEAK_FILE, String(process.resourceUsage().maxRSS / 1024)));`,
);

/** An image of 1 by 1 in few bytes. */
const tiny = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

/** A tar archive of so many images. */
function writeTar(path, count) {
  const file = openSync(path, "w");
  const entry = Buffer.alloc(1024);
  tiny.copy(entry, 512);
  const chunk = [];
  for (let i = 0; i < count; i++) {
    const header = Buffer.from(entry);
    header.fill(0, 0, 512);
    header.write(`n${String(i % 1000).padStart(4, "0")}/${String(i).padStart(8, "0")}.png`, 0);
    header.write("0000644\0" + "0000000\0" + "0000000\0", 100);
    header.write(`${tiny.length.toString(8).padStart(11, "0")}\0` + "00000000000\0" + "        0", 124);
    header.write("ustar\x0000", 257);
    let sum = 0;
    for (let k = 0; k < 512; k++) sum += header[k];
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    chunk.push(header);
    if (chunk.length === 4096 || i === count - 1) writeSync(file, Buffer.concat(chunk.splice(0)));
  }
  writeSync(file, Buffer.alloc(1024));
  closeSync(file);
}

/** Parts as tasks leave them, made up: numbers of a feature file's rows. */
function writeParts(plan, width) {
  const { shards } = JSON.parse(readFileSync(join(plan, "plan.json"), "utf8"));
  for (const [index, shard] of shards.entries()) {
    const task = join(plan, "tasks", String(index).padStart(6, "0"));
    mkdirSync(task, { recursive: true });
    const lines = readFileSync(join(plan, "units", `${String(index).padStart(6, "0")}.jsonl`), "utf8")
      .trim()
      .split("\n");
    const names = lines.flatMap((line) => JSON.parse(line).map(({ name }) => name));
    const bytes = 4 * names.length * width;
    const header = { features: { dtype: "F32", shape: [names.length, width], data_offsets: [0, bytes] } };
    const json = Buffer.from(JSON.stringify(header).padEnd(8 * Math.ceil(JSON.stringify(header).length / 8)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(join(task, "part.safetensors"), Buffer.concat([length, json, Buffer.alloc(bytes)]));
    writeFileSync(join(task, "value.json"), JSON.stringify({ names, skipped: [] }));
    writeFileSync(
      join(task, "part.json"),
      JSON.stringify({ format: "wecolora-part", version: 1, shard, seconds: 1, machine: {} }),
    );
    const journal = [
      { format: "wecolora-output", version: 1, kind: "task" },
      ...["part.safetensors", "value.json", "part.json"].map((file) => ({ file })),
      { finished: true },
    ];
    writeFileSync(join(task, ".wecolora.jsonl"), journal.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }
}

/** Draws that come out the same each time. */
function draws(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Seconds until all tasks are done and merged: each takes its share of the work and the overhead; one in fifty takes three times as
 * long; one in a hundred fails somewhere on its way and is run again after the scheduler's pause.
 */
function simulated(work, tasks, lanes, { overhead, merge, requeue }, seed) {
  const random = draws(1000 * seed + tasks);
  const free = new Array(lanes).fill(0);
  for (let task = 0; task < tasks; task++) {
    const slow = random() < 0.02 ? 3 : 0.9 + 0.2 * random();
    let seconds = overhead + (work / tasks) * slow;
    if (random() < 0.01) seconds += requeue + random() * seconds;
    const lane = free.indexOf(Math.min(...free));
    free[lane] += seconds;
  }
  return Math.max(...free) + merge * tasks;
}

/** What each task costs beside its work, and each part at the merge, in seconds. */
function measured() {
  writeTar(at("some.tar"), 64);
  const features = ["features", "--model", values.model, "--batch", "1", "--threads", "1"];
  const cut = (data, out, tasks) => [...features, "--data", data, "--out", out, "--launcher", "plan", "--tasks", tasks];
  timed(...cut(at("some.tar"), at("some.safetensors"), "64"));
  const first = timed("task", "--plan", at("some.safetensors.tasks"), "--index", "0");
  const tasks = [1, 2, 3].map((index) =>
    timed("task", "--plan", at("some.safetensors.tasks"), "--index", String(index)),
  );
  const again = [1, 2, 3].map((index) =>
    timed("task", "--plan", at("some.safetensors.tasks"), "--index", String(index)),
  );
  const idle = [1, 2, 3].map(() => timed("--version"));
  row("what", "s", "peak MiB");
  row("---", "---:", "---:");
  row("`wecolora --version`: start of Node and the command line", shown(median(idle.map((t) => t.seconds))), "");
  row("a task that is finished: its plan, its list", shown(median(again.map((t) => t.seconds))), "");
  row(
    "a task of one image: model, session, image, result",
    shown(median(tasks.map((t) => t.seconds))),
    first.peak.toFixed(0),
  );

  const parts = values.parts;
  writeTar(at("parts.tar"), Number(parts) * 4);
  const planned = timed(...cut(at("parts.tar"), at("parts.safetensors"), parts));
  writeParts(at("parts.safetensors.tasks"), 384);
  const merge = timed("merge", "--plan", at("parts.safetensors.tasks"));
  row(`planning ${parts} tasks of 4 images`, shown(planned.seconds), planned.peak.toFixed(0));
  row(`merge of ${parts} parts of 4 rows of 384`, shown(merge.seconds), merge.peak.toFixed(0));
  const status = timed("status", at("parts.safetensors"));
  row(`status of ${parts} tasks`, shown(status.seconds), status.peak.toFixed(0));

  if (!values["skip-plan"]) {
    writeTar(at("many.tar"), Number(values.images));
    const args = cut(at("many.tar"), at("many.safetensors"), "256");
    args[args.indexOf("--batch") + 1] = "32";
    const many = timed(...args);
    row(
      `planning ${Number(values.images).toLocaleString("en")} images in 256 tasks`,
      shown(many.seconds),
      many.peak.toFixed(0),
    );
    rmSync(at("many.safetensors.tasks"), { recursive: true });
    const less = timedWith(`--max-old-space-size=${smallHeap}`, args);
    row(`the same with ${smallHeap} MiB of heap`, shown(less.seconds), less.peak.toFixed(0));
    const lists = execFileSync("du", ["-sm", at("many.safetensors.tasks")], { encoding: "utf8" }).split("\t")[0];
    row("its lists on disk, MB", "", lists);
    console.log(`(archive: ${Math.round(statSync(at("many.tar")).size / 1e6)} MB)`);
  }

  return { overhead: median(tasks.map((t) => t.seconds)), merge: merge.seconds / Number(parts) };
}

/** Simulated runs that a time is the mean of. */
const runs = 500;

/** Tables of simulated times. */
function simulate({ overhead, merge }) {
  const costs = { overhead, merge, requeue: 120 };
  console.log(
    "\nSimulated hours to completion of 100 hours of work, as many nodes as tasks, and at most 16 at a time:\n",
  );
  row("tasks", "all at once", "16 at a time");
  row("---:", "---:", "---:");
  for (const count of [1, 2, 4, 8, 16, 32, 64, 128, 256]) {
    const hours = (lanes) => {
      const times = Array.from({ length: runs }, (_, seed) => simulated(360_000, count, lanes, costs, seed) / 3600);
      return (times.reduce((sum, time) => sum + time, 0) / runs).toFixed(1);
    };
    row(count, hours(count), hours(Math.min(16, count)));
  }
  console.log(
    "\nImages from which tasks are done sooner than one process, at 10 images a second and a minute in the queue:\n",
  );
  row("tasks", "images");
  row("---:", "---:");
  for (const count of [2, 4, 16, 64]) {
    // Work w is over sooner where queue + overhead + merge + w / tasks < w.
    const seconds = (60 + overhead + merge * count) / (1 - 1 / count);
    row(count, Math.ceil(seconds * 10));
  }
  console.log("\nRuns of a comparison from which tasks are done sooner than one process, by the minutes of a run:\n");
  row("tasks", "0.5 min", "1 min", "5 min", "30 min");
  row("---:", "---:", "---:", "---:", "---:");
  for (const count of [2, 4, 16, 64]) row(count, ...[0.5, 1, 5, 30].map((minutes) => fewestRuns(count, 60 * minutes)));

  /** The fewest runs that are over sooner as tasks, a minute in the queue included. */
  function fewestRuns(tasks, seconds) {
    for (let runs = 1; ; runs++)
      if (60 + merge * tasks + Math.ceil(runs / tasks) * (overhead + seconds) < runs * seconds) return runs;
  }
}

try {
  simulate(
    values.overhead === undefined ? measured() : { overhead: Number(values.overhead), merge: Number(values.merge) },
  );
} finally {
  rmSync(folder, { recursive: true });
}
