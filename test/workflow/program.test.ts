import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { joinCollective } from '../../src/distributed/collective.ts';
import { freePort } from '../integration/support/ports.ts';
import { metricsOf } from '../emf.ts';
import { startMetadata, type Notice } from './metadataServer.ts';

const program = fileURLToPath(new URL('fixtures/program.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'program-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Standard error (without progress lines) and the exit status. @param heard called with all of standard error so far */
function run(args: readonly string[], env: NodeJS.ProcessEnv = {}, heard = (_text: string): void => {}): Promise<[number | null, string]> {
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], { env: { ...process.env, FIXTURE_FOLDER: folder, ...env }, stdio: ['ignore', 'inherit', 'pipe'] });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (part: string) => { text += part; heard(text); });
  return new Promise((resolve) => { child.on('close', (code) => resolve([code, text])); });
}

/** The notice of an end so many milliseconds after it is read, however long the program takes to start. */
const endsIn = (milliseconds: number) => (): Notice => ({ action: 'terminate', time: new Date(Date.now() + milliseconds).toISOString() });

describe('a program', () => {
  it.concurrent.each<[string, string[], NodeJS.ProcessEnv, string]>([
    ['no stage', [], {}, 'no stage given; usage: <fit-foreground | analyze-foreground | pretrain> --run <url> [--variant <name>]'],
    ['a stage of another image', ['linear-probe', '--run', 'r', '--variant', 'v'], {}, '"linear-probe" is not a stage of this program'],
    ['no run', ['fit-foreground'], {}, '--run is missing'],
    ['no variant', ['pretrain', '--run', 'r'], {}, 'pretrain needs --variant'],
    ['no shard', ['analyze-foreground', '--run', 'r'], {}, 'AWS_BATCH_JOB_ARRAY_INDEX must be its number, not ""'],
    ['an unknown executor', ['fit-foreground', '--run', 'r'], { GENVIEW_EXECUTOR: 'cuda' }, 'GENVIEW_EXECUTOR is "cuda"; give onnxruntime or tensorflow'],
    ['a device that is not there', ['fit-foreground', '--run', 'r'], { GENVIEW_DEVICE: 'cuda:99' }, 'device cuda:99 cannot be had: '],
    ['an unknown option', ['fit-foreground', '--run', 'r', '--shard', '1'], {}, "Unknown option '--shard'"],
  ])('refuses %s in one line, with exit status 2', async (_name, args, env, message) => {
    const [code, text] = await run(args, env);
    expect(code).toBe(2);
    expect(text).toContain(message);
    expect(text.trim().split('\n')).toHaveLength(1);
  });

  it.concurrent('tells the main node of its job why it cannot even begin', async () => {
    const job = { AWS_BATCH_JOB_NUM_NODES: '2', AWS_BATCH_JOB_MAIN_NODE_INDEX: '0', AWS_BATCH_JOB_ATTEMPT: '1', GENVIEW_RENDEZVOUS_PORT: String(await freePort()), GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1' };
    const main = joinCollective({ env: { ...job, AWS_BATCH_JOB_NODE_INDEX: '0', AWS_BATCH_JOB_ID: 'job#0' } });
    const [[code]] = await Promise.all([
      run(['pretrain', '--run', 'r', '--variant', 'v'], { ...job, AWS_BATCH_JOB_NODE_INDEX: '1', AWS_BATCH_JOB_ID: 'job#1', AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1', GENVIEW_DEVICE: 'cuda:99' }),
      expect(main).rejects.toMatchObject({ code: 'DeviceUnavailable', exitCode: 2, message: expect.stringMatching(/^rank 1 of 2 \(node 1\): device cuda:99 cannot be had: /) as string }),
    ]);
    expect(code).toBe(2);
  });

  it.concurrent('ends with the exit status and one line of a GenViewError', async () => {
    const [code, text] = await run(['fit-foreground', '--run', 'r'], { FIXTURE_BEHAVIOUR: 'always-75' });
    expect([code, text.trim().split('\n').at(-1)]).toEqual([75, 'error: rank 1 is gone']);
  });

  it.concurrent('ends with 1 and the stack of anything else', async () => {
    const [code, text] = await run(['fit-foreground', '--run', 'r'], { FIXTURE_BEHAVIOUR: 'defect' });
    expect(code).toBe(1);
    expect(text).toMatch(/error: TypeError: cannot read undefined\n +at /);
  });

  it.concurrent('ends with 0 when done, though its parent gives it no standard input', async () => {
    expect((await run(['fit-foreground', '--run', 'r']))[0]).toBe(0);
  });

  it.concurrent('says first what it runs on, and on every line which part of which run it is', async () => {
    const [code, text] = await run(['analyze-foreground', '--run', 's3://bucket/store/runs/demo-1/'], { GENVIEW_LOG: 'json', GENVIEW_THREADS: '3', GENVIEW_DEVICE: 'cpu', AWS_BATCH_JOB_ARRAY_INDEX: '4', AWS_BATCH_JOB_ATTEMPT: '2' });
    expect(code).toBe(0);
    const lines = text.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    for (const line of lines) expect(line).toMatchObject({ run: 'demo-1', stage: 'analyze-foreground', shard: 4, attempt: 2 });
    expect(lines[0]).toMatchObject({ executor: 'onnxruntime', device: 'cpu', threads: 3, versions: { genview: expect.stringMatching(/^\d/) as string, node: process.versions.node, onnxruntime: '1.30.0' } });
    expect(lines[0]!['memoryGiB']).toBeGreaterThan(0.5);
    expect(lines[0]!['memoryGiB']).toBeLessThanOrEqual(totalmem() / 2 ** 30 + 0.1);
    expect(lines.at(-1)).toMatchObject({ message: expect.stringMatching(/^analyze-foreground: done in/) as string });
    expect(text.split('\n').filter(Boolean).flatMap(metricsOf)).toEqual([]);
  });

  it.concurrent('makes a metric of its duration where CloudWatch reads the log, on the main node alone', async () => {
    const env = { GENVIEW_LOG: 'json', GENVIEW_METRICS: 'emf', GENVIEW_DEPLOYMENT: 'team', AWS_BATCH_JOB_NUM_NODES: '2', AWS_BATCH_JOB_MAIN_NODE_INDEX: '0' };
    const metrics = async (node: string) => (await run(['pretrain', '--run', 'r', '--variant', 'v'], { ...env, AWS_BATCH_JOB_NODE_INDEX: node }))[1].trim().split('\n').flatMap(metricsOf);
    expect((await metrics('0')).map(({ namespace, dimensions, name }) => [namespace, dimensions, name])).toEqual([['GenView', { Deployment: 'team', Stage: 'pretrain' }, 'StageDuration']]);
    expect(await metrics('1')).toEqual([]);
  });

  it.concurrent('takes the notice that its spot instance ends as a request to stop', async () => {
    const metadata = await startMetadata({ lifeCycle: 'spot' });
    try {
      metadata.announce(endsIn(120_000));
      const [code, text] = await run(['fit-foreground', '--run', 'r'], { FIXTURE_BEHAVIOUR: 'wait', AWS_BATCH_JOB_ID: 'job', AWS_BATCH_CE_NAME: 'spot', ...metadata.env });
      expect([code, text.trim().split('\n').at(-1)]).toEqual([75, expect.stringMatching(/^error: stopped: EC2 will terminate this spot instance at 20.*; run the same command again to continue$/)]);
    } finally { metadata.stop(); }
  });

  it.concurrent.each<[string, number, string, number]>([
    ['finishes a shard when the notice leaves the time', 120_000, 'until-told', 0],
    ['leaves a shard when the time is up', 34_000, 'wait', 75],
    ['leaves a shard at once when the notice comes late', 20_000, 'wait', 75],
  ])('%s', async (_name, left, behaviour, expected) => {
    const metadata = await startMetadata({ lifeCycle: 'spot' }), own = mkdtempSync(join(folder, 'shard-'));
    try {
      metadata.announce(endsIn(left));
      const env = { FIXTURE_FOLDER: own, FIXTURE_BEHAVIOUR: behaviour, AWS_BATCH_JOB_ARRAY_INDEX: '0', AWS_BATCH_JOB_ID: 'job', AWS_BATCH_CE_NAME: 'spot', ...metadata.env };
      // The shard is done once the notice has been taken.
      const [code, text] = await run(['analyze-foreground', '--run', 'r'], env, (said) => { if (said.includes('the shard has')) writeFileSync(join(own, 'go'), ''); });
      expect(code, text).toBe(expected);
      expect(text.includes('the shard has'), text).toBe(left > 30_000);
    } finally { metadata.stop(); }
  });
});
