import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it.each(['src/runtime/compile.ts', 'src/foreground/encoder.ts', 'src/runtime/channelBlock.ts', 'src/runtime/native/api.ts'])('%s turns off the reports of onnxruntime', async (file) => {
  const { ORT_DISABLE_TELEMETRY: _, ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', `await import(${JSON.stringify(fileURLToPath(new URL(`../../${file}`, import.meta.url)))}); console.log('telemetry off:', process.env.ORT_DISABLE_TELEMETRY);`], { env, cwd: fileURLToPath(new URL('../..', import.meta.url)) });
  expect(stdout.trim()).toBe('telemetry off: 1');
});
