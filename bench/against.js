// Times this checkout against another one that is built too, turn by turn, so that both meet the same noise:
//   ROUNDS=9 node bench/against.js <other checkout> [step settings, such as "vit-s int8" "vit-b float32"] [start]
// A step setting is a model and how it is trained (bench/models.js); "start" times the closed form (bench/start.js).
// The ratio is this checkout's time over the other's: the median over rounds of the two of one round. On a machine that others
// use at the same time compare processor time with THREADS=1: threads that wait for each other spend it too.
import { spawn, execFile } from "node:child_process";
import { createInterface } from "node:readline";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { median } from "./models.js";

const [other, ...settings] = process.argv.slice(2);
const rounds = Number(process.env.ROUNDS ?? 9);
const checkouts = [fileURLToPath(new URL("..", import.meta.url)), resolve(other)];

/** A process that takes one training step each time it is asked. */
async function asking(checkout, setting) {
  const [model, how = "float32"] = setting.split(" ");
  const script = join(checkout, "bench/step.js");
  const child = spawn(process.execPath, [script, model, "0", how, "ask"], {
    cwd: checkout,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    async time() {
      child.stdin.write("\n");
      const { secondsPerImage, cpuSeconds, peakMegabytes } = JSON.parse((await lines.next()).value);
      return { seconds: secondsPerImage, cpuSeconds, megabytes: peakMegabytes };
    },
    close: () => child.stdin.end(),
  };
}

/** A start in closed form of the demo's teacher, a new process each time. */
async function starting(checkout) {
  const script = join(checkout, "bench/start.js");
  return {
    async time() {
      const images = process.env.IMAGES ?? "30";
      const { stdout } = await promisify(execFile)(process.execPath, [script, images], { cwd: checkout });
      const [, seconds, cpuSeconds, megabytes] = /^([\d.]+) s, .*; ([\d.]+) s of processor time; (\d+) MB/m.exec(
        stdout,
      );
      return { seconds: Number(seconds), cpuSeconds: Number(cpuSeconds), megabytes: Number(megabytes) };
    },
    close() {},
  };
}

for (const setting of settings.length ? settings : ["vit-s float32", "vit-s int8", "start"]) {
  const sides = [];
  for (const checkout of checkouts) {
    sides.push(await (setting === "start" ? starting(checkout) : asking(checkout, setting)));
  }
  const times = [[], []];
  for (let round = 0; round < rounds; round++) {
    // Each side goes first in every other round.
    for (const side of round % 2 ? [1, 0] : [0, 1]) times[side].push(await sides[side].time());
  }
  for (const side of sides) side.close();
  const ratioOf = (key) => median(times[0].map((figures, round) => figures[key] / times[1][round][key]));
  const [here, there] = times.map((of) => ({
    seconds: +median(of.map(({ seconds }) => seconds)).toFixed(4),
    cpuSeconds: +median(of.map(({ cpuSeconds }) => cpuSeconds)).toFixed(4),
    megabytes: Math.max(...of.map(({ megabytes }) => megabytes)),
  }));
  const [ratio, cpuRatio] = [ratioOf("seconds"), ratioOf("cpuSeconds")].map((value) => +value.toFixed(3));
  console.log(JSON.stringify({ setting, here, there, ratio, cpuRatio }));
}
