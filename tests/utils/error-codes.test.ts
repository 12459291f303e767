// Error codes: those that throw sites name are in the table, the table is what the documentation says, and they travel.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { revive } from "../../src/platform/carried-errors.ts";
import { readError, writeError } from "../../src/platform/node/system-errors.ts";
import { codeOf, errorCodes, RunError, UserError } from "../../src/utils/errors.ts";
import { root } from "../support/reference.ts";

const sources = readdirSync(join(root, "src"), { recursive: true })
  .map(String)
  .filter((file) => file.endsWith(".ts"))
  .map((file) => ({ file, text: readFileSync(join(root, "src", file), "utf8") }));
const named = sources.flatMap(({ file, text }) =>
  [...text.matchAll(/\bcode: \(?"([A-Z][A-Z_]+)"/g)].map(([, code]) => ({ file, code })),
);

test("throw sites name codes that are in the table", () => {
  expect(named.length).toBeGreaterThan(200);
  expect(named.filter(({ code }) => !Object.hasOwn(errorCodes, code))).toEqual([]);
});

test("every code of the table is thrown somewhere", () => {
  // The table itself is no use of a code.
  const text = sources.map((source) => source.text.replace(/errorCodes = \{[\s\S]*?\} as const/, "")).join("\n");
  const defaults = ["INVALID_INPUT", "RUN_FAILED", "INTERNAL"];
  expect(Object.keys(errorCodes).filter((code) => !text.includes(`"${code}"`) && !defaults.includes(code))).toEqual([]);
});

test("the documentation lists the table", () => {
  const page = readFileSync(join(root, "docs/reference/error-codes.md"), "utf8");
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| (.+) \|$/gm)].map(([, code, meaning]) => [code, meaning]);
  expect(rows).toEqual(Object.entries(errorCodes));
});

test("an error keeps its code and kind between threads", () => {
  const user = revive({ name: "UserError", message: "m", code: "NOT_AN_IMAGE" });
  expect(user).toBeInstanceOf(UserError);
  expect(codeOf(user)).toBe("NOT_AN_IMAGE");
  const run = revive({ name: "RunError", message: "m", code: "OUT_OF_MEMORY" });
  expect(run).toBeInstanceOf(RunError);
  expect(codeOf(run)).toBe("OUT_OF_MEMORY");
  expect(codeOf(revive({ name: "TypeError", message: "m", code: "INTERNAL" }))).toBe("INTERNAL");
});

const system = (code: string) => Object.assign(new Error(`${code}: something, open '/x'`), { code });

test.each([
  ["ENOENT", UserError, "FILE_NOT_FOUND", "does not exist"],
  ["ENOTDIR", UserError, "FILE_NOT_READABLE", "a part of the path is a file"],
  ["EACCES", UserError, "FILE_NOT_READABLE", "permission"],
  ["EISDIR", UserError, "FILE_NOT_READABLE", "it is a folder"],
  ["ELOOP", UserError, "FILE_NOT_READABLE", "links"],
  ["ENAMETOOLONG", UserError, "FILE_NOT_READABLE", "too long"],
  ["EMFILE", RunError, "FILE_NOT_READABLE", "ulimit"],
  ["EIO", RunError, "FILE_NOT_READABLE", "disk"],
] as const)("reading: %s", (code, kind, ownCode, words) => {
  const error = readError("/data/x", system(code));
  expect(error).toBeInstanceOf(kind);
  expect(error.code).toBe(ownCode);
  expect(error.message).toMatch(/^\/data\/x can't be read: .*\.$/);
  expect(error.message).toContain(words);
  expect(error.message).not.toContain(code);
});

test.each([
  ["ENOSPC", RunError, "the disk is full"],
  ["EDQUOT", RunError, "quota"],
  ["EROFS", UserError, "read-only"],
  ["EACCES", UserError, "permission"],
  ["ENOTDIR", UserError, "a part of the path is a file"],
  ["ENAMETOOLONG", UserError, "too long"],
] as const)("writing: %s", (code, kind, words) => {
  const error = writeError("out/x", system(code));
  expect(error).toBeInstanceOf(kind);
  expect(error.code).toBe("OUTPUT_NOT_WRITABLE");
  expect(error.message).toMatch(/^out\/x can't be written: .*\.$/);
  expect(error.message).toContain(words);
});

test("what is a message already stays, what is unknown keeps its words", () => {
  const ownCode = new UserError("Own words.", { code: "NO_IMAGES" });
  expect(readError("/x", ownCode)).toBe(ownCode);
  expect(readError("/x", new Error("odd")).message).toBe("/x can't be read: odd.");
});

test("messages end as sentences, but for commands that are copied", () => {
  expect(new UserError("There is no x").message).toBe("There is no x.");
  expect(new RunError("Is it cut off?").message).toBe("Is it cut off?");
  expect(new UserError("Resume with: wecolora distill --resume run").message).toMatch(/--resume run$/);
});
