// Training, validation and test splits by the names that people give to folders, files and rows.

export type Split = "train" | "val" | "test";

const words: Readonly<Record<Split, RegExp>> = {
  train: /^(?:train|training|trn|trainval)$/,
  val: /^(?:val|valid|validation|dev|eval|evaluation)$/,
  test: /^(?:test|testing|tst)$/,
};
/** Words that say nothing of their own: `seg_train`, `training_set`, `test_images`. */
const plainWords = new Set(["seg", "set", "data", "dataset", "image", "images", "img", "imgs", "folder", "split"]);
const plainEnding = /(?<=.)(?:set|data|images?|imgs?|split)$/;

const wordsOf = (name: string) =>
  name
    .normalize("NFC")
    .toLowerCase()
    .split(/[^\p{L}]+/u)
    .filter(Boolean);

function splitOfWord(word: string): Split | undefined {
  const bare = word.replace(plainEnding, "");
  return (["train", "val", "test"] as const).find((split) => words[split].test(word) || words[split].test(bare));
}

/** The split that a name of a folder, a file or a row speaks of, and the words beside it; undefined where it is none. */
function readName(name: string): { readonly split: Split; readonly rest: string } | undefined {
  const all = wordsOf(name);
  const splits = new Set<Split>();
  const rest: string[] = [];
  for (const word of all) {
    const split = splitOfWord(word);
    if (split) splits.add(split);
    else if (!plainWords.has(word)) rest.push(word);
  }
  const [first] = splits;
  // What is called train_val is learned from.
  if (splits.size === 1) return { split: first, rest: rest.join(" ") };
  return splits.size === 2 && !splits.has("test") ? { split: "train", rest: rest.join(" ") } : undefined;
}

/** The split that a value or a path of a file speaks of, by its last part that speaks of one. */
export function splitOf(path: string): Split | undefined {
  for (const part of path.split("/").reverse()) {
    const named = readName(part);
    if (named) return named.split;
  }
  return undefined;
}

/** Split folders beside each other. */
export interface SplitFolders {
  /** The folder that they lie in: empty, or with `/` at its end. */
  readonly above: string;
  readonly train: string;
  readonly val?: string;
  readonly test?: string;
}

/** How deep split folders may lie: `ILSVRC/Data/CLS-LOC/train`. */
const deepest = 5;

/** The split folders among paths, nearest to the top: one for training, and one or two others of like names. */
export function findSplitFolders(paths: Iterable<string>): SplitFolders | undefined {
  // Folders by the one that they lie in, with the files below each.
  const folders = new Map<string, Map<string, number>>();
  const counts = new Map<string, number>();
  let files = 0;
  for (const path of paths) {
    files++;
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  for (const [folder, count] of counts) {
    let above = "";
    for (const part of folder.split("/").slice(0, -1).slice(0, deepest)) {
      const inside = folders.get(above) ?? new Map<string, number>();
      folders.set(above, inside);
      inside.set(part, (inside.get(part) ?? 0) + count);
      above += `${part}/`;
    }
  }
  const candidates: { depth: number; split: SplitFolders; files: number }[] = [];
  for (const [above, inside] of folders) {
    const split = chosenFolders(above, [...inside.keys()]);
    if (!split) continue;
    const depth = above.split("/").length;
    candidates.push({ depth, split, files: [...inside.values()].reduce((a, b) => a + b, 0) });
  }
  const depth = Math.min(...candidates.map((f) => f.depth));
  const [first, ...others] = candidates.filter((f) => f.depth === depth);
  // Several folders that are split each are classes; so is one split folder beside more files than it holds.
  return first !== undefined && others.length === 0 && 2 * first.files >= files ? first.split : undefined;
}

function chosenFolders(above: string, names: readonly string[]): SplitFolders | undefined {
  const read = names
    .flatMap((name) => {
      const named = readName(name);
      return named ? [{ name, ...named }] : [];
    })
    .sort((a, b) => a.name.length - b.name.length || (a.name < b.name ? -1 : 1));
  for (const { name: train, split, rest } of read) {
    if (split !== "train") continue;
    const other = (wanted: Split) => read.find((r) => r.split === wanted && r.rest === rest)?.name;
    const [val, test] = [other("val"), other("test")];
    if (val !== undefined || test !== undefined) return { above, train, val, test };
  }
  return undefined;
}
