// Where the scripts of worker threads and of the command line lie: beside the built files. Tests, which run on the source, put another in its place.

export const workerFile = (name: string): URL => new URL(`./${name}.js`, import.meta.url);
