import type { Encoder } from '../foreground/encoder.ts';
import { pairQuality } from '../foreground/quality.ts';
import type { ForegroundModel } from '../stages/contract.ts';
import type { HostTensor } from '../tensor.ts';
import { resizePixels } from './augmentation/resize.ts';

/** Quality q of each pair (Eq. 12) from both augmented views [n, 3, s, s] in [0, 1]. */
export type Scorer = (view1: HostTensor<'float32'>, view2: HostTensor<'float32'>) => Promise<Float32Array>;

/**
 * The frozen foreground encoder as quality scorer (spec §5): it sees the very pixels that the network sees, resized
 * when its input has another size, and always runs in inference mode.
 */
export function foregroundScorer(encoder: Encoder, foreground: ForegroundModel): Scorer {
  return async (view1, view2) => {
    const first = await encoder.encode(resizePixels(view1, encoder.imageSize));
    const second = await encoder.encode(resizePixels(view2, encoder.imageSize));
    return pairQuality(first.tokens, second.tokens, foreground.vector, { normalizeTokens: foreground.normalizeTokens });
  };
}
