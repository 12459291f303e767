// The words and widths that documentation, messages and help keep to: functions that find what doesn't.
import ts from "typescript";

/** Words that PyTorch's, Hugging Face's and ONNX's documentation does not use for these things, and what stands for them. */
export const words = [
  [/\bpictures?\b/i, "image"],
  [/\bjudg(?:e[ds]?|ing)\b/i, "evaluate"],
  [/\busual\b/i, "default"],
  [/\bmade new\b/i, "must be empty or absent"],
  [/\bma[dk]e up for\b/i, "compensate, refit"],
  [/\b(?:mend(?:s|ed|ing)?)\b/i, "fix"],
  [/\b(?:told(?! apart)|passed over)\b/i, "reported, warned, skipped"],
  [/\bgo(?:es)? on with\b/i, "resume"],
  [/\bbroke off\b/i, "interrupted, stopped"],
  [/\banew\b/i, "again, recomputed"],
  [/\bkept views?\b/i, "cached teacher features"],
  [/(?<!nearest )\bneighbours\b/i, "k-NN, nearest neighbours"],
  [/\bown head\b/i, "classifier"],
  [/\bas teacher\b/i, "agreement with the teacher"],
  [/\bbare copy\b/i, "weight copy, baseline"],
  [/\bin (?:8|4|eight|four) bits\b/i, "int8, 4-bit"],
  [/\b(?:farness|farther)\b/i, "distance, fidelity"],
  [/\bcontestants?\b/i, "benchmark"],
  [/\boutside numbers?\b/i, "reference values"],
  [/\bwhole blocks\b/i, "blocks"],
];

/** Columns of prose; of a line of help; and letters of an option's description. */
export const limits = { prose: 100, help: 80, description: 70, sentence: 30 };

/** Text without what is not prose: options, code, names of files, addresses. */
const proseOf = (text) =>
  text
    .replace(/`[^`]*`/g, "``")
    .replace(/\]\([^)]*\)/g, "]")
    .replace(/https?:\S+/g, "")
    .replace(/--[\w-]+/g, "")
    .replace(/[\w*<>/-]+\.(?:csv|jsonl?|md|png|yaml|js|ts|svg)\b/g, "");

/** What is wrong with the words of a text. */
export function wordFaults(text) {
  const prose = proseOf(text);
  return words.flatMap(([pattern, use]) => {
    const [word] = pattern.exec(prose) ?? [];
    return word === undefined ? [] : [`"${word}": write ${use}`];
  });
}

/** The lines of a Markdown page with their numbers, and whether each is prose: no code block, front matter or table. */
function proseLines(markdown) {
  let fence = "";
  let matter = false;
  return markdown.split("\n").flatMap((line, i) => {
    if (line === "---" && (i === 0 || matter)) {
      matter = !matter;
      return [];
    }
    const [, mark = ""] = /^\s*(`{3,}|~{3,})/.exec(line) ?? [];
    if (mark !== "" && (fence === "" || line.trim() === fence)) {
      fence = fence === "" ? mark : "";
      return [];
    }
    return fence !== "" || matter || /^ {4}\S/.test(line) ? [] : [{ line, number: i + 1 }];
  });
}

/** Faults of a Markdown page, as `12: ...`; `width` says whether lines and sentences are measured too. */
export function pageFaults(markdown, { width = true } = {}) {
  const faults = [];
  for (const { line, number } of proseLines(markdown)) {
    faults.push(...wordFaults(line).map((fault) => `${number}: ${fault}`));
    const free = /^\s*\|/.test(line) || !/\S\s+\S/.test(line.replace(/\]\([^)]*\)/g, "]").trim());
    if (width && !free && line.length > limits.prose)
      faults.push(`${number}: ${line.length} columns, at most ${limits.prose}`);
  }
  return width ? [...faults, ...sentenceFaults(markdown)] : faults;
}

/** Sentences with too many words. */
function sentenceFaults(markdown) {
  const paragraphs = [[]];
  let last = 0;
  for (const { line, number } of proseLines(markdown)) {
    const item = /^\s*(?:[-*]|\d+\.)\s/.test(line);
    if (/^\s*$|^\s*\||^#/.test(line) || item || number !== last + 1) paragraphs.push([]);
    last = number;
    if (!/^\s*\||^#/.test(line)) paragraphs.at(-1).push({ line, number });
  }
  return paragraphs.flatMap((lines) => {
    const text = proseOf(lines.map(({ line }) => line).join(" "));
    const long = text
      .split(/[.:;?!](?:\s|$)/)
      .map((sentence) => sentence.split(/\s+/).filter((word) => /\w|``/.test(word)));
    return long
      .filter((sentence) => sentence.length > limits.sentence)
      .map(
        (sentence) =>
          `${lines[0].number}: a sentence of ${sentence.length} words: ${sentence.slice(0, 6).join(" ")} ...`,
      );
  });
}

/** Texts of a TypeScript source that people may read: literals of several words, with their lines. */
function* textsOf(source) {
  const stack = [source];
  while (stack.length > 0) {
    const node = stack.pop();
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) continue;
    if (
      ts.isStringLiteralLike(node) ||
      node.kind === ts.SyntaxKind.TemplateHead ||
      ts.isTemplateMiddleOrTemplateTail(node)
    ) {
      if (/[a-z] |\s[a-z]/i.test(node.text))
        yield [node.text, source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1];
    }
    ts.forEachChild(node, (child) => {
      stack.push(child);
    });
  }
}

/** Faults of the messages in a TypeScript source. */
export function messageFaults(name, text) {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest);
  return [...textsOf(source)].flatMap(([message, line]) => wordFaults(message).map((fault) => `${line}: ${fault}`));
}

/** Faults of a command's help: words, descriptions that are long, and lines that are wider than a terminal. */
export function helpFaults({ name, summary, options, details = "" }, lines) {
  const texts = Object.entries(options).map(([option, { description = "" }]) => [option, description]);
  return [
    ...[["summary", summary], ["details", details], ...texts].flatMap(([what, text]) =>
      wordFaults(text).map((fault) => `${name} ${what}: ${fault}`),
    ),
    ...texts
      .filter(([, text]) => text.length > limits.description)
      .map(([option, text]) => `${name} ${option}: ${text.length} letters, at most ${limits.description}`),
    ...lines
      .filter((line) => line.length > limits.help)
      .map((line) => `${name}: a line of ${line.length} columns: ${line.trim()}`),
  ];
}
