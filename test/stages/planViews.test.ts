import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { AnalyzedImage, ListedImage, PlannedImage, RunPlan, ViewsPlan } from '../../src/stages/contract.ts';
import { planViews } from '../../src/stages/planViews.ts';
import { openStore, readJson } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';
import { addRun, context, lines, smallRecipe } from './smallRun.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

const shards = 12, shardSize = 200;
const listed: readonly ListedImage[] = Array.from({ length: shards * shardSize }, (_, index) => ({
  index, path: `train/a/${String(index).padStart(5, '0')}.jpg`, bytes: index, etag: `e${index}`, split: index % 10 === 0 ? 'val' : 'train', label: 0,
}));
const isBad = (index: number): boolean => index % 2 === 1;

/** A run whose analysis finds every other image unreadable. */
async function analysed(quarantineLimit: number): Promise<{ run: string; plan: RunPlan; store: ObjectStore }> {
  const store = openStore(path.join(folder, `store-${quarantineLimit}`));
  const { run, plan } = await addRun(store, path.join(folder, 'images'), listed, smallRecipe({ quarantineLimit }), Array.from({ length: shards }, () => shardSize));
  for (let shard = 0; shard < shards; shard++) {
    const own = listed.slice(shard * shardSize, (shard + 1) * shardSize).map((image): AnalyzedImage => isBad(image.index)
      ? { ...image, status: 'quarantined', reason: 'truncated' }
      : { ...image, status: 'used', width: 8, height: 8, ...(image.split === 'train' && { foregroundProportion: (image.index % 100) / 100, map: [1, 2, 3] }) });
    await store.put(`${plan.analysis}shard-${String(shard).padStart(5, '0')}.jsonl`, own.map((line) => `${JSON.stringify(line)}\n`).join(''));
  }
  return { run, plan, store };
}

describe('PlanViews', () => {
  it('accounts for every image of many shards, in order, and names the first 1,000 quarantined', async () => {
    const { run, plan, store } = await analysed(0.6);
    expect(await planViews({ run }, context)).toEqual({ train: 960, val: 240, quarantined: 1200 });
    const { quarantined, images, proportionHistogram, levelHistogram } = await readJson<ViewsPlan>(store, `${plan.views}plan.json`);
    expect(images.quarantined).toBe(1200);
    expect(quarantined).toEqual(listed.filter(({ index }) => isBad(index)).slice(0, 1000).map(({ path: name }) => ({ path: name, reason: 'truncated' })));
    expect(proportionHistogram.reduce((a, b) => a + b)).toBe(960);
    // Proportions 0.02, 0.04, … 0.98 without the tens: eight of ten in each fifth, 24 times.
    expect(levelHistogram).toEqual({ 0: 192, 100: 192, 200: 192, 300: 192, 400: 192 });
    const planned: PlannedImage[] = [];
    for (let shard = 0; shard < shards; shard++) planned.push(...await lines<PlannedImage>(store, `${plan.views}manifest-${String(shard).padStart(5, '0')}.jsonl`));
    expect(planned.map(({ index }) => index)).toEqual(listed.map(({ index }) => index).filter((index) => !isBad(index)));
    expect(planned[1]).toEqual({ ...listed[2], foregroundProportion: 0.02, noiseLevel: 0 });
  });

  it('counts all of them in its error', async () => {
    const { run } = await analysed(0.1);
    await expect(planViews({ run }, context)).rejects.toMatchObject({ code: 'QuarantineLimitExceeded', message: expect.stringMatching(/^1200 of 2400 images \(50 %\) .*, and 1197 more; mend/) as string });
  });

  it('names the shard that was not analysed', async () => {
    const { run, plan, store } = await analysed(0.7);
    await store.delete(`${plan.analysis}shard-00007.jsonl`);
    await expect(planViews({ run }, context)).rejects.toMatchObject({ code: 'ImagesUnaccounted', message: expect.stringMatching(/shard-00007\.jsonl is missing: shard 7 has not been analysed/) as string });
  });
});
