// Errors meant for people: one clear message, no stack trace.

/** Something the caller can mend (a file, an option, a value). The command line exits with 2. */
export class UserError extends Error {
  override readonly name = "UserError";
}

/** Something failed while running (a loss that is not finite, a full disk). The command line exits with 1. */
export class RunError extends Error {
  override readonly name = "RunError";
}

/** The candidate nearest to `word` by edit distance, where one is near enough to be meant. */
export function nearestName(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(previous[j] + 1, row[j - 1] + 1, change));
    }
    previous = row;
  }
  return previous[b.length];
}
