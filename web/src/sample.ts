// The sample beside the page: a small teacher and images in classes.
import type { FileTree } from "wecolora/web/client";

const at = (path: string) => new URL(`sample/${path}`, document.baseURI).href;

async function blobAt(path: string): Promise<Blob> {
  const response = await fetch(at(path));
  if (!response.ok) throw new Error(`The sample's ${path} can't be loaded (${response.status}).`);
  return response.blob();
}

export async function sampleTeacher(): Promise<FileTree> {
  const names = ["config.json", "preprocessor_config.json", "model.safetensors"];
  const files = await Promise.all(names.map(async (name) => [name, await blobAt(`teacher/${name}`)] as const));
  return { name: "sample teacher", files: new Map(files) };
}

export async function sampleImages(): Promise<FileTree> {
  const names = JSON.parse(await (await blobAt("images.json")).text()) as string[];
  const files = await Promise.all(names.map(async (name) => [name, await blobAt(`images/${name}`)] as const));
  return { name: "sample images", files: new Map(files) };
}
