// `wecolora/web` and `wecolora/web/client` as they are published: nothing of Node, and no runtime, comes with them.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { root } from "../../support/reference.ts";

/** All modules that a file of dist imports, at once or later, that lie outside of dist. */
function importsOf(entry: string): Set<string> {
  const outside = new Set<string>();
  const seen = new Set<string>();
  const follow = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(join(root, "dist", file), "utf8");
    for (const [, name] of text.matchAll(/^(?:import|export)\b[^;]*?"([^"\n]+)";/gm)) visit(name);
    for (const [, name] of text.matchAll(/\bimport\("([^"\n]+)"\)/g)) visit(name);
  };
  const visit = (name: string) => {
    if (name.startsWith("./")) follow(name.slice(2));
    else outside.add(name);
  };
  follow(entry);
  return outside;
}

describe.skipIf(!existsSync(join(root, "dist/web.js")))("the built package", () => {
  test.each(["web.js", "web-client.js", "index.js"])("%s needs neither Node nor a runtime", (entry) => {
    const names = [...importsOf(entry)];
    expect(names.filter((name) => /^node:|onnxruntime|^sharp/.test(name))).toEqual([]);
  });

  test("the client is without the library", () => {
    expect([...importsOf("web-client.js")].sort()).toEqual(["fflate"]);
  });
});
