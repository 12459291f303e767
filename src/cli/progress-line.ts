// Progress for people: one line that redraws itself on a terminal, plain lines now and then where output is piped.
import { createLogUpdate } from "log-update";
import type { Listener } from "../context/run-context.ts";
import { durationText } from "../utils/duration.ts";
import { visibleText } from "../utils/escape.ts";

/** Plain output has at most one line of progress in so many milliseconds. */
const plainInterval = 5000;

function bar(share: number, width = 24): string {
  const full = Math.round(share * width);
  return "█".repeat(full) + "░".repeat(width - full);
}

interface Stage {
  readonly name: string;
  readonly total?: number;
  readonly begun: number;
  done: number;
  note: string;
}

/** `distilling ████░░░░ 12/80  0.8/s  1 min 25 s left  loss 0.81` */
export function progressLine(stage: Stage, now: number, drawBar: boolean): string {
  const seconds = (now - stage.begun) / 1000;
  if (stage.total === undefined) return `${stage.name} ...`;
  const rate = stage.done > 0 && seconds > 0 ? stage.done / seconds : undefined;
  const remaining =
    rate && stage.done < stage.total ? `${durationText(Math.ceil((stage.total - stage.done) / rate))} left` : "";
  const shownRate = rate === undefined ? "" : rate >= 1 ? `${rate.toFixed(1)}/s` : `${(1 / rate).toFixed(1)} s each`;
  const parts = [
    stage.name,
    drawBar ? bar(stage.done / stage.total) : "",
    `${stage.done}/${stage.total}`,
    shownRate,
    remaining,
    stage.note,
  ];
  return parts.filter(Boolean).join("  ");
}

/** The stage that runs, redrawn in place where the stream is a terminal, with lines of text above it. */
function createStageLine(stream: NodeJS.WriteStream) {
  const live = stream.isTTY ? createLogUpdate(stream) : undefined;
  let stage: Stage | undefined;
  const draw = () => {
    if (live && stage) live(progressLine(stage, performance.now(), true));
  };
  const print = (message: string, details: readonly string[] = []) => {
    live?.clear();
    stream.write([message, ...details.map((detail) => `  ${detail}`), ""].map(visibleText).join("\n"));
    draw();
  };
  return {
    isLive: live !== undefined,
    draw,
    print,
    current: () => stage,
    begin(begun: Stage) {
      stage = begun;
    },
    /** Clears the stage, and says how long it took where that is worth a line. */
    finish() {
      if (!stage) return;
      const ended = stage;
      stage = undefined;
      live?.clear();
      const seconds = (performance.now() - ended.begun) / 1000;
      if (live ? seconds >= 0.5 : ended.total !== undefined) print(endedLine(ended, seconds));
    },
  };
}

function endedLine({ name, total, done, note }: Stage, seconds: number): string {
  return `${name}: ${total === undefined ? "" : `${done} in `}${durationText(seconds)}${note ? `  ${note}` : ""}`;
}

/**
 * A listener that writes to a stream (standard error), and an end that clears the redrawn line. Whatever comes in is one
 * line of text: names in it can't end the line or steer the terminal.
 */
export function createProgress(stream: NodeJS.WriteStream): Listener & { end(): void } {
  const line = createStageLine(stream);
  let lastPlain = 0;
  /** Names a stage whose first step takes long, where output is piped. */
  let naming: NodeJS.Timeout | undefined;
  const plain = (stage: Stage, now: number) => {
    clearTimeout(naming);
    lastPlain = now;
    stream.write(`${progressLine(stage, now, false)}\n`);
  };
  const finish = () => {
    clearTimeout(naming);
    line.finish();
  };
  return {
    stage(given, total) {
      finish();
      const name = visibleText(given);
      lastPlain = performance.now();
      line.begin({ name, total, begun: lastPlain, done: 0, note: "" });
      if (line.isLive) line.draw();
      else if (total === undefined) stream.write(`${name} ...\n`);
      else {
        const stage = line.current();
        naming = setTimeout(() => stage && plain(stage, performance.now()), plainInterval).unref();
      }
    },
    progress(done, note = "") {
      const stage = line.current();
      if (!stage) return;
      stage.done = done;
      stage.note = visibleText(note);
      line.draw();
      const now = performance.now();
      if (line.isLive || now - lastPlain < plainInterval) return;
      plain(stage, now);
    },
    info: (message) => line.print(message),
    warn: (message, details) => line.print(`warning: ${message}`, details),
    end: finish,
  };
}
