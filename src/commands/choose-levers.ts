// `distill --budget 12MB`, `--budget 10ms` and `--agreement 0.95`: which shape, image size, token merging and export a run makes, by
// the search over all of them together (`students/search/lever-search.ts`).
import type { ImageSource } from "../data/loader.ts";
import type { Item } from "../data/sampling.ts";
import { allExports } from "../exports/lookup.ts";
import { exportText } from "./export-text.ts";
import { LeverSpace } from "../exports/lever-space.ts";
import type { ComparedCrops, TriedExport } from "../exports/lever-space.ts";
import type { ExportFormat } from "../exports/export-format.ts";
import type { Model } from "../models/model.ts";
import { requireFiniteWeights } from "../models/finite-outputs.ts";
import type { RunContext } from "../context/run-context.ts";
import { costText, parseBudgets } from "../students/search/budget.ts";
import type { Limits, MeasuredCandidate, SearchResult, SearchState } from "../students/search/lever-search.ts";
import { LeverSearch } from "../students/search/lever-search.ts";
import { ladderOf } from "../students/search/ladder.ts";
import type { Ladder } from "../students/search/ladder.ts";
import type { StudentRunOptions } from "../students/run-options.ts";
import { candidateCrops } from "../students/run-start.ts";
import { OptionError, UserError } from "../utils/errors.ts";
import type { FloatTensor } from "../utils/tensor.ts";
import { z } from "zod";
import type { Deployment, TriedCandidate } from "../workspace/run-schemas.ts";

/** What a search needs of options: `export` names the exports to choose from. */
type SearchOptions = Pick<StudentRunOptions, "levers" | "seed" | "shape"> & {
  readonly budget?: string;
  readonly export?: readonly string[];
};

/** What a search needs of a run. */
interface Question<Options> {
  readonly options: Options;
  readonly teacher: Model;
  readonly source: ImageSource;
  readonly items: readonly Item[];
  readonly context: RunContext;
}

/** Searches, and says what was found. Throws a UserError where nothing fits. */
export async function chooseLevers(question: Question<StudentRunOptions>): Promise<Deployment> {
  const { options, context } = question;
  refuseShapes(options);
  const { search, ladder, named } = await openSearch(question, isTimed(options));
  const { best, measured } = await answer(search, options);
  const deployment: Deployment = { ...named(best), choice: ladder.choice(best.shape), tried: measured.map(named) };
  context.listener.info?.(deploymentText(deployment));
  return deployment;
}

/** Throws an OptionError where the options say the shape already. */
function refuseShapes({ keptBlocks, reductionFactor, mlpWidth, keptHeads, budget }: StudentRunOptions): void {
  const given = Object.entries({ keptBlocks, reductionFactor, mlpWidth, keptHeads }).filter(([, v]) => v !== undefined);
  if (given.length === 0) return;
  const [[other]] = given;
  throw new OptionError([
    (name) => `Give ${name(budget === undefined ? "agreement" : "budget")} or ${name(other)}, not both.`,
  ]);
}

/** Times are measured where they are limited, or where the cheapest model is wanted. */
const isTimed = ({ budget, agreement }: StudentRunOptions): boolean =>
  agreement !== undefined || (budget !== undefined && parseBudgets(budget).some(({ kind }) => kind === "milliseconds"));

export const limitsOf = (budget: string | undefined): Limits =>
  Object.fromEntries((budget === undefined ? [] : parseBudgets(budget)).map(({ kind, most }) => [kind, most]));

function answer(search: LeverSearch, { budget, agreement }: StudentRunOptions): Promise<SearchResult> {
  const limits = limitsOf(budget);
  return agreement === undefined ? search.within(limits) : search.agreeing(agreement, limits);
}

/** The export that predictions are built on: it computes as the model itself. */
const plainExport = "onnx";

/**
 * The exports that a run chooses from, each with the options that it is tried with, the largest first: those that it is asked
 * for by name, where a search knows any of them, else all. Without the lever of bits the plain one alone is offered.
 */
function searchedExports({ levers, export: wanted = [] }: SearchOptions): TriedExport[] {
  const searched = allExports().filter(({ search }) => search);
  const named = searched.filter(({ name }) => wanted.includes(name));
  const isOffered = (name: string) =>
    !levers.includes("bits")
      ? name === plainExport
      : named.length === 0 || named.some((format) => format.name === name);
  return searched
    .filter(({ name }) => name === plainExport || isOffered(name))
    .flatMap((format) => triedWith(format, named.includes(format)).map((options) => ({ format, options })))
    .map(({ format, options }) => ({ format, options, offered: isOffered(format.name) }))
    .sort((a, b) => b.format.bytesPerWeight("float32", b.options) - a.format.bytesPerWeight("float32", a.options));
}

/** An export that is named is tried, with its defaults if with nothing else. */
function triedWith({ options, search }: ExportFormat, isNamed: boolean) {
  const tried = search?.tried ?? [];
  return (tried.length === 0 && isNamed ? [{}] : tried).map((given) => z.object(options).parse(given));
}

/** A search over what a teacher can become, and how its candidates are called. */
export interface OpenedSearch {
  readonly search: LeverSearch;
  readonly ladder: Ladder;
  named(candidate: MeasuredCandidate): TriedCandidate;
}

/** Opens a search, or one that another process began: its crops for comparing are not those that students are fitted on. */
export async function openSearch(
  { options, teacher, source, items, context }: Question<SearchOptions>,
  timed: boolean,
  state?: SearchState,
): Promise<OpenedSearch> {
  requireFiniteWeights(teacher);
  const { fitted, compared } = await candidateCrops(options, teacher, source, items);
  const { milliseconds, bytes } = limitsOf(options.budget);
  const unit = milliseconds !== undefined && bytes === undefined ? "time" : "weights";
  const ladder = await ladderOf(teacher, { ...options, unit }, fitted, context);
  const formats = searchedExports(options);
  const crops = await comparedCrops(teacher, compared);
  // Fewer tokens make no file smaller.
  const lever = (name: (typeof options.levers)[number]) => timed && options.levers.includes(name);
  const tokens = { merges: lever("tokens"), resizes: lever("image-size") };
  const space = new LeverSpace({ teacher, ladder, formats, fitted, tokens, crops, context });
  const search = await LeverSearch.open(space, timed, state);
  return { search, ladder, named: (one) => described(one, space, ladder, formats) };
}

async function comparedCrops(teacher: Model, crops: readonly FloatTensor[]): Promise<ComparedCrops[]> {
  const compared: ComparedCrops[] = [];
  for (const pixels of crops) {
    const made = await teacher.outputs(pixels, teacher.config.head ? ["pooled", "logits"] : ["pooled"]);
    compared.push({ pixels, ...made });
  }
  if (compared.length === 0) throw new UserError("A search needs an image at least.", { code: "NO_IMAGES" });
  return compared;
}

/** A candidate by names, for the run's records. */
function described(
  { shape, tokens, format, ...figures }: MeasuredCandidate,
  space: LeverSpace,
  ladder: Ladder,
  formats: readonly TriedExport[],
): TriedCandidate {
  const blank = ladder.blank(shape);
  const { imageSize, merging } = space.withTokens(blank, tokens).config;
  const { milliseconds, ...rest } = figures;
  const { format: written, options } = formats[format];
  return {
    export: written.name,
    ...(Object.keys(options).length > 0 ? { exportOptions: options } : {}),
    ...(imageSize === blank.config.imageSize ? {} : { imageSize }),
    ...(merging ? { merging } : {}),
    blockShare: ladder.weightShares[shape],
    ...rest,
    ...(Number.isNaN(milliseconds) ? {} : { milliseconds }),
  };
}

/** What was found, in a sentence. */
function deploymentText(deployment: Deployment): string {
  const { imageSize, merging, blockShare, bytes, milliseconds, agreement } = deployment;
  const parts = [
    `export ${exportText(deployment)}`,
    `${(100 * blockShare).toFixed(0)} % of the block weights`,
    ...(imageSize === undefined ? [] : [`images of ${imageSize}x${imageSize}`]),
    merging ? `tokens merged in each block: ${merging.join(", ")}` : "no tokens merged",
  ];
  const time = milliseconds === undefined ? "" : `, ${milliseconds.toFixed(1)} ms an image`;
  return `chosen: ${parts.join("; ")} (${costText.bytes(bytes)}${time}, agreement ${(100 * agreement).toFixed(1)} %)`;
}
