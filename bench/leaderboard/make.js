// Makes what a row speaks of: a student, an export of it, or the file that a rival's script writes.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { rivalsPython } from "../rivals/python.js";
import { asEvaluated, openOnnxFile } from "./evaluate.js";

const classes = 30;
/** All training images of the demo. */
export const everyImage = 593;

/** A folder with links to the images of a draw, and their names. */
export async function drawnImages(source, { images, draw }, { data, folder, train }) {
  if (images === 0) return { names: new Set(), path: undefined };
  const fewShot = images === everyImage ? { kind: "all" } : { kind: "count", count: images / classes };
  const items = await source.sampleFewShot(train.items, fewShot, draw);
  const path = join(folder, `images-${images}-${draw}`);
  mkdirSync(path, { recursive: true });
  const place = (name) => [join(data, "train", name), join(data, name)].find((file) => existsSync(file));
  items.forEach(({ name }, i) => {
    const link = join(path, `${i}-${basename(name)}`);
    if (!existsSync(link)) symlinkSync(resolve(place(name)), link);
  });
  return { names: new Set(items.map(({ name }) => name)), path };
}

const bytesOf = (folder, names) =>
  names.reduce((sum, name) => sum + (existsSync(join(folder, name)) ? statSync(join(folder, name)).size : 0), 0);

const readFile = async (path) => (existsSync(path) ? new Uint8Array(readFileSync(path)) : undefined);

/** Opens an ONNX file, with the bytes of it and of what lies beside. */
async function opened(device, path, single = false) {
  const bytes = bytesOf(path, [""]) + bytesOf(`${path}_data`, [""]);
  return { model: await openOnnxFile(device, readFile, path, single), bytes };
}

/** A row's options; a budget may depend on the teacher's time. */
const optionsOf = ({ options = {} }, milliseconds) =>
  typeof options === "function" ? options({ milliseconds }) : options;

/** A student's folder, or the teacher's where a row has no method. */
async function studentOf(source, row, { images, draw }, { teacher, data, milliseconds }, out) {
  const { method, invented, deployed } = row;
  const options = optionsOf(row, milliseconds);
  if (method === undefined) return { student: teacher };
  // Methods without images draw one a class, and don't look at it.
  const count = images === everyImage ? {} : { fewShotCount: Math.max(1, images / classes) };
  const quiet = { evaluate: false, evaluateSteps: 0, report: false };
  const given = invented ? {} : { data, ...count };
  const made = await source.distill({ teacher, method, seed: draw, ...given, ...quiet, ...options, out });
  const { student, deployment, exports } = made;
  return deployed
    ? { student, deployed: { ...exports.find(({ format }) => format === deployment.export), ...deployment } }
    : { student };
}

/** Makes a row, and opens it: { model, bytes, seconds, command, dispose }. */
export async function make(source, device, row, size, places, calibration) {
  const out = join(places.folder, "made");
  rmSync(out, { recursive: true, force: true });
  const begin = performance.now();
  const { model, bytes, command, chosen } = row.rival
    ? await rivalOf(source, device, row, places, calibration, out)
    : await ownOf(source, device, row, size, places, calibration, out);
  const seconds = model.seconds ?? (performance.now() - begin) / 1000;
  return { model, bytes, seconds, command, ...(chosen === undefined ? {} : { chosen }) };
}

/** What a search chose, in a few words: "onnx-q4 (3 bits, blocks of 128), 72 % of the block weights". */
function chosenText({ format, exportOptions: { bits, blockSize } = {}, blockShare, imageSize, merging }) {
  const stored = bits === undefined ? "" : ` (${bits} bits, blocks of ${blockSize})`;
  const merged = merging ? `, ${merging.reduce((sum, count) => sum + count, 0)} tokens merged` : "";
  const smaller = imageSize === undefined ? "" : `, images of ${imageSize}x${imageSize}`;
  return `${format}${stored}, ${Math.round(100 * blockShare)} % of the block weights${smaller}${merged}`;
}

async function ownOf(source, device, row, size, places, calibration, out) {
  const { student: path, deployed } = await studentOf(source, row, size, places, join(out, "run"));
  const command = commandOf(row, size, places);
  if (deployed) {
    const { files } = source.exportOf(deployed.format);
    const file = files.find((name) => name.endsWith(".onnx"));
    const { model, bytes } = await opened(device, join(deployed.out, file));
    return { model: { ...model, imageSize: deployed.imageSize }, bytes, command, chosen: chosenText(deployed) };
  }
  if (row.export === undefined) {
    const model = await source.loadModel(path, { device });
    return { model: asEvaluated(model), bytes: model.origin.bytes, command };
  }
  const given = row.exportOptions ?? {};
  const exportOptions = typeof given === "function" ? given({ ...size, calibration }) : given;
  const model = row.method === undefined ? path : join(out, "run");
  const folder = join(out, "export");
  // The comparison that every export makes is not what is measured here.
  const options = { model, data: places.data, to: [row.export], maxImages: 8, out: folder, ...exportOptions };
  await source.exportModel(options);
  const { files } = source.exportOf(row.export);
  const file = files.find((name) => name.endsWith(".onnx"));
  if (file) return { ...(await opened(device, join(folder, file))), command };
  const loaded = await source.loadModel(folder, { device });
  return { model: asEvaluated(loaded), bytes: bytesOf(folder, files), command };
}

/** A rival's script is given the teacher as an ONNX file, its checkpoint, the shape of our students and the images. */
async function rivalOf(source, device, row, { teacher, data, folder }, calibration, out) {
  mkdirSync(out, { recursive: true });
  const script = fileURLToPath(new URL(`../rivals/${row.rival}`, import.meta.url));
  const onnx = join(folder, "teacher", "onnx", "model.onnx");
  if (!existsSync(onnx)) {
    const options = { model: teacher, data, to: ["onnx"], maxImages: 8, out: join(folder, "teacher") };
    await source.exportModel(options);
  }
  const definition = await source.readDefinition(teacher);
  const { config } = definition;
  const shape = source.shapeFor(definition, config.depth / 2, "balanced");
  if (shape.kept.length !== config.depth) throw new Error("rivals prune widths alone, but the shape lacks blocks");
  const file = join(out, "model.onnx");
  const given = [
    ...["--teacher", teacher, "--onnx", onnx, "--out", file],
    ...["--heads", shape.keptHeads ?? config.heads, "--channels", shape.mlpWidth ?? config.mlpWidth],
    ...(calibration === undefined ? [] : ["--images", calibration]),
    ...row.arguments,
  ].map(String);
  const begin = performance.now();
  execFileSync(rivalsPython(), [script, ...given], { stdio: ["ignore", "ignore", "inherit"] });
  const seconds = (performance.now() - begin) / 1000;
  const { model, bytes } = await opened(device, file, row.single);
  return { model: { ...model, seconds }, bytes, command: `${row.rival} ${row.arguments.join(" ")}`.trim() };
}

/** What a user would type. */
function commandOf(row, { images, draw }, { teacher, data, milliseconds }) {
  const { method, export: to, exportOptions, shown: named = exportOptions, invented } = row;
  const options = optionsOf(row, milliseconds);
  const flag = ([name, value]) =>
    `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}${value === true ? "" : ` ${value}`}`;
  const shown = Object.entries(named ?? {}).map(flag);
  const rounded = to && images > 0 && method === undefined ? ["--images <the draw's images>"] : [];
  if (method === undefined)
    return to ? [`wecolora export --model ${teacher} --to ${to}`, ...shown, ...rounded].join(" ") : "";
  if (invented)
    return [`wecolora distill ${teacher} --method ${method}`, ...Object.entries(options).map(flag)].join(" ");
  const count = images === everyImage ? [] : [`--few-shot-count ${Math.max(1, images / classes)}`];
  return [
    `wecolora distill --teacher ${teacher} --data ${data} --method ${method}`,
    ...Object.entries(options).map(flag),
    ...count,
    `--seed ${draw}`,
    ...(to ? [`--export ${to}`] : []),
    ...shown,
  ].join(" ");
}

/** The folders of rows that are done hold nothing that is needed again. */
export function clear(folder) {
  for (const name of existsSync(folder) ? readdirSync(folder) : [])
    if (name === "made") rmSync(join(folder, name), { recursive: true, force: true });
}
