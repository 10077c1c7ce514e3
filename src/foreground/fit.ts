import { GenViewError } from '../errors.ts';
import type { ForegroundModel } from '../stages/contract.ts';
import type { HostTensor } from '../tensor.ts';
import { principalComponent, TokenStatistics } from './pca.ts';
import { decideSign } from './sign.ts';
import { quantileThreshold } from './threshold.ts';
import { normalizeTokens, projectTokens, tokenShape } from './tokens.ts';

export interface FitOptions {
  readonly quantile: number;
  readonly normalizeTokens: boolean;
}

/**
 * Principal vector, sign and threshold of the tokens of many images (spec §2.2, §2.3). The tokens are needed twice, first for
 * the covariance and then for the projections; nothing but sums and one projection a token is kept.
 * Throws `NoUsableImages` when there are none.
 * @param tokens starts a pass: batches [n, c, h, w], n may vary, the same in every pass
 */
export async function fitForegroundModel(tokens: () => Iterable<HostTensor<'float32'>> | AsyncIterable<HostTensor<'float32'>>, options: FitOptions): Promise<Omit<ForegroundModel, 'skipped'>> {
  const prepare = (batch: HostTensor<'float32'>): HostTensor<'float32'> => options.normalizeTokens ? normalizeTokens(batch) : batch;

  let statistics: TokenStatistics | undefined;
  let grid: readonly [number, number] = [0, 0];
  for await (const batch of tokens()) {
    const { channels, rows, columns } = tokenShape(batch);
    statistics ??= new TokenStatistics(channels);
    grid = [rows, columns];
    statistics.add(prepare(batch));
  }
  if (!statistics || statistics.count === 0) throw new GenViewError('NoUsableImages', 'none of the sampled training images can be read; is dataset.url right?');

  const component = principalComponent(statistics);
  const projections = new Float64Array(statistics.count);
  let filled = 0;
  for await (const batch of tokens()) {
    const values = projectTokens(prepare(batch), component.vector);
    projections.set(values, filled);
    filled += values.length;
  }

  const positions = grid[0] * grid[1], images = statistics.count / positions;
  const positionMeans = new Float64Array(positions);
  for (let k = 0; k < projections.length; k++) positionMeans[k % positions]! += projections[k]! / images;
  const sign = decideSign(positionMeans, grid);
  const direction = sign.flipped ? -1 : 1;
  return {
    vector: Array.from(component.vector, (value) => direction * value),
    mean: Array.from(statistics.mean),
    explained: component.explained,
    threshold: quantileThreshold(projections.map((value) => direction * value), options.quantile),
    quantile: options.quantile, sign, grid, images, normalizeTokens: options.normalizeTokens,
  };
}
