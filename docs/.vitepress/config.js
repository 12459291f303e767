// The documentation's site. `npm run docs:build` writes it to docs/.vitepress/dist.
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitepress";

const docs = fileURLToPath(new URL("..", import.meta.url));

/** Pages of a folder as the sidebar lists them, from their links in index.md's order. */
const pages = (folder, names) => names.map(([text, name]) => ({ text, link: `/${folder}/${name}` }));

const commands = readdirSync(`${docs}reference/commands`)
  .map((name) => name.replace(/\.md$/, ""))
  .sort()
  .map((name) => ({ text: name, link: `/reference/commands/${name}` }));

/** TypeDoc writes these pages before the site is built. */
const api = existsSync(`${docs}reference/api/index.md`) ? [{ text: "API", link: "/reference/api/" }] : [];

/** Code of at most so many characters stays on one line (style.css): browsers break `--few-shot-count` behind its hyphens. */
const shortCode = 26;

/** Titles of columns of at most so many characters do too. */
const shortTitle = 10;

/** Adds a class to short pieces of code and short titles of columns. */
function markShortCode(markdown) {
  const render = markdown.renderer.rules.code_inline;
  markdown.renderer.rules.code_inline = (tokens, i, ...rest) => {
    if (tokens[i].content.length <= shortCode) tokens[i].attrJoin("class", "short");
    return render(tokens, i, ...rest);
  };
  markdown.renderer.rules.th_open = (tokens, i, options, _, self) => {
    if (tokens[i + 1].content.length <= shortTitle) tokens[i].attrJoin("class", "short");
    return self.renderToken(tokens, i, options);
  };
}

export default defineConfig({
  title: "wecolora",
  description: "Make a pretrained vision transformer smaller from a few unlabelled images",
  cleanUrls: true,
  head: [["link", { rel: "icon", href: "data:," }]],
  markdown: { config: markShortCode },
  // The index of the search is one chunk, which loads when a reader opens the search.
  vite: { build: { chunkSizeWarningLimit: 800 } },
  // Pages of the API are written by TypeDoc, whose comments may link to what is not exported.
  ignoreDeadLinks: [/\/reference\/api\//],
  themeConfig: {
    search: { provider: "local" },
    outline: [2, 3],
    nav: [
      { text: "Get started", link: "/getting-started/command-line" },
      { text: "Guides", link: "/guides/choose-a-size" },
      { text: "Concepts", link: "/concepts/closed-form" },
      { text: "Reference", link: "/reference/commands" },
      ...api,
    ],
    sidebar: [
      {
        text: "Getting started",
        items: pages("getting-started", [
          ["Command line", "command-line"],
          ["Node", "node"],
          ["Browser", "browser"],
        ]),
      },
      {
        text: "Guides",
        items: pages("guides", [
          ["Choose a size", "choose-a-size"],
          ["Bring a teacher", "bring-a-teacher"],
          ["Bring images", "bring-images"],
          ["Quantize and export", "quantize-and-export"],
          ["Use the student", "use-the-student"],
          ["Evaluate", "evaluate"],
          ["Train adapters", "train-adapters"],
          ["Look inside", "look-inside"],
          ["Segment", "segment"],
          ["Resume a run", "resume"],
          ["Compare runs", "compare"],
          ["Run on a cluster", "cluster"],
          ["Reproduce the paper", "reproduce-the-paper"],
        ]),
      },
      {
        text: "Concepts",
        items: pages("concepts", [
          ["The closed form", "closed-form"],
          ["WeCoLoRA", "wecolora"],
          ["Fidelity, agreement and intervals", "metrics"],
          ["Shape, image size, tokens and bits", "levers"],
          ["int8", "int8"],
        ]),
      },
      {
        text: "Reference",
        items: [
          { text: "Commands and options", link: "/reference/commands", collapsed: true, items: commands },
          ...api,
          ...pages("reference", [
            ["Run folder", "run-folder"],
            ["Configuration files", "configuration"],
            ["Error codes", "error-codes"],
            ["Supported checkpoints and data", "supported-checkpoints"],
            ["Browser support", "browser"],
            ["Safety", "safety"],
          ]),
          { text: "Leaderboard", link: "/leaderboard" },
          { text: "Performance", link: "/performance" },
          { text: "Dependencies", link: "/dependencies" },
        ],
      },
    ],
  },
});
