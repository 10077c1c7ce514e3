import type { Loss } from './contrast.ts';
import { regressionLoss, type RegressionLossInputs } from './regression.ts';

/**
 * BYOL: 2 (-cos(p1, z2) - cos(p2, z1)), the targets being projections of the momentum encoder. The paper's form, the sum of
 * 2 - 2 cos over both directions, is larger by 4 and has the same gradient.
 * Sources: Grill et al. 2020, Eq. 2; mmpretrain `byol.py`.
 */
export function byolLoss(inputs: RegressionLossInputs): Loss {
  return regressionLoss(inputs, 2);
}
