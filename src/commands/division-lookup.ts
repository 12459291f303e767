// The division of a plan's command.
import { UserError } from "../utils/errors.ts";
import type { OpenedPlan } from "../workspace/plan-folder.ts";
import type { Division } from "./division.ts";
import { divisions } from "./divisions.ts";

/** Throws a UserError where the plan is of a command that this version can't cut into tasks. */
export function divisionOf({ plan, directory }: OpenedPlan): Division {
  const division: Division | undefined = divisions.find(({ name }) => name === plan.command);
  if (division) return division;
  const names = divisions.map(({ name }) => name).join(", ");
  throw new UserError(
    `${directory.describe("plan.json")} is a plan of the command ${plan.command}. Commands with tasks are: ${names}.`,
    { code: "FILE_NOT_READABLE" },
  );
}
