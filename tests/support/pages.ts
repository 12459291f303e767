// Pages of documentation: README.md and docs/, their code blocks, headings and links.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./reference.ts";

export interface CodeBlock {
  readonly language: string;
  readonly code: string;
  /** The line that it begins on, from 1. */
  readonly line: number;
}

export interface Page {
  /** Path below the root. */
  readonly name: string;
  readonly text: string;
}

/** README.md and all pages of docs/, without what TypeDoc and VitePress write. */
export function documentationPages(): Page[] {
  const docs = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .map((name) => `docs/${name.replaceAll("\\", "/")}`)
    .filter((name) => name.endsWith(".md") && !/^docs\/(?:reference\/api|\.vitepress)\//.test(name));
  return ["README.md", ...docs.sort()].map((name) => ({ name, text: readFileSync(join(root, name), "utf8") }));
}

/** Fenced code, in its order. Indented fences are those of lists. */
export function codeBlocks(text: string): CodeBlock[] {
  return [...text.matchAll(/^( *)```([\w-]*)\n([\s\S]*?)^\1```/gm)].map(
    ({ index, 1: indent, 2: language, 3: code }) => ({
      language,
      code: code.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
      line: text.slice(0, index).split("\n").length,
    }),
  );
}

const withoutCode = (text: string) => text.replace(/^( *)```[\s\S]*?^\1```/gm, "").replace(/`[^`\n]*`/g, "``");

/** Targets of links and images, in Markdown. */
export const linksOf = (text: string): string[] =>
  [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target);

/** Anchors of a page's headings, as GitHub and VitePress make them. */
export const anchorsOf = (text: string): string[] =>
  [...text.matchAll(/^#{1,6} (.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s-]/gu, "")
      .trim()
      .replaceAll(" ", "-"),
  );
