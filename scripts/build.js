// Builds dist/ as tsdown.config.ts says. tsdown's own command line warns about Node 20, which we support.
import { build } from "tsdown";

await build({ logLevel: "error" });
