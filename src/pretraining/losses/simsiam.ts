import type { Loss } from './contrast.ts';
import { regressionLoss, type RegressionLossInputs } from './regression.ts';

/**
 * SimSiam: -½ cos(p1, z2) - ½ cos(p2, z1), the targets being the projections of the same network without gradient.
 * Sources: Chen and He 2021, Eq. 2; mmpretrain `simsiam.py`; GenView Eq. 14.
 */
export function simsiamLoss(inputs: RegressionLossInputs): Loss {
  return regressionLoss(inputs, 0.5);
}
