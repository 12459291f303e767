// A data format of your own: the Oxford-IIIT Pet dataset as published, with `images/` and lists in `annotations/`.
//
//     registerFormat(oxfordPets);
//     const data = await openDataSet("oxford-iiit-pet", { petClasses: "species" });
//
// A line of `annotations/trainval.txt` is `Abyssinian_100 1 1 1`: the image, its breed from 1, its species (1 cat, 2 dog)
// and the breed within its species.
import { askedAs, defineFormat, listedDataSet, textOf, UserError } from "wecolora";
import type { Classified, DataTree } from "wecolora";
import { z } from "zod";

const lists = { train: "annotations/trainval.txt", test: "annotations/test.txt" };
const species = ["cat", "dog"];

export const oxfordPets = defineFormat({
  name: "oxford-pets",
  summary: "Oxford-IIIT Pet as published",
  // A folder alone: no file is named itself.
  extensions: [],
  // Asked like the published sets that wecolora knows, behind them and before plain folders.
  order: askedAs.published + 50,
  options: {
    petClasses: z.enum(["breed", "species"]).default("breed").describe("Oxford-IIIT Pet: what the classes are"),
  },
  async recognise(tree, { folders }) {
    if (!folders.includes("images") || !folders.includes("annotations")) return undefined;
    const names = (await tree.list("annotations")).map(({ name }) => name);
    return names.includes("trainval.txt") && names.includes("test.txt") ? lists : undefined;
  },
  async open(tree, { train, test }, { petClasses }) {
    const images = await tree.walk("images", (name) => name.endsWith(".jpg"));
    const there = new Set(images.names);
    const entries = async (list: string) => (await linesOf(tree, list)).filter(({ item }) => there.has(item.name));
    const linesOf = async (from: DataTree, list: string): Promise<Classified[]> =>
      (await textOf(from, list))
        .split("\n")
        .filter((line) => line.trim() !== "" && !line.startsWith("#"))
        .map((line) => {
          const [image, , kind] = line.split(" ");
          const breed = image.slice(0, image.lastIndexOf("_"));
          const animal = species[Number(kind) - 1];
          if (!breed || !animal) throw new UserError(`${list} has a line that names no image and species: ${line}`);
          return { item: { name: `images/${image}.jpg` }, class: petClasses === "breed" ? breed : animal };
        });
    const parts = { train: await entries(train), test: await entries(test) };
    return listedDataSet(tree.path, { ...parts, skipped: images.skipped });
  },
});
