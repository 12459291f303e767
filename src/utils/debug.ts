// Debugging output, off unless a topic is asked for. One sink for the process: graphs are compiled far from any run's context.

/**
 * What can be shown: `graph` before and after all passes, `passes` after each with counts of nodes, `time` that ONNX Runtime
 * takes for each kind of node, at the end, and `files` that were read.
 */
export const debugTopics = ["graph", "passes", "time", "files"] as const;
export type DebugTopic = (typeof debugTopics)[number];

let topics: ReadonlySet<DebugTopic> = new Set();
let write: (text: string) => void = () => undefined;

/** Shows topics from now on; none where the list is empty. */
export function setDebug(wanted: readonly DebugTopic[], sink: (text: string) => void): void {
  topics = new Set(wanted);
  write = sink;
}

/** Whether a topic is shown. */
export const isDebugged = (topic: DebugTopic): boolean => topics.has(topic);

/** Shows a text of a topic; it is made only where the topic is asked for. */
export function debug(topic: DebugTopic, text: () => string): void {
  if (topics.has(topic)) write(`${text()}\n`);
}
