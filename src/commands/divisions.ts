// All of the commands whose work can be cut into tasks, from the files of this folder. Made by `npm run generate`; don't edit it.
import { division as compareDivision } from "./compare.ts";
import { division as evaluateDivision } from "./evaluate.ts";
import { division as featuresDivision } from "./features.ts";

export const divisions = [compareDivision, evaluateDivision, featuresDivision] as const;
