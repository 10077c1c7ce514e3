import { build } from 'esbuild';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Bundles `function.ts`, and so the Lambda function, as the CDK app does. @returns the file to start */
export async function bundleFunction(folder: string): Promise<string> {
  const outfile = path.join(folder, 'function.mjs');
  await build({
    entryPoints: [fileURLToPath(new URL('function.ts', import.meta.url))], outfile, bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'silent',
    external: ['sharp', 'onnxruntime-node', '@tensorflow/*'],
    banner: { js: "import { createRequire as bannerRequire } from 'node:module'; const require = bannerRequire(import.meta.url);" },
  });
  return outfile;
}
