// What the leaderboard takes of the source: the library, and the parts of an evaluation.
export * from "../../src/platform/node/node.ts";
export { nearestNeighbours, knnDefaults, votesOf } from "../../src/evaluation/knn.ts";
export { predictions, topAccuracy } from "../../src/evaluation/metrics.ts";
export { probeDefaults, probeLogits, trainProbe } from "../../src/evaluation/probe.ts";
export { exportOf } from "../../src/exports/lookup.ts";
export { blockShape, headWidthOf } from "../../src/models/config.ts";
export { resizeTo } from "../../src/models/preprocessing.ts";
export { shapeFor } from "../../src/students/search/shape.ts";
export { colourOf, legendOf, standalone, svgOf } from "../../src/report/chart.ts";
export { sampleFewShot } from "../../src/data/sampling.ts";
// bench/roofline.js measures single products.
export { compile } from "../../src/engine/compile.ts";
export * as graphs from "../../src/engine/graph/build.ts";
