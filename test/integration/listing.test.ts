import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bundleFunction } from '../../bench/sharding/bundle.ts';
import { invoke, type Call } from '../../bench/sharding/invoke.ts';
import { startServer, type RequestKind, type Server } from '../../bench/sharding/server.ts';
import { imagenetLike } from '../../bench/sharding/simulated.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { openStore, writeJson } from '../../src/storage/index.ts';
import type { ObjectStore } from '../../src/storage/objectStore.ts';

/** The function ends its calls 30 seconds before this: after about two. */
const limit = 32_000;
const before = { ...process.env };
const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-listing-'));
let server: Server, program: string;
let onRequest: ((kind: RequestKind, key: string) => boolean) | undefined;
beforeAll(async () => {
  program = await bundleFunction(folder);
  server = await startServer({ simulated: { images: imagenetLike(24_000, 40) }, latency: 10, onRequest: (kind, key) => onRequest?.(kind, key) ?? true });
  Object.assign(process.env, { AWS_ENDPOINT_URL_S3: server.endpoint, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' });
});
const children: ChildProcess[] = [];
afterEach(() => {
  onRequest = undefined;
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(async () => { await server.close(); process.env = before; rmSync(folder, { recursive: true }); });

/** A process as Lambda has one for each execution environment. */
function environment(): ChildProcess {
  const child = fork(program, { execArgv: ['--max-old-space-size=256'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'], env: { ...process.env } });
  children.push(child);
  return child;
}

let stores = 0;
async function prepare(): Promise<{ store: ObjectStore; run: string }> {
  const store = openStore(`s3://store-${++stores}/`);
  const recipe = parseRecipe('name: test\ndataset: { url: "s3://images/", shardSize: 400 }\n', 'test.yaml');
  await writeJson(store, 'runs/r/recipe.json', { runId: 'r', store: store.root, recipe, models: { encoder: 'e', generator: 'g' } });
  return { store, run: store.url('runs/r/') };
}

/** @param event the continuation that the call was given: it is given again, as the workflow does, when a call found no time on a busy machine */
function answer({ result, error }: Call, event: string | null): string | null {
  if (error?.name === 'FunctionTimedOut') return event;
  if (!result) throw new Error(`${error?.name}: ${error?.message}`);
  return result.continuation;
}

async function toEnd(child: ChildProcess, run: string, continuation: string | null = null): Promise<number> {
  for (let calls = 1; ; calls++) {
    const call = await invoke(child, { run, continuation }, limit, `call-${calls}`);
    continuation = answer(call, continuation);
    if (continuation === null && call.result) return calls;
  }
}

async function objectsOf(store: ObjectStore): Promise<Record<string, string>> {
  const objects: Record<string, string> = {};
  for await (const { key } of store.list('')) if (!key.endsWith('recipe.json')) objects[key] = createHash('sha256').update(await store.get(key)).digest('hex');
  return objects;
}

describe('the function that lists a dataset', () => {
  let quiet: Record<string, string>;
  beforeAll(async () => {
    const { store, run } = await prepare(), calls = await toEnd(environment(), run);
    expect(calls).toBeGreaterThan(1);
    console.log(`24,000 images listed in ${calls} calls`);
    quiet = await objectsOf(store);
    // 60 shards, sample, dataset.json, its marker, plan.json.
    expect(Object.keys(quiet)).toHaveLength(64);
  });

  it.each<[string, (kind: RequestKind, key: string) => boolean]>([
    ['lists', (kind) => kind === 'LIST'],
    ['writes parts of the listing', (kind, key) => kind === 'PUT' && key.includes('/part-')],
    ['writes shards', (kind, key) => kind === 'PUT' && key.includes('/shard-')],
    ['has just ended', (kind, key) => kind === 'DELETE' && key.includes('/listing/')],
  ])('may be killed while it %s: the same event again goes on, to the same objects', async (what, moment) => {
    const { store, run } = await prepare();
    let child = environment(), continuation: string | null = null, kills = 0, seen = 0;
    // The first two calls that come to this moment end there. On a busy machine a call may not come to it three times.
    onRequest = (kind, key) => { if (kills < 2 && moment(kind, key) && ++seen === 3) { seen = 0; kills++; child.kill('SIGKILL'); } return true; };
    for (let call = 1; ; call++) {
      const outcome: Call | Error = await invoke(child, { run, continuation }, limit, `call-${call}`).catch((error: Error) => error);
      if (outcome instanceof Error) {
        expect(outcome.message).toBe("the function's process ended (SIGKILL)");
      } else {
        continuation = answer(outcome, continuation);
        if (continuation === null && outcome.result) break;
      }
      // Also one that had answered just before.
      if (child.killed) child = environment();
      expect(call).toBeLessThan(60);
    }
    expect(kills).toBeGreaterThan(0);
    console.log(`killed ${kills} times while it ${what}`);
    // What a killed call left behind goes with the listing; only that of a first call has no name that a later one could know.
    const objects = Object.entries(await objectsOf(store)), left = objects.filter(([key]) => key.startsWith('runs/r/listing/'));
    expect(Object.fromEntries(objects.filter((object) => !left.includes(object)))).toEqual(quiet);
    expect(new Set(left.map(([key]) => key.split('/')[3])).size).toBeLessThan(3);
  });

  it('may be called twice with every event, at the same time, in two processes', async () => {
    const { store, run } = await prepare();
    const both = [environment(), environment()];
    let continuation: string | null = null;
    for (let call = 1; ; call++) {
      const event: string | null = continuation;
      const calls: Call[] = await Promise.all(both.map((child) => invoke(child, { run, continuation: event }, limit, `call-${call}`)));
      if (calls.every(({ result }) => result?.continuation === null)) break;
      // What either answers goes on; one may have ended, and the other is told so when it comes again.
      const answers: (string | null)[] = calls.map((one) => answer(one, event));
      continuation = answers[call % 2] ?? answers[(call + 1) % 2]!;
      expect(call).toBeLessThan(60);
    }
    const objects = Object.entries(await objectsOf(store)).filter(([key]) => !key.startsWith('runs/r/listing/'));
    expect(Object.fromEntries(objects)).toEqual(quiet);
  });

  it('comes to the same objects when one request in twenty is cut off', async () => {
    const { store, run } = await prepare();
    let requests = 0, cut = 0;
    onRequest = () => { if (++requests % 20 !== 0) return true; cut++; return false; };
    await toEnd(environment(), run);
    onRequest = undefined;
    expect(cut).toBeGreaterThan(10);
    console.log(`${cut} of ${requests} requests cut off`);
    expect(await objectsOf(store)).toEqual(quiet);
  });
});
