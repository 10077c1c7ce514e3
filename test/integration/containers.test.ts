import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import type net from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { openStore } from '../../src/storage/index.ts';
import { execute } from '../../src/workflow/asl/interpreter.ts';
import { buildWorkflow, type WorkflowOutput } from '../../src/workflow/definition.ts';
import { localRefs, runLocal } from '../../src/workflow/local.ts';
import { batchStages, programNames } from '../../src/workflow/stages.ts';
import { metricsOf, type EmbeddedMetric } from '../emf.ts';
import { startMetadata, type Metadata } from '../workflow/metadataServer.ts';
import { artefactsIn } from './support/artefacts.ts';
import { containerHandlers, type Container } from './support/containerBatch.ts';
import { debianTar, openDocker, type Docker } from './support/docker.ts';
import { buildTarget, makeBases, type Bases } from './support/images.ts';
import { installMoto, startMoto, type Moto } from './support/moto.ts';
import { relay } from './support/relay.ts';
import { makeSmallRun, uploadSmallRun, type SmallRun } from './support/smallRun.ts';

const targets = ['foreground', 'generation', 'pretraining', 'evaluation', 'functions'];
/** Bytes; the largest that an image for the CPU may be. */
const largest = 450e6;
const prefix = `genview-test-${randomBytes(4).toString('hex')}`;
const image = (name: string): string => `${prefix}-${name}`;

const opened = await openDocker();
const docker = typeof opened === 'string' ? undefined : opened;
const debian = docker && await debianTar();
const missing = typeof opened === 'string' ? opened : 'missing' in debian! ? debian.missing : installMoto();
if (missing !== undefined) {
  console.warn(`skipped: ${missing}`);
  await docker?.stop();
}

describe.skipIf(missing !== undefined)('containers', () => {
  const bucket = 'genview-containers';
  let bases: Bases, moto: Moto | undefined, metadata: Metadata | undefined, small: SmallRun | undefined, gateway: string;
  const relays: net.Server[] = [];
  const client = (): Docker => docker!;

  beforeAll(async () => {
    [bases, small, moto, metadata] = await Promise.all([makeBases(client(), (debian as { tar: string }).tar, prefix), makeSmallRun(), startMoto(bucket), startMetadata({ lifeCycle: 'spot' })]);
    Object.assign(process.env, moto.env);
    await uploadSmallRun(small, openStore(`s3://${bucket}/recipes/`));
    await client().run(['network', 'create', prefix]);
    gateway = await client().run(['network', 'inspect', '--format', '{{(index .IPAM.Config 0).Gateway}}', prefix]);
  });
  afterAll(async () => {
    for (const server of relays) server.close();
    moto?.stop();
    metadata?.stop();
    if (small) rmSync(small.folder, { recursive: true, force: true });
    const running = await client().run(['ps', '--quiet', '--filter', `network=${prefix}`]);
    if (running !== '') await client().run(['kill', ...running.split('\n')]);
    await client().run(['network', 'rm', prefix]).catch(() => {});
    const images = (await client().run(['images', '--quiet', '--filter', `reference=${prefix}-*`])).split('\n').filter(Boolean);
    if (images.length > 0) await client().run(['rmi', '--force', ...new Set(images)]);
    await client().stop();
  });

  it('are built without a network, and hold no more than what runs', async () => {
    const sizes: Record<string, number> = {};
    for (const target of targets) {
      await buildTarget(client(), target, bases, image(target));
      sizes[target] = Number(await client().run(['inspect', '--format', '{{.Size}}', image(target)]));
      expect(sizes[target], target).toBeLessThan(largest);
    }
    const base = Number(await client().run(['inspect', '--format', '{{.Size}}', bases.runtime]));
    console.info(`megabytes on the base of ${Math.round(base / 1e6)}: ${targets.map((target) => `${target} ${Math.round((sizes[target]! - base) / 1e6)}`).join(', ')}`);
    for (const target of ['foreground', 'generation', 'pretraining', 'evaluation']) {
      const packages = await client().run(['run', '--rm', '--network', 'none', '--entrypoint', 'ls', image(target), 'node_modules', 'node_modules/@img', 'node_modules/onnxruntime-node/bin/napi-v6']);
      expect(packages).toContain('onnxruntime-node');
      for (const absent of ['tsx', 'esbuild', 'typescript', 'echarts', 'aws-cdk', 'darwin', 'win32']) expect(packages, target).not.toContain(absent);
      expect(await client().run(['inspect', '--format', '{{.Config.User}}', image(target)])).toBe('1000:1000');
    }
  });

  it('compute what child processes compute, byte for byte, also when some are stopped half-way', async () => {
    const recipe = `s3://${bucket}/recipes/small.yaml`;
    const signal = new AbortController().signal;
    const processes = `s3://${bucket}/processes/`, contained = `s3://${bucket}/contained/`;
    const cores = 2, variants = [1, 2];
    await runLocal({ recipe, store: processes, log: silentLog, signal, cores });

    const store = await relay(gateway, Number(new URL(moto!.env['AWS_ENDPOINT_URL_S3']!).port));
    const service = await relay(gateway, Number(new URL(metadata!.env['AWS_EC2_METADATA_SERVICE_ENDPOINT']!).port));
    relays.push(store.server, service.server);
    const lines: { text: string; container: Container }[] = [];
    const stopped = new Set<string>();
    const { handlers, codes } = containerHandlers({
      docker: client(), image, network: prefix, cores, variants,
      env: { ...moto!.env, AWS_ENDPOINT_URL_S3: store.url },
      // Shard 1 learns at its first attempt that its instance ends soon.
      extra: ({ stage, index, attempt }): Record<string, string> => {
        if (stage !== 'generate-views' || index !== 1 || attempt !== 1) return {};
        metadata!.announce({ action: 'terminate', time: new Date(Date.now() + 20_000).toISOString() });
        return { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: service.url };
      },
      onLine: (text, container) => {
        lines.push({ text, container });
        // As Batch stops a job: SIGTERM, as soon as it has said what it runs on.
        if (container.stage === 'pretrain' && container.index === undefined && container.attempt === 1 && !stopped.has(container.name)) {
          stopped.add(container.name);
          void client().run(['kill', '--signal', 'TERM', container.name]).catch(() => {});
        }
      },
    });
    const output = await execute(buildWorkflow(localRefs), { recipe, store: contained }, { handlers }).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${lines.slice(-20).map(({ text }) => text).join('\n')}`, { cause: error });
    }) as unknown as WorkflowOutput;

    const expected = await artefactsIn(openStore(processes));
    expect(Object.keys(expected).filter((key) => /\.tar$|encoder\.safetensors$|linear\.json$|similarity\.json$/.test(key)).length).toBeGreaterThanOrEqual(2 + 2 + 2 + 1);
    expect(await artefactsIn(openStore(contained))).toEqual(expected);
    expect(await openStore(output.report.slice(0, output.report.lastIndexOf('/') + 1)).head('report.html')).toBeDefined();

    const name = (job: string): number[] => Object.entries(codes).find(([id]) => id.endsWith(job))?.[1] ?? [];
    expect(name('-generate-views:0')).toEqual([0]);
    expect(name('-generate-views:1')).toEqual([75, 0]);
    expect(name('-pretrain-baseline')).toEqual([75, 0]);
    expect(name('-pretrain-genview#0')).toEqual([0]);
    expect(name('-pretrain-genview#1')).toEqual([0]);
    checkLog(lines);
  });
});

/** Every line is JSON and says whose it is; the metrics are those that the dashboard shows, by the rules of CloudWatch. */
function checkLog(lines: readonly { text: string; container: Container }[]): void {
  const metrics: EmbeddedMetric[] = [];
  for (const { text, container: { stage, index, attempt } } of lines) {
    expect(text, 'a line that is no JSON').toMatch(/^\{.*\}$/);
    const line = JSON.parse(text) as Record<string, unknown>;
    expect(line, text).toMatchObject({ run: expect.stringMatching(/^small-/) as string, stage, attempt });
    if (batchStages[stage as keyof typeof batchStages].shape === 'array') expect(line['shard'], text).toBe(index);
    if (batchStages[stage as keyof typeof batchStages].perVariant) expect(line['variant'], text).toMatch(/^(baseline|genview)$/);
    metrics.push(...metricsOf(text));
  }
  expect(metrics.every(({ namespace, dimensions }) => namespace === 'GenView' && Object.keys(dimensions).join() === 'Stage')).toBe(true);
  const stages = (metric: string): string[] => [...new Set(metrics.filter(({ name }) => name === metric).map(({ dimensions }) => dimensions['Stage']!))].toSorted();
  expect(stages('StageDuration')).toEqual([...programNames].toSorted());
  expect(stages('Loss')).toEqual(expect.arrayContaining(['linear-probe', 'pretrain', 'semi-supervised']));
  expect(stages('ImagesPerSecond')).toEqual(expect.arrayContaining(['analyze-foreground', 'fit-foreground', 'generate-views', 'pretrain']));
}
