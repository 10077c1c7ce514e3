import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/log.ts';
import { openStore } from '../../src/storage/index.ts';
import { execute } from '../../src/workflow/asl/interpreter.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { localRefs, runLocal } from '../../src/workflow/local.ts';
import { artefactsIn } from './support/artefacts.ts';
import { containerHandlers } from './support/containerBatch.ts';
import { cuda11, cuda13, makeCudaBase, makeOnlineBase } from './support/cudaBases.ts';
import { debianTar, openDocker, type Docker } from './support/docker.ts';
import { buildTarget, makeBases, type Bases } from './support/images.ts';
import { installMoto, startMoto, type Moto } from './support/moto.ts';
import { relay } from './support/relay.ts';
import { makeSmallRun, uploadSmallRun, type SmallRun } from './support/smallRun.ts';
import { startTensorflowMirror, type TensorflowMirror } from './support/tensorflowMirror.ts';

const prefix = `genview-gpu-test-${randomBytes(4).toString('hex')}`;
const image = (name: string): string => `${prefix}-${name}`;
const dockerfile = readFileSync(new URL('../../containers/Dockerfile', import.meta.url), 'utf8');
const argument = (name: string): string => new RegExp(`^ARG ${name}=(.+)$`, 'm').exec(dockerfile)![1]!;
/** What NVIDIA's base has for onnxruntime's CUDA library, in the order that it names them. */
const fromCuda = ['libcublasLt.so.13', 'libcublas.so.13', 'libcurand.so.10', 'libcudart.so.13'];
const fromDriver = ['libcuda.so.1'];

const opened = await openDocker();
const docker = typeof opened === 'string' ? undefined : opened;
const debian = docker && await debianTar();
const reachable = async (url: string): Promise<string | undefined> => fetch(url, { method: 'HEAD' }).then(({ ok, status }) => ok ? undefined : `${url}: ${status}`, (error: unknown) => `${url} cannot be reached: ${String(error)}`);
const missing = typeof opened === 'string' ? opened : 'missing' in debian! ? debian.missing : await reachable(argument('ONNXRUNTIME_CUDA_URL'));
const whole = process.env['GENVIEW_TEST_GPU_IMAGES'] === '1';
const missingForJobs = whole ? installMoto() : "the images with CUDA's libraries take 4 GB of PyPI, 30 GB of disk and a quarter of an hour; GENVIEW_TEST_GPU_IMAGES=1 builds them";
if (missing !== undefined) {
  console.warn(`skipped: ${missing}`);
  await docker?.stop();
} else if (missingForJobs !== undefined) console.warn(`skipped in part: ${missingForJobs}`);

describe.skipIf(missing !== undefined)('images for the GPU', () => {
  let bases: Bases, args: Readonly<Record<string, string>>, mirror: TensorflowMirror | undefined, folder: string;
  const client = (): Docker => docker!;
  const build = (target: string): Promise<void> => buildTarget(client(), target, bases, image(target), { args, network: 'host' });

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'genview-gpu-'));
    const { tar } = debian as { tar: string };
    const made = await makeBases(client(), tar, prefix);
    await client().run(['import', tar, image('no-cuda')]);
    const cuda = whole && { CUDA_BASE: await makeCudaBase(client(), image('no-cuda'), cuda13, prefix), TENSORFLOW_CUDA_BASE: await makeCudaBase(client(), image('no-cuda'), cuda11, prefix) };
    if (whole) mirror = await startTensorflowMirror(argument('TFJS_NODE_GPU'));
    await makeOnlineBase(client(), made.build, image('online'));
    bases = { runtime: made.runtime, build: image('online') };
    args = { DEVICE: 'cuda', CUDA_BASE: image('no-cuda'), ...cuda, ...mirror?.args };
  });
  afterAll(async () => {
    mirror?.close();
    rmSync(folder, { recursive: true, force: true });
    const images = (await client().run(['images', '--quiet', '--filter', `reference=${prefix}-*`])).split('\n').filter(Boolean);
    if (images.length > 0) await client().run(['rmi', '--force', ...new Set(images)]);
    await client().stop();
  });

  interface Outcome { readonly code: number; readonly lines: readonly { readonly message?: string; readonly device?: string }[]; readonly text: string }

  /** Runs a container to its end; without a network, as user 1000. */
  const runImage = async (name: string, flags: readonly string[], ...command: readonly string[]): Promise<Outcome> => {
    const child = client().start(['run', '--rm', '--network', 'none', '--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL', ...flags, image(name), ...command]);
    let text = '';
    for (const stream of [child.stdout!, child.stderr!]) stream.setEncoding('utf8').on('data', (part: string) => { text += part; });
    const code = await new Promise<number>((resolve, reject) => { child.once('error', reject); child.once('close', (status) => resolve(status ?? -1)); });
    const lines = text.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as { message?: string });
    return { code, lines, text };
  };
  /** A GPU's device file, which is all that a container sees of one whose driver's libraries were left out. */
  const deviceFile = ['--volume', '/dev/null:/dev/nvidia0'];
  const start = (name: string, flags: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
    runImage(name, [...flags, ...Object.entries(env).flatMap(([key, value]) => ['--env', `${key}=${value}`])], name === 'pretraining' ? 'pretrain' : 'fit-foreground', '--run', '/tmp/runs/none/', ...(name === 'pretraining' ? ['--variant', 'baseline'] : []));

  it("are built with onnxruntime's CUDA library, which finds all that its base has", async () => {
    const base = Number(await client().run(['inspect', '--format', '{{.Size}}', args['CUDA_BASE']!]));
    const above: string[] = [];
    for (const target of ['foreground', 'generation', 'evaluation', ...(whole ? ['pretraining'] : [])]) {
      await build(target);
      above.push(`${target} ${Math.round((Number(await client().run(['inspect', '--format', '{{.Size}}', image(target)])) - base) / 1e6)}`);
      const library = 'node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so';
      const { text } = await runImage(target, ['--entrypoint', 'ldd'], library);
      expect([...text.matchAll(/^\s*(\S+) => not found/gm)].map((match) => match[1]), target).toEqual([...whole ? [] : fromCuda, ...fromDriver]);
      const packages = (await runImage(target, ['--entrypoint', 'ls'], 'node_modules', 'node_modules/@img', 'node_modules/onnxruntime-node/bin/napi-v6')).text;
      expect(packages).toContain('onnxruntime-node');
      for (const absent of ['tsx', 'esbuild', 'typescript', 'echarts', 'aws-cdk', 'darwin', 'win32']) expect(packages, target).not.toContain(absent);
      expect((await runImage(target, ['--entrypoint', 'id'])).text).toContain('uid=1000');
    }
    console.info(`megabytes on the base of ${Math.round(base / 1e6)}: ${above.join(', ')}`);
  });

  it('compute on the CPU where no GPU can be used, and say why; a GPU that is asked for is refused', async () => {
    const needs = `onnxruntime's CUDA library needs ${[...whole ? [] : fromCuda, ...fromDriver].join(', ')}; `;
    const [without, useless, asked, first] = await Promise.all([start('foreground', []), start('foreground', deviceFile), start('foreground', deviceFile, { GENVIEW_DEVICE: 'cuda' }), start('foreground', [], { GENVIEW_DEVICE: 'cuda:0' })]);
    expect(without.lines[0]).toMatchObject({ device: 'cpu', message: expect.stringMatching(/executor onnxruntime, device cpu: no NVIDIA GPU is visible$/) as string });
    expect(useless.lines[0]).toMatchObject({ device: 'cpu', message: expect.stringContaining(`device cpu: ${needs}`) as string });
    // The job itself has begun: there is no such run.
    expect([without, useless].map(({ code, lines }) => [code, lines.at(-1)!.message])).toEqual(Array(2).fill([2, expect.stringMatching(/^no run at /)]));
    expect([asked.code, asked.lines.map(({ message }) => message)]).toEqual([2, [expect.stringContaining(`device cuda:0 cannot be had: ${needs}`)]]);
    expect([first.code, first.lines.map(({ message }) => message)]).toEqual([2, ['device cuda:0 cannot be had: no NVIDIA GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or choose the device cpu']]);
  });

  describe.skipIf(missingForJobs !== undefined)("with CUDA's libraries", () => {
    it('reach the driver, and say what it says', async () => {
      const source = path.join(folder, 'driver.c'), library = path.join(folder, 'libcuda.so.1');
      writeFileSync(source, driverWithoutGpu);
      execFileSync('gcc', ['-shared', '-fPIC', '-Wl,-soname,libcuda.so.1', '-o', library, source]);
      const driver = [...deviceFile, '--volume', `${library}:/usr/lib/x86_64-linux-gnu/libcuda.so.1:ro`];
      const says = 'onnxruntime cannot use GPU 0 (CUDA failure 100: no CUDA-capable device is detected); look at nvidia-smi';
      expect((await start('foreground', driver)).lines[0]!.message).toMatch(new RegExp(`device cpu: ${says.replaceAll(/[()]/g, '\\$&')}$`));
      expect(await start('foreground', driver, { GENVIEW_DEVICE: 'cuda' })).toMatchObject({ code: 2, lines: [{ message: `device cuda:0 cannot be had: ${says}, or choose the device cpu` }] });
      // Loaded when they are needed, not with the library; without cuDNN there are no convolutions.
      const load = (names: readonly string[]): string => `const { default: koffi } = await import('koffi'); for (const name of ${JSON.stringify(names)}) koffi.load(name); console.log('loaded');`;
      expect((await runImage('generation', ['--entrypoint', 'node'], '--input-type=module', '--eval', load(['libcudnn.so.9', 'libcufft.so.12', 'libnvrtc.so.13']))).text).toBe('loaded\n');
      const hidden = ['libcudnn.so.9'].flatMap((name) => ['--volume', `/dev/null:/usr/lib/x86_64-linux-gnu/${name}`]);
      expect((await start('foreground', [...driver, ...hidden])).lines[0]!.message).toContain("device cpu: onnxruntime's CUDA library needs libcudnn.so.9; ");
    });

    it("have TensorFlow's libraries of CUDA 11, which it finds beside those of CUDA 13", async () => {
      // What libtensorflow itself calls before it looks for GPUs; its status is a null pointer when all were found.
      const find = `const { default: koffi } = await import('koffi'); const { readFileSync } = await import('node:fs'); const status = Buffer.alloc(8, 1);
        koffi.load('/app/node_modules/@tensorflow/tfjs-node-gpu/deps/lib/libtensorflow_framework.so.2').func('void* _ZN15stream_executor8internal9DsoLoader22TryDlopenCUDALibrariesEv(void*)')(status);
        const loaded = [...new Set(readFileSync('/proc/self/maps', 'utf8').match(/\\/\\S*\\/libcu\\S*/g))].map((file) => file.replace(/\\.so\\.(\\d+).*/, '.so.$1'));
        console.log(JSON.stringify({ message: status.readBigUInt64LE().toString(), loaded: loaded.toSorted() }));`;
      const { lines } = await runImage('pretraining', ['--entrypoint', 'node'], '--input-type=module', '--eval', find);
      const eleven = ['libcublas.so.11', 'libcublasLt.so.11', 'libcudart.so.11', 'libcudnn.so.8', 'libcufft.so.10', 'libcusolver.so.11', 'libcusparse.so.11'];
      expect(lines).toEqual([{ message: '0', loaded: [...eleven.map((name) => `/opt/cuda-11/${name}`), '/usr/local/cuda-13.0/targets/x86_64-linux/lib/libcurand.so.10'] }]);
      const refused = await start('pretraining', [], { GENVIEW_EXECUTOR: 'tensorflow', GENVIEW_DEVICE: 'cuda' });
      expect([refused.code, refused.lines.map(({ message }) => message)]).toEqual([2, ['device cuda:0 cannot be had: no NVIDIA GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or choose the device cpu']]);
    });

    describe('and a store', () => {
      const bucket = 'genview-gpu-images';
      let moto: Moto | undefined, small: SmallRun | undefined, gateway: string;
      const relays: net.Server[] = [];

      beforeAll(async () => {
        [small, moto] = await Promise.all([makeSmallRun(), startMoto(bucket)]);
        Object.assign(process.env, moto.env);
        await uploadSmallRun(small, openStore(`s3://${bucket}/recipes/`));
        await build('functions');
        await client().run(['network', 'create', prefix]);
        gateway = await client().run(['network', 'inspect', '--format', '{{(index .IPAM.Config 0).Gateway}}', prefix]);
      });
      afterAll(async () => {
        for (const server of relays) server.close();
        moto?.stop();
        if (small) rmSync(small.folder, { recursive: true, force: true });
        const running = await client().run(['ps', '--quiet', '--filter', `network=${prefix}`]);
        if (running !== '') await client().run(['kill', ...running.split('\n')]);
        await client().run(['network', 'rm', prefix]).catch(() => {});
      });

      it('compute on the CPU what child processes compute, byte for byte; pretraining on TensorFlow comes near', async () => {
        const recipe = `s3://${bucket}/recipes/small.yaml`, signal = new AbortController().signal, cores = 2;
        const processes = `s3://${bucket}/processes/`;
        await runLocal({ recipe, store: processes, log: silentLog, signal, cores });
        const behind = await relay(gateway, Number(new URL(moto!.env['AWS_ENDPOINT_URL_S3']!).port));
        relays.push(behind.server);

        const run = async (store: string, pretraining: Readonly<Record<string, string>> = {}): Promise<readonly string[]> => {
          const lines: string[] = [];
          const { handlers } = containerHandlers({ docker: client(), image, network: prefix, cores, variants: [1, 2], env: { ...moto!.env, AWS_ENDPOINT_URL_S3: behind.url }, extra: ({ stage }) => (stage === 'pretrain' ? pretraining : {}), onLine: (line) => lines.push(line) });
          await execute(buildWorkflow(localRefs), { recipe, store }, { handlers }).catch((error: unknown) => { throw new Error(`${String(error)}\n${lines.slice(-20).join('\n')}`, { cause: error }); });
          return lines;
        };
        const contained = `s3://${bucket}/contained/`;
        await run(contained);
        const expected = await artefactsIn(openStore(processes));
        expect(Object.keys(expected).filter((key) => /\.tar$|encoder\.safetensors$|linear\.json$|similarity\.json$/.test(key)).length).toBeGreaterThanOrEqual(2 + 2 + 2 + 1);
        expect(await artefactsIn(openStore(contained))).toEqual(expected);

        // The same run without its pretraining, which alone is computed anew.
        const eager = `s3://${bucket}/tensorflow/`, from = openStore(contained), to = openStore(eager);
        for await (const { key } of from.list('')) if (/^(?:datasets|foreground|analysis|views)\//.test(key)) await to.put(key, await from.get(key));
        const lines = await run(eager, { GENVIEW_EXECUTOR: 'tensorflow', TF_CPP_MIN_LOG_LEVEL: '2' });
        expect(lines.filter((line) => line.includes('tensorflow executor: @tensorflow/tfjs-node-gpu, on the CPU')).length).toBe(3);
        const losses = async (store: string): Promise<number[]> => {
          const found: number[] = [];
          for (const key of Object.keys(expected).filter((name) => /^pretrain\/.*metrics\.jsonl$/.test(name))) {
            for (const line of new TextDecoder().decode(await openStore(store).get(key)).trim().split('\n')) found.push((JSON.parse(line) as { loss: number }).loss);
          }
          return found;
        };
        const [compiled, computed] = [await losses(contained), await losses(eager)];
        expect(computed.length).toBe(compiled.length);
        expect(compiled.length).toBeGreaterThan(10);
        compiled.forEach((loss, step) => expect(Math.abs(computed[step]! / loss - 1), `loss of step ${step}`).toBeLessThan(1e-3));
      });
    });
  });
});

/** As much of NVIDIA's driver as is asked before there is a GPU: it is new enough, and has none. */
const driverWithoutGpu = `
#include <string.h>
int cuInit(unsigned flags) { return 100; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuTensorMapEncodeTiled(void) { return 100; }
int cuGetProcAddress_v2(const char *name, void **address, int version, unsigned long flags, int *status) {
  if (!strcmp(name, "cuDriverGetVersion")) *address = (void *)cuDriverGetVersion;
  else if (!strcmp(name, "cuGetProcAddress")) *address = (void *)cuGetProcAddress_v2;
  else *address = (void *)cuInit;
  if (status) *status = 0;
  return 0;
}
int cuGetProcAddress(const char *name, void **address, int version, unsigned long flags) { return cuGetProcAddress_v2(name, address, version, flags, 0); }
`;
