// Training across blocks from the closed form on (healing), against the closed form alone, on images set aside from a training part:
//   node bench/healing.js IMAGES-OF-EACH-CLASS DRAWS SCHEDULE...     (schedules are named below; `closed-form` is the one to beat)
// DATA (demo/pictures/train) is split by the seed, a fifth of it to evaluate on, so that a schedule is chosen without the images
// that a result is stated on. Prints a row a run, and means over draws. dev/healing.md has what came out.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { distill } from "wecolora/node";

const trained = {
  recipe: "refined",
  effectiveBatch: 30,
  cachedCrops: 2,
  warmupEpochs: 0.5,
  evaluateSteps: 10,
  earlyStop: 2,
};
const schedules = {
  "closed-form": { recipe: "closed-form", precision: "float32" },
  // All weights, each block's output held to the teacher's.
  "all-inner": { ...trained, method: "weco-kd", loss: "multi-block", epochs: 3, baseLearningRate: 8e-4 },
  "all-inner-slow": { ...trained, method: "weco-kd", loss: "multi-block", epochs: 3, baseLearningRate: 2e-4 },
  // The same without gradients between blocks.
  "all-blockwise": { ...trained, method: "weco-kd", loss: "blockwise", epochs: 3, baseLearningRate: 8e-4 },
  // Adapters.
  "adapters-inner": { ...trained, rank: 64, loss: "multi-block", epochs: 3, baseLearningRate: 4e-3 },
  "adapters-last": { ...trained, rank: 64, epochs: 3, baseLearningRate: 4e-3 },
};

const [count = "10", draws = "3", ...names] = process.argv.slice(2);
const data = process.env.DATA ?? "demo/pictures/train";
const folder = mkdtempSync(join(tmpdir(), "wecolora-healing-"));
const figures = ({ results }) => {
  const { knn, probe, head, fidelity } = results.at(-1);
  const percent = (part) => (part ? 100 * part.top1 : NaN);
  return [percent(knn), percent(probe), percent(head), fidelity.meanAbsoluteDifference, fidelity.cosine];
};
const shown = (row) => row.map((v, i) => v.toFixed(i < 3 ? 1 : 4)).join("  ");
console.log("k-NN %, probe %, classifier %, difference, cosine");
for (const name of names.length > 0 ? names : Object.keys(schedules)) {
  if (!(name in schedules)) throw new Error(`no schedule ${name}; there are ${Object.keys(schedules).join(", ")}`);
  const rows = [];
  for (let seed = 0; seed < Number(draws); seed++) {
    const begin = performance.now();
    const result = await distill({
      ...schedules[name],
      teacher: process.env.TEACHER ?? "demo/teacher",
      data,
      heldOut: 0.2,
      fewShotCount: Number(count),
      seed,
      evaluateTeacher: false,
      report: false,
      out: join(folder, `${name}-${seed}`),
    });
    rows.push(figures(result));
    const seconds = ((performance.now() - begin) / 1000).toFixed(0);
    console.log(`${name} draw ${seed}: ${shown(rows.at(-1))}  ${result.steps ?? 0} steps, ${seconds} s`);
  }
  const mean = rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  console.log(`${name} mean: ${shown(mean)}`);
}
rmSync(folder, { recursive: true });
process.exit(0);
