// How procedural images are named as data: `procedural:300`. A folder of that name is meant by `./procedural:300`.

/** More are no use: the closed form takes a sample of their tokens. */
export const mostProcedural = 100_000;

/** What `distill` takes where no data is given. */
export const defaultData = "procedural:300";

/** How many procedural images a name means, NaN where it says no number; undefined where it is a path. */
export function proceduralCount(name: string): number | undefined {
  const match = /^procedural:(.*)$/.exec(name);
  return match ? (/^\d+$/.test(match[1]) ? Number(match[1]) : NaN) : undefined;
}
