// Folders with those above them.
import { existsSync } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeFolder } from "../../../src/platform/node/make-folder.ts";

test("folders are made from the first that is missing; one that is there is left as it is", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wecolora-folders-"));
  try {
    expect(await makeFolder(join(folder, "a", "b", "c"))).toBe(join(folder, "a"));
    expect((await stat(join(folder, "a", "b", "c"))).isDirectory()).toBe(true);
    expect(await makeFolder(join(folder, "a", "b"))).toBeUndefined();
    const made = await Promise.all(Array.from({ length: 8 }, () => makeFolder(join(folder, "x", "y"))));
    expect(made.filter((first) => first !== undefined).length).toBeGreaterThan(0);
    await writeFile(join(folder, "file"), "");
    await expect(makeFolder(join(folder, "file"))).rejects.toMatchObject({ code: "EEXIST" });
    await expect(makeFolder(join(folder, "file", "below"))).rejects.toMatchObject({ code: "ENOTDIR" });
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.skipIf(!existsSync("/proc/self"))("a file system without folders refuses at once", async () => {
  await expect(makeFolder("/proc/wecolora/below")).rejects.toMatchObject({ code: "ENOENT" });
});
