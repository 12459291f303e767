// Numbers as people read them.

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
export const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
export const millions = (count: number): string =>
  count < 1e6 ? `${(count / 1e3).toFixed(0)} K` : `${(count / 1e6).toFixed(1)} M`;
export const counted = (count: number, one: string): string => `${count} ${one}${count === 1 ? "" : "s"}`;

/** What is shown of an error: its message, which says what to do. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
