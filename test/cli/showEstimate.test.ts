import { expect, it } from 'vitest';
import { formatEstimate, money } from '../../src/cli/showEstimate.ts';
import { estimate } from '../../src/estimate/estimate.ts';
import { readPrices } from '../../src/estimate/prices.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';

it('says when shards are so small that starting machines is most of the cost', async () => {
  const prices = await readPrices(), dataset = { train: 50_000, val: 10_000, bytes: 60_000 * 2_300 };
  const of = (shardSize: number): string => formatEstimate(estimate(parseRecipe(`name: a\ndataset: { url: x, shardSize: ${shardSize} }`, 'test'), dataset, { prices }));
  // 60 shards and instances for two stages: 2 x 60 x (15 s + 7 min) are 14.5 hours.
  expect(of(1000)).toContain('\n14.5 of the GPU hours of analyze-foreground and generate-views are machines and models starting: fewer shards (a larger dataset.shardSize) take longer and cost less\n');
  expect(of(30_000)).not.toContain('starting');
});

it('amounts have as many digits as they deserve', () => {
  expect([0, 0.066, 999.99, 2394.4].map(money)).toEqual(['$0.00', '$0.07', '$999.99', '$2,394']);
});
