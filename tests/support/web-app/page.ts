// The page under test: the library in a worker, within reach of the test that drives the browser.
import * as library from "../../../src/platform/web/web.ts";

/** Files that the test's server has, as those of a folder that was chosen. */
async function filesAt(folder: string, wanted = ""): Promise<library.FileTree> {
  const names = (await (await fetch(`/list/${folder}`)).json()) as string[];
  const chosen = names.filter((name) => new RegExp(wanted).test(name));
  const files = await Promise.all(
    chosen.map(async (name) => [name, await (await fetch(`/files/${folder}/${name}`)).blob()] as const),
  );
  return { name: folder, files: new Map(files) };
}

function connect(options: Omit<library.WecoloraOptions, "runtime"> = {}): library.Wecolora {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  worker.postMessage(options);
  return library.connectWecolora(worker);
}

const under = { library, connect, filesAt };
export type Under = typeof under;
Object.assign(globalThis, { under });
