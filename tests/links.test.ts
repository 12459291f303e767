// Links between the pages of the documentation lead to files and headings that there are; the site lists every page.
import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, test } from "vitest";
import { anchorsOf, documentationPages, linksOf } from "./support/pages.ts";
import { root } from "./support/reference.ts";

const pages = documentationPages();
const isOutside = (target: string) => /^[a-z]+:/.test(target);

describe.each(pages)("$name", ({ name, text }) => {
  const inside = linksOf(text).filter((target) => !isOutside(target));

  test("links lead to files", () => {
    const paths = inside.map((target) => posix.join(posix.dirname(name), target.split("#")[0]));
    expect(paths.filter((path) => path !== posix.dirname(name) && !existsSync(join(root, path)))).toEqual([]);
  });

  test("anchors lead to headings", () => {
    const missing = inside.filter((target) => {
      const [path, anchor] = target.split("#");
      if (anchor === undefined) return false;
      const file = path === "" ? name : posix.join(posix.dirname(name), path);
      return !anchorsOf(readFileSync(join(root, file), "utf8")).includes(anchor);
    });
    expect(missing).toEqual([]);
  });

  test("pages of the site link to no file outside of it", () => {
    if (!name.startsWith("docs/")) return;
    const paths = inside.map((target) => posix.join(posix.dirname(name), target));
    expect(paths.filter((path) => !path.startsWith("docs/"))).toEqual([]);
  });
});

test("the site's sidebar lists every page that is no command's, and none that there isn't", async () => {
  const config = ((await import(join(root, "docs/.vitepress/config.js"))) as { default: SiteConfig }).default;
  const links = (entries: readonly SidebarEntry[]): string[] =>
    entries.flatMap(({ link, items = [] }) => [...(link === undefined ? [] : [link]), ...links(items)]);
  const listed = links(config.themeConfig.sidebar).filter((link) => !link.startsWith("/reference/api"));
  const names = pages.map(({ name }) => name).filter((name) => name.startsWith("docs/") && name !== "docs/index.md");
  expect(listed.map((link) => `docs${link}.md`).sort()).toEqual(names.sort());
});

interface SidebarEntry {
  readonly link?: string;
  readonly items?: readonly SidebarEntry[];
}
interface SiteConfig {
  readonly themeConfig: { readonly sidebar: readonly SidebarEntry[] };
}
