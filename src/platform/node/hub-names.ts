// What every platform knows of names on the hub.
export * from "../hub-names.ts";
