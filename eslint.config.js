import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "dist-web/", "coverage/", ".bench/", "src/engine/onnx/onnx_pb.ts", "tests/reference/"] },
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
  { files: ["**/*.cjs"], rules: { "@typescript-eslint/no-require-imports": "off" } },
);
