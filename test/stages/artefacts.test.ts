import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { canonicalJson, contentHash, openResolved, openRun, planArtefacts, splitRunUrl } from '../../src/stages/artefacts.ts';
import type { RunPlan } from '../../src/stages/contract.ts';
import { openStore, writeJson } from '../../src/storage/index.ts';

const models = { encoder: 'e', generator: 'g' };

function plan(more = '', options: { models?: typeof models; dataset?: string; shards?: number } = {}): RunPlan {
  const recipe = parseRecipe(`name: a\ndataset: { url: x }\n${more}`, 'test');
  return planArtefacts({ runId: 'a', store: 'file:///s/', recipe, models: options.models ?? models }, options.dataset ?? 'd', options.shards ?? 4);
}

const [baseline, genview] = [0, 1].map((i) => (p: RunPlan) => p.variants[i]!.pretrain) as [(p: RunPlan) => string, (p: RunPlan) => string];
const usual = plan();

describe('addresses of artefacts', () => {
  it('are folders named by 16 hexadecimal digits', () => {
    expect(usual.dataset).toMatch(/^datasets\/[0-9a-f]{16}\/$/);
    expect(usual.foreground).toMatch(/^foreground\/[0-9a-f]{16}\/$/);
    expect(usual.analysis).toMatch(/^analysis\/[0-9a-f]{16}\/$/);
    expect(usual.views).toMatch(/^views\/[0-9a-f]{16}\/$/);
    expect(usual.similarity).toMatch(/^similarity\/[0-9a-f]{16}\/$/);
    expect(usual.variants.map(({ name }) => name)).toEqual(['baseline', 'genview']);
    expect(usual.variants[0]!.pretrain).toMatch(/^pretrain\/[0-9a-f]{16}\/$/);
    expect(usual.variants[0]!.evaluate).toMatch(/^evaluate\/[0-9a-f]{16}\/$/);
    expect(usual.shards).toBe(4);
    expect(new Set(usual.variants.flatMap(({ pretrain, evaluate }) => [pretrain, evaluate])).size).toBe(4);
  });

  it("do not depend on the recipe's name, its variants' names, or where the dataset lies", () => {
    const recipe = parseRecipe('name: b\ndataset: { url: y }\nvariants: [{ name: p, pretraining: { views: { probability: 0 } } }, { name: q, pretraining: { qualityLoss: { enabled: true } } }]', 'test');
    const other = planArtefacts({ runId: 'b', store: 's3://bucket/', recipe, models }, 'd', 4);
    expect({ ...other, variants: other.variants.map((variant, i) => ({ ...variant, name: usual.variants[i]!.name })) }).toEqual(usual);
  });

  it.each([
    ['foreground: { batch: 7 }'], ['generation: { batch: 7 }'], ['dataset: { url: x, quarantineLimit: 0.5 }'], ['pretraining: { checkpointSteps: 7 }'],
  ])('do not depend on what does not change results: %s', (more) => {
    const recipe = parseRecipe(`name: a\n${more.startsWith('dataset') ? '' : 'dataset: { url: x }\n'}${more}`, 'test');
    expect(planArtefacts({ runId: 'a', store: 'file:///s/', recipe, models }, 'd', 4)).toEqual(usual);
  });

  it('change with the dataset', () => {
    const other = plan('', { dataset: 'other' });
    for (const key of ['dataset', 'foreground', 'analysis', 'views', 'similarity'] as const) expect(other[key]).not.toBe(usual[key]);
    expect(baseline(other)).not.toBe(baseline(usual));
  });

  it('of a baseline do not depend on foreground and generation, so that recipes with other views share it', () => {
    for (const other of [plan('generation: { noise: random }'), plan('foreground: { quantile: 0.5 }'), plan('', { models: { encoder: 'E', generator: 'G' } })]) {
      expect(other.variants[0]).toEqual(usual.variants[0]);
      expect(other.views).not.toBe(usual.views);
      expect(genview(other)).not.toBe(genview(usual));
      expect(other.variants[1]!.evaluate).not.toBe(usual.variants[1]!.evaluate);
    }
  });

  it('of a baseline with the quality loss depend on the foreground, which scores its pairs', () => {
    const variant = 'variants: [{ name: a, pretraining: { views: { probability: 0 }, qualityLoss: { enabled: true } } }]';
    expect(baseline(plan(`${variant}\nforeground: { quantile: 0.5 }`))).not.toBe(baseline(plan(variant)));
    expect(baseline(plan(`${variant}\ngeneration: { noise: random }`))).toBe(baseline(plan(variant)));
  });

  it('of a random initialisation depend on the network alone', () => {
    const variant = (more: string): string => `variants: [{ name: a, pretraining: { epochs: 0, ${more} } }]`;
    expect(baseline(plan(variant('batch: 128')))).toBe(baseline(plan(`${variant('temperature: 3')}\ngeneration: { noise: random }`)));
    expect(baseline(plan(variant('backbone: { width: 8 }')))).not.toBe(baseline(plan(variant('batch: 128'))));
  });

  it('of views survive other pretraining and evaluation settings', () => {
    const other = plan('pretraining: { epochs: 3 }\nevaluation: { knn: { k: 5 } }');
    expect(other.views).toBe(usual.views);
    expect(other.similarity).toBe(usual.similarity);
    expect(baseline(other)).not.toBe(baseline(usual));
  });

  it('of evaluations change with evaluation settings, those of encoders do not', () => {
    const other = plan('evaluation: { knn: { k: 5 } }');
    expect(other.variants.map(({ pretrain }) => pretrain)).toEqual(usual.variants.map(({ pretrain }) => pretrain));
    for (const [i, { evaluate }] of other.variants.entries()) expect(evaluate).not.toBe(usual.variants[i]!.evaluate);
    const pairs = plan('evaluation: { similarityImages: 5 }');
    expect(pairs.variants).toEqual(usual.variants);
    expect(pairs.similarity).not.toBe(usual.similarity);
  });

  it('of views differ where no variant uses any: none are generated then', () => {
    const none = plan('variants: [{ name: baseline, pretraining: { views: { probability: 0 } } }]');
    expect(none.analysis).toBe(usual.analysis);
    expect(none.views).not.toBe(usual.views);
    expect(baseline(none)).toBe(baseline(usual));
  });

  it('of an encoder do not depend on settings without effect', () => {
    const off = plan('variants: [{ name: a, pretraining: { views: { probability: 0, order: fixed }, qualityLoss: { gamma: 3 } } }]');
    expect(baseline(off)).toBe(baseline(usual));
  });

  it('change with the seed', () => {
    const other = plan('seed: 1');
    expect(other.views).not.toBe(usual.views);
    expect(baseline(other)).not.toBe(baseline(usual));
  });
});

describe('canonical JSON', () => {
  it('is the same for equal values', () => {
    expect(canonicalJson({ b: [1, { d: 1, c: undefined }], a: null })).toBe('{"a":null,"b":[1,{"d":1}]}');
    expect(contentHash({ a: 1, b: 2 })).toBe(contentHash({ b: 2, a: 1 }));
    // printf '{"a":1,"b":2}' | sha256sum | cut -c1-16
    expect(contentHash({ b: 2, a: 1 })).toBe('43258cff783fe703');
  });
});

describe("a run's URL", () => {
  it.each([
    ['file:///s/runs/a-1/', 'file:///s/', 'a-1'], ['s3://bucket/p/runs/a', 's3://bucket/p/', 'a'], ['file:///runs/runs/a/', 'file:///runs/', 'a'], ['runs/a', './', 'a'],
  ])('%s names store and run', (url, store, runId) => expect(splitRunUrl(url)).toEqual({ store, runId }));

  it('of another form is refused', () => expect(() => splitRunUrl('file:///s/')).toThrow(/not the URL of a run/));

  it('finds the run, where it lies now', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'genview-artefacts-'));
    try {
      const store = openStore(folder);
      const url = `${pathToFileURL(folder).href}/runs/a/`;
      await expect(openResolved(url)).rejects.toThrow(/^no run at .*runs\/a\//);
      await writeJson(store, 'runs/a/recipe.json', { runId: 'a', store: 's3://elsewhere/', recipe: {}, models });
      await expect(openRun(url)).rejects.toMatchObject({ code: 'RunNotPlanned' });
      await writeJson(store, 'runs/a/plan.json', usual);
      const { run, plan: found, runPrefix } = await openRun(url);
      expect(run.store).toBe(store.root);
      expect(found).toEqual(usual);
      expect(runPrefix).toBe('runs/a/');
    } finally { await rm(folder, { recursive: true }); }
  });
});
