// Parts of the library that are loaded when they are first needed.

/** Loads them now (charts, parquet files, scans, procedural images, shapes by block, the search for a budget), so that all of it is there offline. */
export async function preload(): Promise<void> {
  await Promise.all([
    import("../../commands/report.ts"),
    import("../../commands/choose-levers.ts"),
    import("../../report/page.ts"),
    import("../../report/comparison-page.ts"),
    import("../../data/parquet-library.ts"),
    import("../../data/nifti.ts"),
    import("../../data/procedural/procedural-image.ts"),
    import("../../students/closed-form/head-directions.ts"),
    import("../../students/search/cut-costs.ts"),
  ]);
}
