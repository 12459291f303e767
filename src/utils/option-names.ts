/** An option's name as a command line says it: `keptBlocks` is `kept-blocks`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Options by their earlier names, which command lines, files, scripts and run folders may still hold, and today's. */
export const renamedOptions: Readonly<Record<string, string>> = {
  judge: "evaluate",
  judgeTeacher: "evaluateTeacher",
  judgeBank: "labelledImages",
  judgeQueries: "evaluationImages",
  evaluatePictures: "heldOutImages",
  neighbours: "knnK",
  pictures: "maxImages",
  pictureColumn: "imageColumn",
  keptViews: "cachedCrops",
  keptViewsOn: "cropCache",
  analyticViews: "analyticCrops",
  yardstick: "baseline",
};

/** The names that an option had before. */
export const earlierNamesOf = (name: string): string[] =>
  Object.entries(renamedOptions).flatMap(([before, now]) => (now === name ? [before] : []));

/**
 * Options under today's names. An earlier name counts where `known` has no option of that name, but has the one that stands
 * for it. `twice` makes what is thrown where both are given.
 */
export function withCurrentNames(
  options: Readonly<Record<string, unknown>>,
  known: (name: string) => boolean,
  twice: (before: string, now: string) => Error,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).map(([name, value]) => {
      const now = Object.hasOwn(renamedOptions, name) ? renamedOptions[name] : undefined;
      if (now === undefined || known(name) || !known(now)) return [name, value];
      if (options[now] !== undefined && value !== undefined) throw twice(name, now);
      return [now, value ?? options[now]];
    }),
  );
}

/** A word of a command, as a shell takes it: in quotes where it holds more than plain letters. */
export function shellWord(text: string): string {
  return /^[\w./=,@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
