// The number of heads of weights that come without a configuration. No weight shows it: q, k and v have the same shapes for any
// number, and training moves no boundary between heads into view. What is known are the published families.
import { UserError } from "../../utils/errors.ts";
import type { Evidence } from "./layout.ts";

/** Channels of a head where published vision transformers of a width don't have 64. */
const publishedHeadWidths: ReadonlyMap<number, number> = new Map([
  [1152, 72], // SoViT-400m (SigLIP): 16 heads
  [1280, 80], // ViT-H (MAE, I-JEPA, OpenCLIP): 16 heads
  [1408, 88], // ViT-g (EVA, OpenCLIP): 16 heads
  [1664, 104], // ViT-bigG (OpenCLIP): 16 heads
  [1792, 112], // EVA-02 enormous: 16 heads
  [3200, 128], // InternViT-6B: 25 heads
  [4096, 128], // DINOv3 7B: 32 heads
]);
/** Beyond it, published widths of 64 channels a head end. */
const widestOf64 = 1536;

/**
 * The channels of a head that published vision transformers of a width have, as far as they agree: timm 1.0.31 has ViT-H+ of
 * gated MLPs with 16 and 20 heads, and plain ones of width 1536 with 16 and 24. A model of at most 64 channels has one head.
 */
export function assumedHeadWidth(width: number, gated: boolean): number | undefined {
  if (width > 0 && width <= 64) return width;
  if ((width === 1280 && gated) || (width === 1536 && !gated)) return undefined;
  const published = publishedHeadWidths.get(width);
  if (published !== undefined) return published;
  return width > 0 && width <= widestOf64 && width % 64 === 0 ? 64 : undefined;
}

/**
 * The number of heads that is assumed for weights without a configuration; whoever uses it must warn of it.
 * @throws a UserError where published models of this width don't agree, or there are none
 */
export function assumedHeads({ shape }: Evidence, file: string): number {
  const width = shape("patch_embed.proj.weight")?.[0] ?? 0;
  // Without a patch embedding this is reported as a missing weight.
  if (width === 0) return 1;
  const mlpWidth = shape("blocks.0.mlp.fc2.weight")?.[1] ?? 4 * width;
  const headWidth = assumedHeadWidth(width, shape("blocks.0.mlp.fc1.weight")?.[0] === 2 * mlpWidth);
  // Fewer heads than the width has room for show in the map behind them.
  const heads = (shape("blocks.0.attn.proj.weight")?.[1] ?? width) / (headWidth ?? Number.NaN);
  if (!Number.isInteger(heads) || heads < 1)
    throw new UserError(
      `${file} does not say how many attention heads the model of width ${width} has, and there is no config.json. ` +
        "Give numHeads (--num-heads), or put the model's config.json beside the file.",
      { code: "NOT_A_VIT" },
    );
  return heads;
}
