// What callers give as a folder or as images: files, archives, handles, addresses, pixels; each as a directory with a name.
import { imageFormat } from "../../data/image-formats.ts";
import { isImageName } from "../../data/formats/tree.ts";
import { writeBmp } from "../../data/write-bmp.ts";
import type { Directory } from "../../files/storage.ts";
import { UserError } from "../../utils/errors.ts";
import {
  blobDirectory,
  blobHandle,
  fileListDirectory,
  filesOf,
  folderName,
  handleDirectory,
  isDirectoryHandle,
  isFile,
  plain,
  zipDirectory,
} from "./web-files.ts";
import type { FileTree } from "./web-files.ts";
import type { WebImage } from "./web-images.ts";
import { contentOf, fetchBlob, imageName } from "./web-images.ts";

/** Files of a folder: chosen or dropped ones, a zip archive of them, a handle, or a Directory of one's own. */
export type DirectoryInput = File | readonly File[] | FileList | FileTree | FileSystemDirectoryHandle | Directory;

/** A directory, what it is called, and its file where just one is meant. */
export interface NamedDirectory {
  readonly name: string;
  readonly directory: Directory;
  readonly file?: string;
}

const isDirectory = (value: unknown): value is Directory =>
  typeof value === "object" && value !== null && "describe" in value && "list" in value && "open" in value;

const isFileTree = (value: unknown): value is FileTree =>
  typeof value === "object" && value !== null && "files" in value && value.files instanceof Map;

const lastPart = (url: URL) => decodeURIComponent(url.pathname.replace(/\/$/, "").split("/").at(-1) ?? "") || url.host;

/** A folder of settings and weights at an address: files that a model may have, as far as they are there. */
async function folderAt(url: URL, signal?: AbortSignal): Promise<Directory> {
  const base = url.href.replace(/\/?$/, "/");
  const files = new Map<string, Blob>();
  const take = async (name: string): Promise<boolean> => {
    try {
      files.set(name, await fetchBlob(base + name, base + name, signal));
      return true;
    } catch (error) {
      if (error instanceof UserError && error.code === "FILE_NOT_FOUND") return false;
      throw error;
    }
  };
  for (const name of ["config.json", "preprocessor_config.json"]) await take(name);
  for (const name of ["model.safetensors", "pytorch_model.bin", "onnx/model.onnx"]) if (await take(name)) break;
  return blobDirectory(files, lastPart(url));
}

const fileEnding = /\.(safetensors|bin|pth|pt|ckpt|onnx|zip|tar|csv|tsv|jsonl|parquet|nii|nii\.gz)$/i;
const isZip = (name: string) => /\.zip$/i.test(name);

async function archive(name: string, blob: Blob): Promise<NamedDirectory> {
  const inner = name.replace(/\.zip$/i, "");
  return { name: inner, directory: await zipDirectory(blobHandle(name, blob), inner) };
}

/** One file: the archive that it is where a folder is wanted, else a directory that holds it alone. */
async function fileDirectory(name: string, blob: Blob, unpack: boolean): Promise<NamedDirectory> {
  if (unpack && isZip(name)) return archive(name, blob);
  const folder = {
    name: name.replace(/\.[^.]*$/, "") || name,
    directory: blobDirectory(new Map([[name, blob]]), name),
  };
  // One image is a folder of one; archives and tables are data sets themselves.
  return !unpack && isImageName(name) ? folder : { ...folder, file: name };
}

/**
 * What was given as a directory. `what` is what messages call it; archives of images stay as they are, since their
 * format reads them in place.
 */
export async function directoryOf(
  input: unknown,
  what: "model" | "images",
  signal?: AbortSignal,
): Promise<NamedDirectory> {
  if (isDirectoryHandle(input)) return { name: input.name || "folder", directory: handleDirectory(input, input.name) };
  if (isFileTree(input)) {
    const { name, files } = input;
    const [only] = files;
    // A folder has a name; a file that was dropped alone has none around it.
    if (name === undefined && only && files.size === 1 && !only[0].includes("/"))
      return fileDirectory(only[0], only[1], what === "model");
    return { name: name ?? what, directory: blobDirectory(files, name ?? what) };
  }
  if (isDirectory(input)) return { name: input.describe("").split("/").at(-1) || what, directory: input };
  if (isFile(input)) return fileDirectory(input.name, input, what === "model");
  const files = filesOf(input);
  if (files) {
    if (files.length === 1 && folderName(files) === undefined) return directoryOf(files[0], what, signal);
    const name = folderName(files) ?? what;
    return { name, directory: fileListDirectory(files, name) };
  }
  if (typeof input === "string" || input instanceof URL) {
    const text = String(input);
    if (!URL.canParse(text) || !/^(https?|blob):/i.test(text))
      throw new UserError(
        `${JSON.stringify(text)} is neither a name on the hub, such as facebook/dinov2-small, nor a URL (http, https).`,
        { code: "FILE_NOT_FOUND" },
      );
    const url = new URL(text);
    const name = lastPart(url);
    if (what === "images" || fileEnding.test(url.pathname))
      return fileDirectory(name, await fetchBlob(text, text, signal), what === "model");
    return { name, directory: await folderAt(url, signal) };
  }
  const forms = "a File, FileList or File[], a zip archive, a directory handle, a Directory, or a URL";
  throw new UserError(`The ${what} must be ${forms}, got ${input === null ? "null" : typeof input}.`, {
    code: "INVALID_INPUT",
  });
}

/** Images: a folder in any of its forms, an archive or table, a list of single images, or `procedural:<n>` for none. */
export type WebImages = DirectoryInput | string | URL | readonly WebImage[];

const endings = { JPEG: "jpg", PNG: "png", WebP: "webp", AVIF: "avif", TIFF: "tif", BMP: "bmp", GIF: "gif" } as const;

/** A list of single images as files: what is encoded stays so, and pixels become BMP files. */
async function imageList(images: readonly WebImage[], signal?: AbortSignal): Promise<NamedDirectory> {
  const files = new Map<string, Blob>();
  const digits = String(images.length).length;
  for (const [i, image] of images.entries()) {
    signal?.throwIfAborted();
    const named = imageName(image, i);
    const content = await contentOf(image, named, signal);
    const bytes = "image" in content ? writeBmp(content.image) : content.encoded;
    const format = imageFormat(bytes);
    const number = String(i + 1).padStart(digits, "0");
    const ending = format ? endings[format] : "img";
    files.set(`${number}${isFile(image) ? ` ${image.name}` : `.${ending}`}`, new Blob([plain(bytes)]));
  }
  return { name: "images", directory: blobDirectory(files, "images") };
}

/** Images as a directory, or as a file in one. Throws a UserError on what is none. */
export async function imagesDirectory(input: WebImages, signal?: AbortSignal): Promise<NamedDirectory> {
  if (Array.isArray(input) && input.length === 0)
    throw new UserError("There are no images: the list is empty.", { code: "NO_IMAGES" });
  if (!filesOf(input) && Array.isArray(input)) return imageList(input as readonly WebImage[], signal);
  return directoryOf(input, "images", signal);
}
