import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { GenViewError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import { rows } from './engine/rows.ts';

/** An event of onnxruntime's profile. */
interface Event { readonly cat: string; readonly name: string; readonly dur: number; readonly args?: { readonly op_name?: string; readonly input_type_shape?: unknown } }

/** `npm run bench -- profile [--row resnet18-mocov2] [--threads 1] [--steps 4] [--shapes 20]`: where a step's time goes, by operator and by operator and shapes, from onnxruntime's own profiler. */
export async function run(args: string[], log: Log): Promise<void> {
  const { values } = parseArgs({ args, options: { row: { type: 'string', default: 'resnet18-mocov2' }, threads: { type: 'string', default: '1' }, steps: { type: 'string', default: '4' }, shapes: { type: 'string', default: '20' } } });
  const row = rows[values.row], steps = Number(values.steps);
  if (!row) throw new GenViewError('OptionInvalid', `--row: there is no ${values.row}; rows are ${Object.keys(rows).join(', ')}`);
  const folder = await mkdtemp(join(tmpdir(), 'genview-profile-'));
  try {
    const { program, inputs } = await row.open(Number(values.threads), join(folder, 'profile'));
    for (let step = 0; step < steps; step++) {
      const start = performance.now();
      await program.run(inputs);
      log.info(`${row.label}: step ${step + 1} of ${steps}, ${((performance.now() - start) / 1000).toFixed(2)} s`);
    }
    await program.dispose();
    const events = JSON.parse(await readFile(join(folder, (await readdir(folder))[0]!), 'utf8')) as Event[];
    const kernels = events.filter(({ cat, name, args: details }) => cat === 'Node' && name.endsWith('_kernel_time') && details?.op_name);
    const sums = (key: (event: Event) => string): [string, number, number][] => {
      const all = new Map<string, [number, number]>();
      for (const event of kernels) {
        const [time, count] = all.get(key(event)) ?? [0, 0];
        all.set(key(event), [time + event.dur / 1000, count + 1]);
      }
      return [...all].map(([name, [time, count]]) => [name, time / steps, count / steps] as [string, number, number]).toSorted((a, b) => b[1] - a[1]);
    };
    const operators = sums(({ args: details }) => details!.op_name!), total = operators.reduce((sum, [, time]) => sum + time, 0);
    const print = (list: [string, number, number][]): void => {
      for (const [name, time, count] of list) console.log(`${time.toFixed(1).padStart(9)} ms ${(100 * time / total).toFixed(1).padStart(5)} % ${count.toFixed(0).padStart(6)}  ${name}`);
    };
    console.log(`${row.label}, batch ${row.batch}, ${values.threads} threads: ${total.toFixed(0)} ms in operators, mean of ${steps} steps; time, share, calls a step`);
    print(operators.slice(0, 20));
    print(sums(({ args: details }) => `${details!.op_name!} ${JSON.stringify(details!.input_type_shape)}`).slice(0, Number(values.shapes)));
  } finally { await rm(folder, { recursive: true, force: true }); }
}
