// npm run bench: prints JSON. Steps run in processes of their own, so that peak memory is theirs alone.
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { steps } from "./models.js";

const run = promisify(execFile);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

async function measured(script, ...args) {
  const { stdout } = await run(process.execPath, [here(script), ...args], { maxBuffer: 2 ** 24 });
  return JSON.parse(stdout.trimEnd().split("\n").at(-1));
}

const report = { machine: cpus()[0].model, cores: cpus().length, step: {} };
for (const [model, { name, rank, batch }] of Object.entries(steps)) {
  report.step[model] = { name, rank, batch, reductionFactor: 2 };
  for (const how of ["float32", "int8", "int8-kept"])
    report.step[model][how] = await measured("step.js", model, "6", how);
}
Object.assign(report, await measured("data.js"));
// The closed form beside a pass of the teacher over the same images, and exported files beside float32.
report.closedForm = await measured("start.js", "90");
report.exports = await measured("exports.js");
console.log(JSON.stringify(report, null, 2));
