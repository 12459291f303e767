// What runs ask of their platform, in a browser: mounted files, images by the browser's decoder, ONNX Runtime's web build.
import packageJson from "../../../package.json" with { type: "json" };
import type { Environment } from "../../context/environment.ts";
import type { OutputPlatform } from "../../context/outputs.ts";
import type { ImageFolder } from "../../data/dataset.ts";
import type { OpenOptions } from "../../data/formats/open.ts";
import { allImages } from "../../data/dataset.ts";
import { openDataSetIn } from "../../data/formats/open.ts";
import type { Decode } from "../../data/image-reader.ts";
import { stoppableSource } from "../../data/stoppable-source.ts";
import type { FeatureStore, HashMemory, VectorsByHash } from "../../evaluation/feature-store.ts";
import { Model } from "../../models/model.ts";
import type { Device } from "../../runtime/device.ts";
import { stoppable } from "../../runtime/stoppable.ts";
import { outputError, UserError } from "../../utils/errors.ts";
import { isHubName } from "../hub-names.ts";
import type { EncodeSvg, ImageEncoder } from "./drawing.ts";
import type { HubOptions } from "./hub.ts";
import { hubDirectory } from "./hub.ts";
import { mostWasmBytes } from "./memory.ts";
import type { Mounts } from "./web-files.ts";
import { partsOf } from "./web-files.ts";
import { webImageSource } from "./web-images.ts";
import { readMounted } from "./web-models.ts";
import { webTree } from "./web-tree.ts";

/** This package's version. */
export const packageVersion: string = packageJson.version;

/** Features of this session, in memory. */
export function memoryFeatureStore(): FeatureStore {
  const vectors = new Map<string, Map<string, Float32Array>>();
  const hashes = new Map<string, Map<string, string>>();
  return {
    problem: async () => undefined,
    load: async (key, wanted): Promise<VectorsByHash> =>
      new Map([...(vectors.get(key) ?? [])].filter(([hash]) => wanted.has(hash))),
    async save(key, added) {
      const kept = vectors.get(key) ?? new Map<string, Float32Array>();
      vectors.set(key, kept);
      for (const [hash, vector] of added) kept.set(hash, vector);
    },
    async hashes(source): Promise<HashMemory> {
      const kept = hashes.get(source) ?? new Map<string, string>();
      hashes.set(source, kept);
      return {
        get: (stamp) => kept.get(stamp),
        set: (stamp, hash) => void kept.set(stamp, hash),
        save: async () => undefined,
      };
    },
  };
}

const plainPath = (path: string) => partsOf(path).join("/");

/** Outputs in mounted directories: no other process writes there, and folders are compared by their paths. */
function webOutputs(locked: Set<string>): OutputPlatform {
  return {
    async lock(folder) {
      const path = plainPath(folder);
      if (locked.has(path)) throw outputError(`Another run writes in ${folder}. Wait until it has ended.`);
      locked.add(path);
      return { release: async () => void locked.delete(path) };
    },
    async relation(output, input) {
      const [out, given] = [plainPath(output), plainPath(input)];
      if (out === given) return "same";
      if (out.startsWith(`${given}/`)) return "inside";
      return given.startsWith(`${out}/`) ? "around" : "apart";
    },
    async freeBytes() {
      const storage = typeof navigator === "object" ? (navigator.storage as StorageManager | undefined) : undefined;
      const { quota, usage } = (await storage?.estimate?.().catch(() => undefined)) ?? {};
      // Outputs in memory are bounded by the same order of magnitude.
      return quota === undefined ? undefined : quota - (usage ?? 0);
    },
    checkFile: async () => undefined,
  };
}

export interface WebEnvironmentOptions {
  readonly mounts: Mounts;
  readonly device: Device;
  readonly decode: Decode;
  readonly encoder: ImageEncoder;
  readonly encodeSvg: EncodeSvg;
  readonly createDocument: () => Document;
  readonly hub: Pick<HubOptions, "endpoint" | "cacheName">;
  readonly features: FeatureStore;
  readonly locked: Set<string>;
  /** Models that are loaded already, by the paths that a run's options have for them. */
  readonly models: ReadonlyMap<string, Model>;
  readonly signal?: AbortSignal;
}

/** All images of a data set, of every split, in classes where all have them. */
async function openImages(mounts: Mounts, path: string, options?: OpenOptions): Promise<ImageFolder> {
  return allImages(await openDataSetIn(await webTree(mounts, path), options));
}

/** A model that the caller has loaded, on the run's device. */
function loadedModel(
  model: Model,
  device: Device,
  { mean, std }: { mean?: Model["preprocessing"]["mean"]; std?: Model["preprocessing"]["std"] },
): Model {
  const { config, weights, origin, preprocessing } = model;
  const seen = { ...preprocessing, mean: mean ?? preprocessing.mean, std: std ?? preprocessing.std };
  return new Model({ config, weights, origin, preprocessing: seen }, device);
}

/** What runs need, in a browser or wherever onnxruntime-web runs. */
export function webEnvironment(options: WebEnvironmentOptions): Environment {
  const { mounts, decode, encoder, hub, signal, models } = options;
  const device = signal ? stoppable(options.device, signal) : options.device;
  return {
    async loadModel(path, { signal: stop, download, ...request }) {
      const loaded = models.get(path);
      if (loaded) return loadedModel(loaded, device, request);
      const reading = { ...request, memory: mostWasmBytes, device: () => device };
      if ((await mounts.kindOf(path)) === undefined && isHubName(path)) {
        const directory = await hubDirectory(path, { ...hub, ...request, signal: stop, progress: download });
        mounts.add(path, directory);
        const definition = await readMounted(mounts, path.replaceAll("/", "_"), reading);
        return new Model({ ...definition, origin: { ...definition.origin, path, hub: path } }, device);
      }
      return new Model(await readMounted(mounts, path, reading), device);
    },
    openDataSet: async (path, openOptions) => openDataSetIn(await webTree(mounts, path), openOptions),
    openImages: (path, openOptions) => openImages(mounts, path, openOptions),
    async listFiles(path, wanted) {
      const tree = await webTree(mounts, path);
      return (await tree.walk("", wanted)).names;
    },
    featureStore: () => options.features,
    async writeFile(path, chunks) {
      const { directory, name } = mounts.split(path);
      if (name === "") throw new UserError(`${JSON.stringify(path)} names no file.`, { code: "INVALID_OPTION" });
      await directory.write(name, chunks);
    },
    createImageSource(path) {
      const source = webImageSource(mounts, path, decode);
      return signal ? stoppableSource(source, signal) : source;
    },
    directory: (path) => mounts.directory(path),
    outputs: webOutputs(options.locked),
    encodePng: (image) => encoder.encodePng(image),
    encodeJpeg: (image) => encoder.encodeJpeg(image),
    createDocument: async () => options.createDocument(),
    encodeSvg: options.encodeSvg,
    availableMemory: () => mostWasmBytes,
    now: () => performance.now(),
    about: aboutBrowser(),
  };
}

const aboutBrowser = (): Environment["about"] => ({
  wecolora: packageVersion,
  runtime: "onnxruntime-web",
  browser: typeof navigator === "object" ? navigator.userAgent : undefined,
  cores: typeof navigator === "object" ? navigator.hardwareConcurrency : undefined,
});
