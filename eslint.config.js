import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  {
    ignores: [
      "dist/",
      "dist-web/",
      "coverage/",
      ".bench/",
      "docs/.vitepress/{dist,cache}/",
      "src/engine/onnx/onnx_pb.ts",
      "tests/reference/",
    ],
  },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    // Names that TypeScript and Node know; undefined ones are the type check's business.
    rules: {
      "no-undef": "off",
      eqeqeq: "error",
      "prefer-const": "error",
      "no-console": "off",
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "separate-type-imports" }],
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
    },
  },
  { files: ["src/**"], ignores: ["src/cli/**"], rules: { "no-console": "error" } },
  {
    files: ["src/**"],
    rules: {
      "max-lines-per-function": ["error", { max: 45, skipBlankLines: true, skipComments: true }],
      complexity: ["error", 20],
    },
  },
  {
    // Tables of data in the form of functions: weights' names and pickled classes.
    files: ["src/checkpoints/torch-values.ts", "src/models/layouts/transformers-layouts.ts"],
    rules: { "max-lines-per-function": "off" },
  },
  {
    // Longer or with more branches than that. The list may only become shorter.
    files: [
      "src/data/{avif,bmp,image-formats}.ts",
      "src/data/formats/{inaturalist,parquet,tar}.ts",
      "src/engine/linalg/ridge.ts",
      "src/engine/onnx/write-model.ts",
      "src/engine/wasm/write-loop.ts",
      "src/exports/peft.ts",
      "src/models/layouts/{fields,timm-config}.ts",
      "src/models/onnx-import/{onnx-application,onnx-blocks,onnx-float32,onnx-model}.ts",
      "src/platform/node/hub-download.ts",
      "src/report/page.ts",
      "src/students/closed-form/closed-form.ts",
      "src/students/methods/dmae.ts",
      "src/students/search/frontier.ts",
    ],
    rules: {
      "max-lines-per-function": ["error", { max: 75, skipBlankLines: true, skipComments: true }],
      complexity: ["error", 35],
    },
  },
  {
    // Objects whose members are a platform's functions.
    files: ["src/platform/web/{environment,hub,serve,web-files,web-inputs,web-tree}.ts"],
    rules: {
      "max-lines-per-function": ["error", { max: 110, skipBlankLines: true, skipComments: true }],
      complexity: ["error", 25],
    },
  },
  { files: ["**/*.cjs"], rules: { "@typescript-eslint/no-require-imports": "off" } },
);
