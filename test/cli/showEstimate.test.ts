import { expect, it } from 'vitest';
import { formatEstimate, money } from '../../src/cli/showEstimate.ts';
import { estimate } from '../../src/estimate/estimate.ts';
import { readPrices } from '../../src/estimate/prices.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { defaultMachines } from '../../src/workflow/deployedMachines.ts';

it('says when shards are so small that starting machines is most of the cost', async () => {
  const prices = await readPrices(), dataset = { train: 50_000, val: 10_000, bytes: 60_000 * 2_300 };
  const of = (shardSize: number): string => formatEstimate(estimate(parseRecipe(`name: a\ndataset: { url: x, shardSize: ${shardSize} }`, 'test'), dataset, { prices }));
  // 60 shards and instances for two stages: 2 x 60 x (15 s + 7 min) are 14.5 hours.
  expect(of(1000)).toContain('\n14.5 of the GPU hours of analyze-foreground and generate-views are machines and models starting: fewer shards (a larger dataset.shardSize) take longer and cost less\n');
  expect(of(30_000)).not.toContain('starting');
});

it('counts machines and their GPUs, and leaves out what has no price', async () => {
  const { onDemandPerHour: { 'g5.12xlarge': _, ...onDemandPerHour }, ...rest } = await readPrices(), prices = { ...rest, onDemandPerHour };
  const recipe = parseRecipe('name: a\ndataset: { url: x, shardSize: 30000 }\npretraining: { nodes: 8 }\nvariants: [{ name: one }]', 'test');
  const lines = formatEstimate(estimate(recipe, { train: 50_000, val: 10_000, bytes: 60_000 * 2_300 }, { prices, machines: { ...defaultMachines, training: { instanceType: 'g5.12xlarge', nodes: 2, gpus: 4 } } })).split('\n');
  expect(lines.find((line) => line.startsWith('pretrain one'))).toMatch(/ {2}2 x g5\.12xlarge \(4 GPUs\) +\?$/);
  expect(lines.at(-3)).toMatch(/^in all [\d.]+ GPU hours, about .* when instances are to be had, \$\d+\.\d\d without g5\.12xlarge; then /);
  expect(lines.at(-2)).toBe('g5.12xlarge has no price, and what it costs is left out: add onDemandPerHour["g5.12xlarge"] to a copy of src/estimate/prices.json, and give that with --prices');
});

it('amounts have as many digits as they deserve', () => {
  expect([0, 0.066, 999.99, 2394.4].map(money)).toEqual(['$0.00', '$0.07', '$999.99', '$2,394']);
});
