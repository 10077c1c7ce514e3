/** Our side of `npm run bench -- engine`, with the protocol of peer.py: node --import tsx ours.ts <row> <threads> <warm-up steps> */
import { createInterface } from 'node:readline';
import { rows } from './rows.ts';

const [name = '', threads = '1', warmup = '1'] = process.argv.slice(2);
const row = rows[name];
if (!row) throw new Error(`unknown row ${name}`);
const { program, inputs } = await row.open(Number(threads));
for (let i = 0; i < Number(warmup); i++) await program.run(inputs);
console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now();
  await program.run(inputs);
  console.log((performance.now() - start) / 1000, process.resourceUsage().maxRSS / 1024);
}
