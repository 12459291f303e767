// The check of words and widths that `npm run lint` runs: what it finds, and what it leaves alone.
import { describe, expect, test } from "vitest";
import { helpFaults, messageFaults, pageFaults, wordFaults } from "../scripts/language.js";

describe("words", () => {
  test.each([
    "two pictures",
    "judged on 3",
    "the usual one",
    "Made new",
    "what is mended",
    "you were told",
    "own head",
  ])("%s", (text) => {
    expect(wordFaults(text)).toHaveLength(1);
  });

  test.each([
    "nearest neighbours",
    "an image",
    "`--labelled-images` in `pictures.csv`",
    "see pictures.csv",
    "told apart",
  ])("leaves %s alone", (text) => {
    expect(wordFaults(text)).toEqual([]);
  });
});

test("pages: prose is bounded, and code, tables and front matter are not", () => {
  const wide = `${"word ".repeat(21)}end`;
  expect(pageFaults(`# Title\n\n${wide}\n`)).toEqual(["3: 108 columns, at most 100"]);
  expect(pageFaults(`---\ntitle: ${wide}\n---\n\n\`\`\`sh\n${wide}\n\`\`\`\n\n| ${wide} |\n| --- |\n`)).toEqual([]);
  expect(pageFaults(`# Title\n\n${wide}\n`, { width: false })).toEqual([]);
  const sentence = Array.from({ length: 4 }, () => "word ".repeat(8).trim()).join("\n");
  expect(pageFaults(`${sentence}.\n`)).toEqual(["1: a sentence of 32 words: word word word word word word ..."]);
  expect(pageFaults(`${sentence.replace("\n", ".\n")}.\n`)).toEqual([]);
  expect(pageFaults("one\n\na picture\n")).toEqual(['3: "picture": write image']);
});

test("messages: texts of several words in a source, templates among them", () => {
  const source = [
    'import { picture } from "a picture of it";',
    'const name = "picture";',
    "// a picture",
    "throw new Error(`no ${name} in the picture`);",
    'listener.info?.("a bare copy");',
  ].join("\n");
  expect(messageFaults("x.ts", source).sort()).toEqual([
    '4: "picture": write image',
    '5: "bare copy": write weight copy, baseline',
  ]);
});

test("help: words, descriptions and printed lines", () => {
  const row = {
    ...{ name: "x", summary: "Mend it.", positional: [], required: [] },
    options: { a: { description: "b".repeat(71) }, c: { description: "d" } },
  };
  expect(helpFaults(row, ["short", "e".repeat(81)])).toEqual([
    'x summary: "Mend": write fix',
    "x a: 71 letters, at most 70",
    `x: a line of 81 columns: ${"e".repeat(81)}`,
  ]);
});
