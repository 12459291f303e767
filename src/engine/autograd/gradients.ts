// Reverse-mode differentiation: one walk from the loss back to what is asked for.
import { add, filled, sumTo } from "../graph/build.ts";
import type { OpKind } from "../graph/operators.ts";
import { knownShape } from "../graph/shapes.ts";
import type { Node, Value } from "../graph/graph.ts";
import { formatType } from "../graph/graph.ts";
import { sortedNodes } from "../graph/walk.ts";
import type { GradientRule } from "./rules.ts";
import { gradientRules } from "./rules.ts";

/**
 * Values of d loss / d v for each v of `wrt`. The loss is a scalar. Only what lies between `wrt` and the loss is
 * differentiated: no gradient of a frozen weight, or of what feeds the first trained one, is ever formed.
 * Throws where the way to the loss leads through an operator without a rule; a value that does not reach the loss
 * gets zeros.
 */
export function gradients(loss: Value, wrt: readonly Value[]): Value[] {
  if (loss.shape.length !== 0) throw new Error(`the loss must be a scalar, got ${formatType(loss)}`);
  const nodes = sortedNodes([loss]);
  const needed = new Set<Value>(wrt);
  for (const node of nodes) {
    if (gradientRules[node.op] !== "zero" && node.inputs.some((v) => needed.has(v))) {
      for (const v of node.outputs) needed.add(v);
    }
  }

  const gradientOf = new Map<Value, Value>([[loss, filled(loss, 1)]]);
  for (const node of nodes.reverse()) {
    const outer = node.outputs.map((v) => gradientOf.get(v));
    if (!outer.some(Boolean) || !node.inputs.some((v) => needed.has(v))) continue;
    applyRule(node, outer, needed).forEach((gradient, i) => {
      const input = node.inputs[i];
      if (!gradient || !needed.has(input)) return;
      const fitted = sumTo(gradient, input.shape);
      const sum = gradientOf.get(input);
      gradientOf.set(input, sum ? add(sum, fitted) : fitted);
    });
  }
  return wrt.map((v) => gradientOf.get(v) ?? filled(v, 0, knownShape(v)));
}

function applyRule(
  node: Node,
  outer: (Value | undefined)[],
  needed: ReadonlySet<Value>,
): readonly (Value | undefined)[] {
  const rule = gradientRules[node.op] as GradientRule<OpKind>;
  if (rule === "zero") return [];
  if (rule === "not differentiable") {
    throw new Error(`no gradient can pass through ${node.op}(${node.inputs.map(formatType).join(", ")})`);
  }
  return rule(outer[0] as Value, { node, gradients: outer, needs: node.inputs.map((v) => needed.has(v)) });
}
