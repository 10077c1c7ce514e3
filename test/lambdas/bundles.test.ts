import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { lambdaNames, lambdaStages } from '../../src/workflow/stages.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const native = ['sharp', 'onnxruntime-node', '@tensorflow/*'];

describe('functions that are deployed as a bundle', () => {
  it.each([...lambdaNames.filter((name) => lambdaStages[name].packaging === 'bundle'), 'start-run', 'stop-jobs'])('%s reaches no package with native code, and stays small', async (name) => {
    const { metafile, outputFiles } = await build({ absWorkingDir: root, entryPoints: [`lambdas/${name}/handler.ts`], bundle: true, write: false, metafile: true, platform: 'node', format: 'esm', target: 'node22', external: native, logLevel: 'silent' });
    const reached = Object.entries(metafile.inputs).flatMap(([file, { imports }]) => imports.filter(({ external, path }) => external === true && /^(sharp|onnxruntime|@tensorflow)/.test(path)).map(({ path }) => `${file} imports ${path}`));
    expect(reached).toEqual([]);
    // Minified or not, most of it is the SDK; a cold start reads all of it.
    expect(outputFiles[0]!.contents.length / 2 ** 20).toBeLessThan(2.6);
  });
});
