// All of the commands whose work can be cut into tasks, from the files of this folder. Made by `npm run generate`; don't edit it.
import { division as cacheDivision } from "./cache.ts";
import { division as compareDivision } from "./compare.ts";
import { division as evaluateDivision } from "./evaluate.ts";
import { division as featuresDivision } from "./features.ts";
import { division as inspectDivision } from "./inspect.ts";

export const divisions = [cacheDivision, compareDivision, evaluateDivision, featuresDivision, inspectDivision] as const;
