// Files from inputs and from what is dropped: a folder's with their paths, single files, archives.
import type { FileTree } from "wecolora/web/client";
import { h } from "./view.ts";

type Chosen = FileTree | File;

async function entriesOf(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  const all: FileSystemEntry[] = [];
  // A reader gives at most a hundred at a time.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

async function gather(entry: FileSystemEntry, path: string, files: Map<string, Blob>): Promise<void> {
  if (entry.isDirectory) {
    const entries = await entriesOf((entry as FileSystemDirectoryEntry).createReader());
    for (const one of entries) await gather(one, path === "" ? one.name : `${path}/${one.name}`, files);
    return;
  }
  const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
  files.set(path === "" ? entry.name : path, file);
}

/** What was dropped; undefined where it holds no files. */
export async function dropped(transfer: DataTransfer): Promise<Chosen | undefined> {
  // Entries are gone once this turn ends.
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const [first] = entries;
  if (!first) return undefined;
  const files = new Map<string, Blob>();
  if (entries.length === 1) {
    await gather(first, "", files);
    const [only] = files.values();
    if (first.isFile) return only as File;
    return { name: first.name, files };
  }
  for (const entry of entries) await gather(entry, entry.name, files);
  return { files };
}

function chosen(input: HTMLInputElement): Chosen | undefined {
  const list = [...(input.files ?? [])];
  const [first] = list;
  if (!first) return undefined;
  if (!input.webkitdirectory) {
    if (list.length === 1) return first;
    return { files: new Map(list.map((file) => [file.name, file])) };
  }
  const top = first.webkitRelativePath.split("/")[0];
  return { name: top, files: new Map(list.map((file) => [file.webkitRelativePath.slice(top.length + 1), file])) };
}

export interface FilePickerOptions {
  /** What the picker is for, as in "Choose a folder of images". */
  readonly what: string;
  readonly folder?: boolean;
  readonly accept?: string;
  readonly take: (files: Chosen) => void;
  /** Further ways, such as the sample. */
  readonly others?: readonly HTMLElement[];
}

/** A place to drop files on, with buttons that do the same. */
export function filePicker({ what, folder = true, accept, take, others = [] }: FilePickerOptions): HTMLElement {
  const button = (text: string, isFolder: boolean) => {
    const input = h("input", {
      type: "file",
      className: "hidden",
      multiple: !isFolder,
      tabIndex: -1,
      "aria-hidden": "true",
      ...(isFolder ? { webkitdirectory: true } : accept === undefined ? {} : { accept }),
      onchange() {
        const files = chosen(input);
        // The same choice once more is a choice too.
        input.value = "";
        if (files) take(files);
      },
    });
    return [h("button", { type: "button", onclick: () => input.click() }, text), input];
  };
  const zone = h(
    "div",
    { className: "drop" },
    h("p", {}, `Drop ${what} here, or:`),
    h(
      "div",
      { className: "buttons" },
      folder && button("Choose a folder", true),
      button(folder ? "Choose files or a zip" : "Choose a file", false),
      ...others,
    ),
  );
  const over = (isOver: boolean) => (event: DragEvent) => {
    event.preventDefault();
    zone.classList.toggle("over", isOver);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer) void dropped(event.dataTransfer).then((files) => files && take(files));
  });
  return zone;
}
