/** A number with its noun: `1 task`, `7 tasks`, `2 batches`. */
export const counted = (count: number, noun: string, many = `${noun}s`): string =>
  `${count} ${count === 1 ? noun : many}`;
