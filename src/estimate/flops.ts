import type { BackboneRecipe } from '../recipe/recipe.ts';

/**
 * Multiply-adds of one forward pass of one image, by formula: convolutions, linear layers and attention products; biases,
 * normalisation and activations are left out (1 to 2 %). A floating-point operation count is twice these.
 */

const convolution = (side: number, inputs: number, outputs: number, kernel: number): number => side ** 2 * inputs * outputs * kernel ** 2;
const linear = (tokens: number, inputs: number, outputs: number): number => tokens * inputs * outputs;
/** Scores and weighted sum of `queries` over `keys`, all heads together `width` wide. */
const attention = (queries: number, keys: number, width: number): number => 2 * queries * keys * width;

/** Vision Transformer: patches, `depth` blocks with an MLP four times as wide (or `mlp`), class token included. */
export function vitMacs({ imageSize, patch, width, depth, mlp = 4 * width, projection = 0 }: {
  readonly imageSize: number; readonly patch: number; readonly width: number; readonly depth: number; readonly mlp?: number; readonly projection?: number;
}): number {
  const patches = (imageSize / patch) ** 2, tokens = patches + 1;
  const block = linear(tokens, width, 4 * width) + attention(tokens, tokens, width) + linear(tokens, width, 2 * mlp);
  return linear(patches, 3 * patch ** 2, width) + depth * block + linear(1, width, projection);
}

/** The paper's encoder, CLIP ViT-H/14 at 224 pixels: tokens for the foreground and embedding for the generator in one pass. */
export const clipViTH14Macs = vitMacs({ imageSize: 224, patch: 14, width: 1280, depth: 32, projection: 1024 });

/** ResNet as `nn/resnet.ts` builds it. */
export function resnetMacs(backbone: Extract<BackboneRecipe, { stem: unknown }>, imageSize: number): number {
  const { name, stem, width } = backbone;
  const depths = { resnet18: [2, 2, 2, 2], resnet50: [3, 4, 6, 3], 'resnet-small': [1, 1, 1] }[name];
  const small = stem === 'cifar', expansion = name === 'resnet50' ? 4 : 1;
  let side = Math.ceil(imageSize / (small && name !== 'resnet-small' ? 1 : 2)), inputs = width;
  let macs = convolution(side, 3, width, small ? 3 : 7);
  if (!small) side = Math.ceil(side / 2);
  for (const [stage, blocks] of depths.entries()) {
    const inner = width * 2 ** stage, outputs = inner * expansion;
    for (let block = 0; block < blocks; block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1, before = side;
      side = Math.ceil(side / stride);
      macs += expansion === 1
        ? convolution(side, inputs, inner, 3) + convolution(side, inner, inner, 3)
        : convolution(before, inputs, inner, 1) + convolution(side, inner, inner, 3) + convolution(side, inner, outputs, 1);
      if (stride !== 1 || inputs !== outputs) macs += convolution(side, inputs, outputs, 1);
      inputs = outputs;
    }
  }
  return macs;
}

export function backboneMacs(backbone: BackboneRecipe, imageSize: number): number {
  switch (backbone.name) {
    case 'vit-small': return vitMacs({ imageSize, patch: backbone.patch, width: 384, depth: 12 });
    case 'vit-base': return vitMacs({ imageSize, patch: backbone.patch, width: 768, depth: 12 });
    default: return resnetMacs(backbone, imageSize);
  }
}

const residual = (side: number, inputs: number, outputs: number): number =>
  convolution(side, inputs, outputs, 3) + convolution(side, outputs, outputs, 3) + (inputs === outputs ? 0 : convolution(side, inputs, outputs, 1));

/** One transformer layer of the U-Net: projections in and out, self-attention, attention to 77 text tokens, gated feed-forward. */
function spatialTransformer(side: number, width: number): number {
  const tokens = side ** 2, text = 77, textWidth = 1024;
  return linear(tokens, width, 2 * width)
    + linear(tokens, width, 4 * width) + attention(tokens, tokens, width)
    + linear(tokens, width, 2 * width) + linear(text, textWidth, 2 * width) + attention(tokens, text, width)
    + linear(tokens, width, 8 * width) + linear(tokens, 4 * width, width);
}

/**
 * The U-Net of Stable Diffusion 2.1 and of its unCLIP variant: 320, 640, 1280, 1280 channels, two residual blocks a level,
 * attention in the three upper levels and in the middle.
 * @param side of the latents: 96 for images of 768 pixels, 64 for 512
 */
export function stableDiffusionUnetMacs(side: number): number {
  const widths = [320, 640, 1280, 1280] as const;
  const at = (level: number): number => side / 2 ** level;
  const skips: number[] = [widths[0]];
  let macs = convolution(side, 4, widths[0], 3), inputs: number = widths[0];
  for (const [level, width] of widths.entries()) {
    for (let block = 0; block < 2; block++) {
      macs += residual(at(level), inputs, width) + (level < 3 ? spatialTransformer(at(level), width) : 0);
      inputs = width;
      skips.push(width);
    }
    if (level < 3) { macs += convolution(at(level + 1), width, width, 3); skips.push(width); }
  }
  macs += 2 * residual(at(3), 1280, 1280) + spatialTransformer(at(3), 1280);
  for (let level = 3; level >= 0; level--) {
    const width = widths[level]!;
    for (let block = 0; block < 3; block++) {
      macs += residual(at(level), inputs + skips.pop()!, width) + (level < 3 ? spatialTransformer(at(level), width) : 0);
      inputs = width;
    }
    if (level > 0) macs += convolution(at(level - 1), width, width, 3);
  }
  return macs + convolution(side, widths[0], 4, 3);
}

/** Decoder of Stable Diffusion's autoencoder: 512, 512, 256, 128 channels, three residual blocks a level. @param side of the latents */
export function autoencoderDecoderMacs(side: number): number {
  const tokens = side ** 2;
  let macs = convolution(side, 4, 4, 1) + convolution(side, 4, 512, 3) + 2 * residual(side, 512, 512) + linear(tokens, 512, 4 * 512) + attention(tokens, tokens, 512);
  let inputs = 512;
  for (const [level, width] of [512, 512, 256, 128].entries()) {
    const here = side * 2 ** level;
    macs += residual(here, inputs, width) + 2 * residual(here, width, width);
    if (level < 3) macs += convolution(here * 2, width, width, 3);
    inputs = width;
  }
  return macs + convolution(side * 8, 128, 3, 3);
}

/** The embedded models, from their sizes (`docs/demo-models.md`): nothing beside the time that their programs take to start. */
export const demoEncoderMacs = 2.5e7;
export const demoUnetMacs = 1.5e8;
