import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os';
import { float32 } from '../tensor.ts';
import { listBuiltinModels } from './builtinModels.ts';

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What is there, or what is wrong and what to do. */
  readonly found: string;
}

/** The least that the demo needs (GiB). */
const memoryNeeded = 4;

/** Tries everything that a run needs on this machine. */
export async function examine(storeLocation: string): Promise<Check[]> {
  const packages = createRequire(import.meta.url);
  const version = (name: string): string => (packages(`${name}/package.json`) as { version: string }).version;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const memory = totalmem() / 2 ** 30;
  const attempt = async (name: string, work: () => Promise<string>): Promise<Check> => {
    try { return { name, ok: true, found: await work() }; } catch (error) {
      return { name, ok: false, found: (error as Error).message.split('\n')[0]! };
    }
  };
  return [
    { name: 'genview', ok: true, found: (packages('../../package.json') as { version: string }).version },
    { name: 'node', ok: major > 20 || (major === 20 && minor >= 19), found: `${process.versions.node} on ${platform()} ${arch()} (20.19 or later is needed)` },
    { name: 'processor', ok: true, found: `${availableParallelism()} cores, ${cpus()[0]?.model.trim() ?? 'unknown'}` },
    { name: 'memory', ok: memory >= memoryNeeded * 0.9, found: `${memory.toFixed(1)} GiB (the demo needs ${memoryNeeded})` },
    await attempt('engine', async () => {
      // A square root, compiled and run: the same way that every network goes.
      const tf = await import('@tensorflow/tfjs');
      const [{ compileInference }, { executorName }, { describeEngine }] = await Promise.all([import('../runtime/compile.ts'), import('../runtime/executor.ts'), import('../runtime/device.ts')]);
      const engine = await describeEngine();
      const program = await compileInference((inputs) => ({ root: tf.sqrt(inputs['x']!) }), { x: { shape: [2] } }, {}, { name: 'doctor', threads: 1 });
      const { root } = await program.run({ x: float32(new Float32Array([4, 9]), [2]) });
      await program.dispose();
      const roots = [...root!.data].join(' and ');
      if (roots !== '2 and 3') throw new Error(`executor ${executorName()} computes wrong results: the roots of 4 and 9 are ${roots}`);
      return `tf.js ${version('@tensorflow/tfjs')}, onnxruntime ${version('onnxruntime-node')}, computes; ${engine}`;
    }),
    await attempt('image decoder', async () => {
      const { encodePng, decodeImage } = await import('../dataset/image.ts');
      const { data } = await decodeImage(await encodePng({ width: 1, height: 1, data: Uint8Array.of(1, 2, 3) }));
      if ([...data].join() !== '1,2,3') throw new Error('sharp does not decode what it encoded');
      const { default: sharp } = await import('sharp');
      return `sharp ${sharp.versions.sharp ?? ''} with libvips ${sharp.versions.vips}, decodes`;
    }),
    ...(await listBuiltinModels()).map(({ name, bytes, file }): Check => bytes === null
      ? { name, ok: false, found: `${file} is missing; reinstall genview, or train it: genview models train-demo` }
      : { name, ok: true, found: `${(bytes / 2 ** 20).toFixed(1)} MiB` }),
    await attempt('store', async () => {
      const [{ toUrl }, { openStore }] = await Promise.all([import('../recipe/location.ts'), import('../storage/index.ts')]);
      const store = openStore(toUrl(storeLocation));
      const key = `doctor-${randomUUID()}`;
      try {
        await store.put(key, 'written by genview doctor\n', { ifNoneMatch: '*' });
        await store.get(key);
      } finally { await store.delete(key); }
      return `${store.root} can be written and read`;
    }),
  ];
}
