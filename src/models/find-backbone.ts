// Which of a file's names belong to the model: wrappers taken out of names, the layout that has them, and the one network
// to read where a file holds several.
import type { StoredTensor, StoredTensors, UnreadableTensor } from "../files/storage.ts";
import { UserError } from "../utils/errors.ts";
import { listSome } from "../utils/quote.ts";
import type { Json, Layout } from "./layouts/registry.ts";
import { findLayout, layouts } from "./layouts/registry.ts";
import type { NamedTensors } from "./weights.ts";
import { alias, evidenceOf, partName } from "./weights.ts";

/** Parts of names that come from wrappers: torch.compile, activation checkpointing, FSDP, data parallelism, Fabric. */
const wrapperParts =
  /(?<=^|\.)(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|_fpw_module|_forward_module|module)\./g;

/** No weight has a longer name, and no file so many vision towers: both bound the time that a search takes. */
const longestName = 500;
const mostPrefixes = 16;

interface BareTensors {
  readonly tensors: StoredTensors;
  /** The file's names by the bare ones. */
  readonly fileNames: ReadonlyMap<string, string>;
}

/** A file's tensors without wrappers in their names. Where that makes two names one, the second stays as it is. */
function bareTensors(stored: StoredTensors): BareTensors {
  const tensors = new Map<string, StoredTensor | UnreadableTensor>();
  const fileNames = new Map<string, string>();
  for (const [name, tensor] of stored) {
    const bare = name.replace(wrapperParts, "");
    const tensorName = tensors.has(bare) ? name : bare;
    tensors.set(tensorName, tensor);
    fileNames.set(tensorName, name);
  }
  return { tensors, fileNames };
}

/** Words in the names of networks whose weights are averages of others', and of those that are averaged. */
const averages = /(?:^|[._])(?:teacher|target|ema|averaged|swa)(?=[._]|$)/i;
const trained = /(?:^|[._])(?:student|online|momentum)(?=[._]|$)/i;

/** An average of the weights is better than their last step; MoCo's authors read the network that was trained. */
function rank(prefix: string): number {
  return averages.test(prefix) ? 0 : trained.test(prefix) ? 2 : 1;
}

/** The prefixes under which a file has the layout's patch embedding and first block, the one to read first. */
function findPrefixes(layout: Layout, names: readonly string[]): string[] {
  const probe = partName(layout, "patch_embed.proj.weight");
  const projection = partName(layout, "attn.proj.weight");
  const short = names.filter((name) => name.length <= longestName);
  const prefixes = short
    .filter((name) => name === probe || name.endsWith(`.${probe}`))
    .map((name) => name.slice(0, name.length - probe.length))
    .sort((a, b) => rank(a) - rank(b) || a.length - b.length)
    .slice(0, mostPrefixes);
  // Aliases change names, so the first block's is looked for behind each prefix.
  const first = layout.blockPrefix(0) + projection;
  return prefixes.filter((prefix) =>
    short.some((name) => name.startsWith(prefix) && alias(layout, name.slice(prefix.length)) === first),
  );
}

/** Names by the layout's own spelling, behind the prefix; names outside of the prefix stay as they are. */
function nameTensors(layout: Layout, bare: BareTensors, [prefix = "", ...others]: readonly string[]): NamedTensors {
  const tensors = new Map<string, StoredTensor | UnreadableTensor>();
  const fileNames = new Map<string, string>();
  for (const [name, tensor] of bare.tensors) {
    const tensorName = name.startsWith(prefix) ? prefix + alias(layout, name.slice(prefix.length)) : name;
    tensors.set(tensorName, tensor);
    fileNames.set(tensorName, bare.fileNames.get(name) ?? name);
  }
  // A longer prefix inside of the one that is read is a part of it.
  return { layout, prefix, others: others.filter((other) => !other.startsWith(prefix)), tensors, fileNames };
}

/** The layout of a file's weights and where they stand: by the configuration, else the first layout whose names are there. */
export function findBackbone(
  stored: StoredTensors,
  file: string,
  config: { readonly json: Json; readonly file: string } | undefined,
  warn: (message: string) => void,
): NamedTensors {
  const bare = bareTensors(stored);
  const names = [...bare.tensors.keys()];
  const backbone = config
    ? nameByConfig(findLayout(config.json, config.file), bare, names)
    : (nameByShapes(bare, names) ?? unknownNames(file, stored));
  if (backbone.others.length > 0) {
    const why = rank(backbone.prefix) === 0 ? " (a teacher or running average)" : "";
    warn(
      `${file} holds several vision transformers: ${shown(backbone.prefix)} is read${why}; not read: ${listSome(backbone.others.map(shown))}`,
    );
  }
  return backbone;
}

const shown = (prefix: string) => (prefix === "" ? "the outermost" : prefix.replace(/\.$/, ""));

function nameByConfig(layout: Layout, bare: BareTensors, names: readonly string[]): NamedTensors {
  return nameTensors(layout, bare, findPrefixes(layout, names));
}

function nameByShapes(bare: BareTensors, names: readonly string[]): NamedTensors | undefined {
  for (const layout of layouts) {
    const prefixes = findPrefixes(layout, names);
    if (prefixes.length === 0) continue;
    const named = nameTensors(layout, bare, prefixes);
    const { shape } = evidenceOf(named);
    if (layout.recognises((ours) => shape(ours) !== undefined)) return named;
  }
  return undefined;
}

function unknownNames(file: string, stored: StoredTensors): never {
  throw new UserError(
    `${file} holds no vision transformer that is known here, by the names of its weights (${listSome([...stored.keys()], 4)})`,
    { code: "NOT_A_VIT" },
  );
}
