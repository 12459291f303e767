// What steps need of images besides the student: the teacher's states and, where it never changes, what enters the student's first
// block. Made before training, in a session of its own.
import { compile } from "../../engine/compile.ts";
import type { Graph } from "../../engine/graph/graph.ts";
import { checkOutputs } from "../../models/finite-outputs.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Model } from "../../models/model.ts";
import type { Int8Options } from "../../models/precision.ts";
import { runInParts } from "../../runtime/batch-parts.ts";
import type { Session } from "../../runtime/device.ts";
import type { FloatTensor } from "../../utils/tensor.ts";
import { targetGraph } from "./step-graphs.ts";
import type { Trainables } from "./trainables.ts";

/** What was made of images before: `[B, N, D]` by the names that `targets()` gives. */
export type Targets = Readonly<Record<string, FloatTensor>>;

export interface TargetSetup {
  readonly teacher: Model;
  /** The student before training. */
  readonly student: ModelDefinition;
  readonly trainables: Trainables;
  /** The teacher's states that the loss reads. */
  readonly targets: readonly number[];
  readonly int8: Int8Options | undefined;
}

export class TargetMaker {
  private readonly setup: TargetSetup;
  private readonly graph: Graph;
  private session: Session | undefined;

  constructor(setup: TargetSetup) {
    const { teacher, student, trainables, targets } = setup;
    this.setup = setup;
    this.graph = targetGraph(teacher, targets, student, trainables);
  }

  /** The names that `targets` gives. */
  get names(): string[] {
    return [...this.graph.outputs.keys()];
  }

  /**
   * What is made of normalised images `[B, 3, H, W]`: `[B, N, D]` each. Throws a UserError where one is not finite; `images` are the
   * names to say then.
   */
  async targets(pixels: FloatTensor, images?: readonly string[]): Promise<Targets> {
    const { teacher, int8 } = this.setup;
    // Between its batches, steps want the memory.
    this.session ??= await compile(this.graph, teacher.device, { int8, keepMemory: false });
    const outputs = await runInParts(this.session, teacher.device, pixels, this.session.outputNames);
    checkOutputs(outputs, { weights: teacher.weights, path: teacher.origin.path }, { images }, pixels);
    return outputs;
  }

  /** Closes the session, until `targets` is called again. */
  async closeSession(): Promise<void> {
    await this.session?.dispose();
    this.session = undefined;
  }
}
