// All of the layouts, from the files of this folder. Made by `npm run generate`; don't edit it.
import { group as clipLayoutsGroup } from "./clip-layouts.ts";
import { group as nativeLayoutGroup } from "./native-layout.ts";
import { group as timmLayoutGroup } from "./timm-layout.ts";
import { group as transformersLayoutsGroup } from "./transformers-layouts.ts";

export const groups = [clipLayoutsGroup, nativeLayoutGroup, timmLayoutGroup, transformersLayoutsGroup] as const;
