// Names from outside in each medium: terminals, Markdown, YAML, CSV, pages, file names.
import { parse as parseCsv } from "csv-parse/sync";
import fc from "fast-check";
import { parse as parseYaml } from "yaml";
import { describe, expect, test } from "vitest";
import { createProgress } from "../../src/cli/progress-line.ts";
import { modelCard } from "../../src/exports/model-card.ts";
import { html } from "../../src/report/html.ts";
import { csvLines, markdownTable, textTable } from "../../src/report/table.ts";
import { smallVit } from "../support/small-vit.ts";
import {
  csvCell,
  FileNames,
  markdown,
  markdownCode,
  markdownFence,
  safeFileName,
  visibleJson,
  visibleLines,
  visibleText,
} from "../../src/utils/escape.ts";

/** All that must not reach a terminal: C0, DEL, C1, marks of direction, separators of lines. */
const forbidden = [
  ...Array.from({ length: 0x20 }, (_, i) => i),
  ...Array.from({ length: 0x21 }, (_, i) => 0x7f + i),
  ...[0x061c, 0x200e, 0x200f, 0x2028, 0x2029],
  ...[0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0xfeff],
].map((code) => String.fromCharCode(code));
const hostile = [
  "\x1b]0;owned\x07\x1b[31mred\x1b[0m",
  "\x9b31mred",
  "a\nwecolora: all is well\n",
  "a\r\x1b[2K\rb",
  "\u202egpj.exe",
  "\u2066x\u2069",
  "line\u2028and\u2029paragraph",
  "\ud800",
];

describe("on a terminal", () => {
  test.each(forbidden)("%j stands as its code", (character) => {
    expect(visibleText(`a${character}b`)).toMatch(/^a\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt])b$/);
  });

  test("what people write stays as it is", () => {
    for (const name of ["日本 – кот.jpg", "naïve (1) [2].png", "\u05e9\u05dc\u05d5\u05dd", "👩‍👩‍👧 🏳️‍🌈", "C:\\x\\y", ""])
      expect(visibleText(name)).toBe(name);
    expect(visibleLines("a\n  b\x1b\n")).toBe("a\n  b\\x1b\n");
  });

  test("JSON means the same, and holds nothing that can't be seen", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...hostile, ...forbidden), (value, text) => {
        const written = visibleJson({ value, [text]: text });
        expect(JSON.parse(written)).toEqual(JSON.parse(JSON.stringify({ value, [text]: text })));
        expect(written).toBe(visibleText(written));
      }),
    );
  });

  test("progress, warnings and stages are lines that no name can end or colour", () => {
    for (const isTTY of [false, true]) {
      let written = "";
      const stream = { isTTY, columns: 80, rows: 24, write: (text: string) => ((written += text), true) };
      const progress = createProgress(stream as unknown as NodeJS.WriteStream);
      for (const name of hostile) {
        progress.stage?.(`reading ${name}`, 2);
        progress.progress?.(1, name);
        progress.info?.(name);
        progress.warn?.(`skipped ${name}`, [name, name]);
      }
      progress.end();
      // log-update itself moves the cursor on a terminal.
      const plain = written.replace(/\p{Cc}\[(?:\d*[A-HJKG]|\?25[lh]|\?2026[lh])/gu, "");
      for (const line of plain.split("\n")) expect(visibleText(line)).toBe(line);
      expect(plain).toContain("\\x1b]0;owned\\x07");
      expect(plain).not.toMatch(/^wecolora: all is well/m);
    }
  });

  test("a table keeps one line a row", () => {
    const rows = hostile.map((name) => [name, "1"]);
    const lines = textTable([{ title: "a\n\x1bb", align: "left" }, { title: "n" }], rows).split("\n");
    expect(lines).toHaveLength(hostile.length + 2);
    for (const line of lines) expect(visibleText(line)).toBe(line);
  });
});

const markup = [
  "<img src=x onerror=alert(1)>",
  "`x` | y ]( javascript:alert(5) )",
  "![a](http://evil/x.png)",
  "[a](javascript:alert(1))",
  "**bold** _it_ ~~gone~~ $x$",
  "https://evil.example www.evil.example",
  "&lt;b&gt; &#60;",
  "\\",
  "a\n\n# owned\n\n---\n",
];

describe("in Markdown", () => {
  test.each(markup)("%j is text", (name) => {
    const { text } = markdown`- ${name} end`;
    expect(text.split("\n")).toHaveLength(1);
    // What is not escaped by a backslash can't begin anything.
    const bare = text.replace(/\\./g, "");
    expect(bare).not.toMatch(/[<>`*[\]|~$]|:\/\/|www\./);
    expect(bare).not.toMatch(/&(?!lt;|gt;|amp;)#?\w+;/);
  });

  test("words and numbers stay as they are", () => {
    for (const plain of ["-0.353", "66.7 (30–90)", "top_1.jpg", "a & b", "student", "12 heads, 768 channels"])
      expect(markdownTable([{ title: "x" }], [[plain]])).toContain(`| ${plain} |`);
  });

  test("a value at the beginning of a line begins no heading, list or rule", () => {
    for (const [given, written] of [
      ["# x", "\\# x"],
      ["- x", "\\- x"],
      ["---", "\\---"],
      ["1. x", "1\\. x"],
    ])
      expect(markdown`${given}`.text).toBe(written);
  });

  test("code ends where it should", () => {
    expect(markdownCode("a`b``c").text).toBe("```a`b``c```");
    expect(markdownCode("`").text).toBe("`` ` ``");
    expect(markdownFence("x\n```\n# y\n````", "sh").text).toBe("`````sh\nx\n```\n# y\n````\n`````");
  });

  test("a cell is one cell", () => {
    const table = markdownTable([{ title: "a|b" }, { title: "c" }], [["x | y", markdownCode("p|q")]]);
    for (const line of table.split("\n")) expect(line.replace(/\\\|/g, "").match(/\|/g)).toHaveLength(3);
  });
});

test("a model card's front matter holds what was meant, whatever the teacher is called", () => {
  for (const teacher of [...hostile, ...markup, 'x"\n---\nlicense: mit\n# owned']) {
    const card = modelCard({
      name: teacher,
      config: smallVit,
      origin: {
        teacher,
        fromHub: true,
        method: "refit",
        images: 9,
        data: teacher,
        keptBlocks: [0],
        command: `wecolora distill --x '${teacher}\n\`\`\`\n<b>'`,
        results: [],
      },
      folder: "student",
      files: [{ name: "model.safetensors", bytes: 1, readBy: "all" }],
      license: { id: "other", name: teacher, link: teacher },
      notes: [teacher],
    });
    const [, matter, rest] = /^---\n([\s\S]*?)\n---\n([\s\S]*)$/.exec(card) ?? [];
    const parsed = parseYaml(matter) as Record<string, unknown>;
    expect(Object.keys(parsed)).toEqual([
      "library_name",
      "pipeline_tag",
      "license",
      "license_name",
      "license_link",
      "base_model",
      "tags",
    ]);
    // A half of a surrogate pair is no text that YAML can hold.
    if (teacher !== "\ud800")
      expect([parsed.base_model, parsed.license_name, parsed.license_link]).toEqual([teacher, teacher, teacher]);
    // Without blocks and spans of code.
    const prose = rest.replace(/(`{3,})\w+\n[\s\S]*?\n\1\n/g, "").replace(/(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)/g, "");
    expect(
      prose
        .split("\n")
        .filter((line) => /^#/.test(line))
        .slice(1),
    ).toEqual(["## Use", "## Reproduce"]);
    expect(prose).not.toMatch(/^license|<img/m);
  }
});

describe("in CSV", () => {
  test("formulas get an apostrophe, numbers and words stay", () => {
    for (const text of ["=1+1", "+cmd|' /C calc'!A0", "-1+2", "@SUM(A1)", "\tx", "\rx", "=", "-a", "＝1"])
      expect(csvCell(text).replace(/^"/, "")).toMatch(/^'/);
    for (const text of ["-1", "+2", "-0.5", "1e-7", "-1.5E+3", "-", "", "a=b", "p-1.jpg"])
      expect(csvCell(text)).toBe(text);
  });

  test("any text comes back as it was, or with the apostrophe", () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 2, maxLength: 2 }), (row) => {
        const written = csvLines([["a", "b"], row]);
        const [, read] = parseCsv(written, { relax_column_count: true }) as string[][];
        row.forEach((cell, i) => expect(["", "'"].map((sign) => sign + cell)).toContain(read[i]));
      }),
    );
  });
});

test("pages show what can't be seen", () => {
  expect(html`<p title="${"\u202e\x1b"}">${"a\x00\nb<"}</p>`.text).toBe('<p title="\\u202e\\x1b">a\\x00\nb&lt;</p>');
});

describe("file names", () => {
  test.each([
    ["../../etc/passwd", "_.._etc_passwd"],
    ["..\\..\\x", "_.._x"],
    ["CON", "_CON"],
    ["nul.txt", "_nul.txt"],
    ["a:b*c?", "a_b_c_"],
    [".hidden", "hidden"],
    ["x. . ", "x"],
    ["..", "_"],
    ["", "_"],
    ["\x1b[2J", "_x1b[2J"],
  ])("%j is written as %j", (name, written) => {
    expect(safeFileName(name)).toBe(written);
  });

  test("any text makes a name that all systems take, inside its folder", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 400 }), (text) => {
        const name = safeFileName(text, ".png");
        expect(name).not.toMatch(/[<>:"/\\|?*\p{Cc}]|^\.|[. ]$/u);
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(124);
        expect(name).toBe(name.normalize("NFC"));
      }),
    );
  });

  test("two texts never share a file, also where case does not count", () => {
    const names = new FileNames();
    expect(["a/b", "a:b", "A_b", "c"].map((text) => names.add(text, ".png"))).toEqual([
      "a_b.png",
      "a_b-2.png",
      "A_b-3.png",
      "c.png",
    ]);
  });
});
