import { describe, expect, test } from 'vitest';
import { baselineOf, listMissing, samplingError, seedGroups, spreadOf, stageTimes, thinOut, withGains, type HistoryLine, type VariantReport } from '../../src/report/data.ts';
import { execute } from '../../src/workflow/asl/interpreter.ts';
import type { HistoryEvent } from '../../src/workflow/asl/history.ts';
import { submittedJobs } from '../../src/workflow/batch/submittedJobs.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { localRefs } from '../../src/workflow/local.ts';
import { smallRecipe } from '../stages/smallRun.ts';
import { VirtualClock } from '../workflow/virtualClock.ts';

const variant = (name: string, changes: Partial<VariantReport> = {}): VariantReport =>
  ({ name, seed: 0, method: 'mocov2', viewProbability: 1, qualityLoss: false, epochs: 10, curve: [], ...changes });
const plain = { viewProbability: 0 };
const linear = (top1: number) => ({ linear: { top1, top5: 100, validationImages: 50, trainImages: 100 } });

describe('thinning out a curve', () => {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

  test('a short one stays as it is', () => {
    expect(thinOut([3, 1, 2], 3, mean)).toEqual([3, 1, 2]);
    expect(thinOut([], 3, mean)).toEqual([]);
  });

  test('a long one becomes the means of equal stretches', () => {
    expect(thinOut([1, 3, 5, 7, 9, 11], 3, mean)).toEqual([2, 6, 10]);
  });

  test('every value counts exactly once where the stretches cannot be equal', () => {
    const stretches: number[] = [];
    thinOut(Array.from({ length: 1003 }, (_, i) => i), 200, (values) => { stretches.push(...values); return 0; });
    expect(stretches).toEqual(Array.from({ length: 1003 }, (_, i) => i));
  });
});

describe('the baseline of a variant', () => {
  test('is the one so named, before one that merely has no views', () => {
    const variants = [variant('genview'), variant('none', plain), variant('baseline', plain)];
    expect(baselineOf(variants, variants[0]!).name).toBe('baseline');
  });

  test('is the first trained without generated views, never the random initialisation', () => {
    const variants = [variant('start', { ...plain, epochs: 0 }), variant('genview'), variant('none', plain)];
    expect(baselineOf(variants, variants[1]!).name).toBe('none');
  });

  test('has the same method and the same seed where there is such a one', () => {
    const variants = [variant('a', plain), variant('b', { ...plain, seed: 1 }), variant('c', { ...plain, method: 'mocov3' }), variant('d', { seed: 1 }), variant('e', { method: 'mocov3', seed: 1 }), variant('f', { seed: 2 })];
    expect(variants.map((v) => baselineOf(variants, v).name)).toEqual(['a', 'b', 'c', 'b', 'c', 'a']);
  });

  test('is the first variant when all use views', () => {
    const variants = [variant('one'), variant('two')];
    expect(baselineOf(variants, variants[1]!)).toBe(variants[0]);
  });
});

test('the gain is in percentage points of the linear probe; a baseline has none', () => {
  const [baseline, better, unfinished] = withGains([variant('baseline', { ...plain, ...linear(40) }), variant('genview', linear(42.5)), variant('late')]);
  expect(baseline).not.toHaveProperty('gain');
  expect(baseline).not.toHaveProperty('baseline');
  expect(better).toMatchObject({ gain: 2.5, baseline: 'baseline' });
  expect(unfinished).toMatchObject({ baseline: 'baseline' });
  expect(unfinished).not.toHaveProperty('gain');
});

test('variants that differ only in their seed are grouped; without any there are no groups', () => {
  const recipe = smallRecipe(), [first, second] = recipe.variants;
  const repeated = { ...recipe, variants: [{ ...first!, name: 'a' }, { ...second!, name: 'b' }, { ...first!, name: 'c', seed: 1 }] };
  const groups = seedGroups(repeated, [variant('a'), variant('b'), variant('c', { seed: 1 })]);
  expect(groups.map((group) => group.map(({ name }) => name))).toEqual([['a', 'c'], ['b']]);
  expect(seedGroups(recipe, [variant('a'), variant('b')])).toEqual([]);
});

test('mean and spread of a sample', () => {
  expect(spreadOf([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({ mean: 5, standardDeviation: Math.sqrt(32 / 7), count: 8 });
  expect(spreadOf([3])).toEqual({ mean: 3, standardDeviation: 0, count: 1 });
});

test('sampling error of a share', () => {
  // 1.96 sqrt(0.5 * 0.5 / 100) = 0.098
  expect(samplingError(50, 100)).toBeCloseTo(9.8, 10);
  expect(samplingError(0, 100)).toBe(0);
});

test('missing stages in words', () => {
  expect(listMissing([{ stage: 'plan-views', variants: [] }, { stage: 'pretrain', variants: ['a', 'b'] }])).toBe('plan-views, pretrain (a, b)');
});

describe('times of the stages', () => {
  const task = (name: string, flow: object) => ({ Type: 'Task', Resource: 'arn:aws:states:::lambda:invoke', Arguments: { name, variant: '{% $exists($states.input.name) ? $states.input.name : "" %}' }, ...flow });
  const definition = {
    QueryLanguage: 'JSONata', StartAt: 'List',
    States: {
      List: task('List', { Assign: { again: '{% $states.result %}' }, Output: {}, Next: 'More' }),
      More: { Type: 'Choice', Choices: [{ Condition: '{% $again %}', Next: 'List' }], Default: 'Variants' },
      Variants: {
        Type: 'Map', Items: [{ name: 'slow' }, { name: 'fast' }], Output: {}, Next: 'Report',
        ItemProcessor: { ProcessorConfig: { Mode: 'INLINE' }, StartAt: 'Pretrain', States: { Pretrain: task('Pretrain', { Output: '{% $states.input %}', Next: 'Probe' }), Probe: task('Probe', { Output: {}, End: true }) } },
      },
      Report: task('Report', { End: true }),
    },
  };

  /** The real interpreter's history, up to the beginning of the state `until`. */
  async function history(until: string): Promise<HistoryLine[]> {
    const clock = new VirtualClock(), lines: HistoryEvent[] = [];
    const seconds: Record<string, number> = { List: 4, Pretrain: 0, Probe: 1, Report: 2 };
    let lists = 0;
    const failing = execute(definition as Parameters<typeof execute>[0], {}, {
      name: 'test', clock, onEvent: (event) => lines.push(event),
      handlers: {
        'states:::lambda:invoke': async (argument) => {
          const { name, variant: own } = argument as { name: string; variant: string };
          if (name === until) throw new Error('stopped');
          await clock.sleep(1000 * (seconds[name]! || (own === 'slow' ? 10 : 3)));
          return name === 'List' && lists++ === 0;
        },
      },
    });
    await failing.catch(() => {});
    return lines as unknown as HistoryLine[];
  }

  test('a state entered again spans both; iterations are told apart by the variant', async () => {
    expect(stageTimes(await history(''))).toEqual([
      { name: 'List', start: 0, seconds: 8 },
      { name: 'Pretrain (slow)', start: 8, seconds: 10 },
      { name: 'Pretrain (fast)', start: 8, seconds: 3 },
      { name: 'Probe (fast)', start: 11, seconds: 1 },
      { name: 'Probe (slow)', start: 18, seconds: 1 },
      { name: 'Report', start: 19, seconds: 2 },
    ]);
  });

  test('a job of several nodes is one stage, however often it is looked at', async () => {
    const clock = new VirtualClock(), lines: HistoryEvent[] = [];
    const nodes = submittedJobs(async (_argument, { submitted, signal }) => { submitted({ JobId: 'n', JobName: 'n' }); await clock.sleep(100_000, signal); return { JobId: 'n', Status: 'SUCCEEDED' }; });
    const payloads: Record<string, object> = { 'resolve-recipe': { run: 'r', runId: 'r', variants: [{ name: 'gen', nodes: 2 }] }, 'shard-dataset': { continuation: null, shards: 2 }, 'report': { report: 'r' } };
    await execute(buildWorkflow(localRefs), { recipe: 'r', store: 's' }, {
      clock, onEvent: (event) => lines.push(event),
      handlers: {
        'states:::lambda:invoke': async (argument) => ({ Payload: payloads[(argument as { FunctionName: string }).FunctionName] ?? {} }),
        'states:::batch:submitJob.sync': async () => ({}),
        ...nodes.handlers,
      },
    });
    const times = stageTimes(lines as unknown as HistoryLine[]);
    expect(times.map(({ name }) => name).toSorted()).toEqual([
      'AnalyzeForeground', 'FitForeground', 'GenerateViews', 'LinearProbe (gen)', 'NearestNeighbours (gen)', 'PairSimilarity', 'PlanViews', 'PretrainNodes (gen)', 'Report', 'ResolveRecipe', 'SemiSupervised (gen)', 'ShardDataset',
    ]);
    const { seconds } = times.find(({ name }) => name === 'PretrainNodes (gen)')!;
    expect(seconds).toBeGreaterThanOrEqual(100);
    expect(seconds).toBeLessThan(107);
  });

  test('a stage that has not ended has no time', async () => {
    expect(stageTimes(await history('Report')).map(({ name }) => name)).toEqual(['List', 'Pretrain (slow)', 'Pretrain (fast)', 'Probe (fast)', 'Probe (slow)']);
    expect(stageTimes([])).toEqual([]);
  });
});
