// The leaderboard: runs the rows of bench/leaderboard/rows.js on the demo and writes docs/leaderboard.md with its charts.
//   node bench/leaderboard.js [--only TEXT;TEXT] [--images 0,90] [--draws 0,1,2] [--write] [--times] [--quiet] [--sample 60]
// Finished rows stand in bench/leaderboard/finished.jsonl and are not run again; `--write` only writes what is there. A row that fails
// is reported and left out. `--times` makes finished rows again and times them alone, on a quiet machine; `--quiet` says that nothing else
// runs while rows are made, so that their times count. `--sample` tries rows on so many images of each part, and keeps nothing. Rows of other packages need an environment of their own (bench/rivals/README.md).
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { deserialize, serialize } from "node:v8";
import { asEvaluated, evaluate, openImages, outputsOfAll, relativeTime } from "./leaderboard/evaluate.js";
import { loadSource } from "./leaderboard/load-source.js";
import { clear, drawnImages, everyImage, make } from "./leaderboard/make.js";
import { rows } from "./leaderboard/rows.js";
import { writeLeaderboard } from "./leaderboard/write.js";

const { values: given } = parseArgs({
  options: {
    only: { type: "string" },
    images: { type: "string" },
    draws: { type: "string", default: "0,1,2" },
    write: { type: "boolean", default: false },
    times: { type: "boolean", default: false },
    quiet: { type: "boolean", default: false },
    sample: { type: "string" },
  },
});
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, ".bench/leaderboard");
const records = join(root, "bench/leaderboard/finished.jsonl");
mkdirSync(folder, { recursive: true });
const places = { teacher: "demo/teacher", data: "demo/pictures", folder };

const numbers = (text) => text?.split(",").map(Number);
const [counts, draws] = [numbers(given.images), numbers(given.draws)];
const only = given.only?.split(";");

const placeOf = ({ label }) => only?.findIndex((text) => label.includes(text)) ?? 0;

/** Draws that a number of images has: none and all have one. */
const drawsOf = (images) => (images === 0 || images === everyImage ? [0] : draws);
const keyOf = ({ label, images, draw }) => `${label}, ${images} images, draw ${draw}`;
const finished = () =>
  existsSync(records)
    ? readFileSync(records, "utf8")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line))
    : [];

const done = new Set(given.sample || given.times ? [] : finished().map(keyOf));
const wanted = rows
  .filter(({ label }) => !only || only.some((text) => label.includes(text)))
  .flatMap((row) => row.images.map((images) => ({ row, images })))
  .filter(({ images }) => !counts || counts.includes(images))
  .flatMap(({ row, images }) => drawsOf(images).map((draw) => ({ row, images, draw })))
  .filter(({ row, images, draw }) => !done.has(keyOf({ label: row.label, images, draw })))
  // In the order that they are asked for.
  .sort((a, b) => placeOf(a.row) - placeOf(b.row));

const machine = `${cpus()[0].model}, ${availableParallelism()} cores`;
const source = await loadSource();
if (given.times) await timeAll();
else if (!given.write) await runAll();
if (given.sample) process.exit(0);
writeLeaderboard(source, rows, finished(), { folder: join(root, "docs") });
console.log(`docs/leaderboard.md: ${finished().length} rows`);
process.exit(0);

/** The teacher's outputs, which no row changes: kept beside the rows, by the teacher's and the images' contents. */
async function teacherAnswers(source, teacher, images) {
  const hash = createHash("sha256");
  for (const part of [images.train, images.val]) for (const { data } of part.batches) hash.update(data);
  const weights = await source.readDefinition(places.teacher);
  for (const { data } of weights.weights.values()) hash.update(data);
  const file = join(folder, `teacher-${hash.digest("hex").slice(0, 16)}.v8`);
  if (existsSync(file)) return deserialize(readFileSync(file));
  const answers = await outputsOfAll(teacher, images);
  writeFileSync(file, serialize(answers));
  return answers;
}

/** What rows are made and held against: the teacher, so many images of each part at most, and one to be timed on. */
async function openPlaces(most) {
  const device = source.defaultDevice();
  const model = await source.loadModel(places.teacher, { device });
  const images = await openImages(source, places.data, model.preprocessing, most);
  const { train } = await source.openDataSet(places.data);
  return { device, teacher: asEvaluated(model), images, first: firstOf(images), train };
}

/** Times of finished rows, taken anew. */
async function timeAll() {
  const { device, teacher, images, first, train } = await openPlaces(1);
  const done = new Set(finished().map(keyOf));
  for (const { row, images: count, draw } of wanted) {
    const key = { label: row.label, images: count, draw };
    if (!done.has(keyOf(key))) continue;
    const drawn = await drawnImages(source, key, { ...places, train });
    const { model } = await make(source, device, row, key, await placesFor(row, teacher, first), drawn.path);
    const times = await relativeTime(teacher, model, first, firstOf(await images.at(model.imageSize)));
    await model.dispose();
    clear(folder);
    console.log(keyOf(key), times);
    const all = finished().map((record) =>
      keyOf(record) === keyOf(key) ? { ...record, ...times, machine, timed: new Date().toISOString() } : record,
    );
    writeFileSync(records, all.map((record) => `${JSON.stringify(record)}\n`).join(""));
  }
}

/** The places of a row; where its options depend on the teacher's time, with that time. */
async function placesFor({ options }, teacher, first) {
  if (typeof options !== "function") return places;
  return { ...places, milliseconds: (await relativeTime(teacher, teacher, first)).teacherMilliseconds };
}

/** One image, to be timed on. */
function firstOf({ val: { batches } }) {
  const [one] = batches;
  return { ...one, dims: [1, ...one.dims.slice(1)], data: one.data.slice(0, one.data.length / one.dims[0]) };
}

async function runAll() {
  const { device, teacher, images, first, train } = await openPlaces(Number(given.sample ?? Infinity));
  const answers = await teacherAnswers(source, teacher, images);
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
  for (const { row, images: count, draw } of wanted) {
    const key = { label: row.label, images: count, draw };
    console.log(keyOf(key));
    try {
      const drawn = await drawnImages(source, key, { ...places, train });
      const { model, ...made } = await make(source, device, row, key, await placesFor(row, teacher, first), drawn.path);
      try {
        const seen = await images.at(model.imageSize);
        const outputs = await outputsOfAll(model, seen);
        const figures = await evaluate(source, device, images, outputs, answers, drawn.names);
        const times = await relativeTime(teacher, model, first, firstOf(seen));
        const date = new Date().toISOString();
        const record = {
          ...key,
          ...figures,
          ...times,
          ...made,
          machine,
          date,
          commit,
          ...(given.quiet ? { timed: date } : {}),
        };
        if (!given.sample) appendFileSync(records, `${JSON.stringify(record)}\n`);
        console.log(JSON.stringify(record));
      } finally {
        await model.dispose();
      }
    } catch (error) {
      console.error(`${keyOf(key)} failed: ${error instanceof Error ? error.message : error}`);
    }
    clear(folder);
  }
}
