// One rank of the tests in this folder: does what its first argument says and prints one line of JSON.
import { createHash } from 'node:crypto';
import { joinCollective, type Collective } from '../../src/distributed/collective.ts';
import { GenViewError } from '../../src/errors.ts';
import { Random } from '../../src/random.ts';

const task = process.argv[2];
const print = (value: unknown): void => { process.stdout.write(JSON.stringify(value) + '\n'); };
const hash = (data: Float32Array): string => createHash('sha256').update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).digest('hex');

let joined: Collective | undefined;
try {
  const group = joined = await joinCollective();
  if (task === 'operations') {
    const values = (length: number): Float32Array => new Random('values', group.rank, length).normals(length);
    const sums: Record<string, unknown> = {};
    for (const length of [0, 1, 2, 5, 1000, 200_003]) {
      const data = values(length);
      await group.allReduceSum(data);
      sums[length] = { hash: hash(data), first: [...data.subarray(0, 5)] };
    }
    const gathered = await group.allGather(Float32Array.from({ length: group.rank * 3 }, (_, i) => group.rank * 10 + i));
    const sent = Float32Array.from({ length: 100_000 }, (_, i) => group.rank * 1e6 + i);
    await group.broadcast(sent, group.size - 1);
    const order: string[] = [];
    const together = Float32Array.of(group.rank);
    await Promise.all([group.barrier().then(() => order.push('barrier')), group.allReduceSum(together).then(() => order.push('sum'))]);
    await group.close();
    print({ rank: group.rank, size: group.size, sums, gathered: [...gathered], broadcast: [sent[0], sent[99_999]], order, together: together[0] });
  } else if (task === 'forever') {
    // Says that it is there, then computes with the others until something happens.
    print({ rank: group.rank });
    const data = new Float32Array(10_000).fill(1);
    for (;;) await group.allReduceSum(data.fill(1));
  } else if (task === 'fail' || task === 'crash') {
    // As forever, until rank 1 can no more: by an error of its own, or one that nobody catches.
    const data = new Float32Array(1_000_000);
    for (let step = 0; ; step++) {
      if (step === 5 && group.rank === 1) {
        if (task === 'fail') throw new GenViewError('ShardUnreadable', 'shard-00001.tar: sample 7 has no .json');
        setImmediate(() => { throw new TypeError('nobody catches it'); });
        await new Promise(() => {});
      }
      await group.allReduceSum(data.fill(1));
    }
  } else if (task === 'mismatch') {
    await group.allReduceSum(new Float32Array(group.rank === 0 ? 4 : 5));
  } else if (task === 'leave') {
    // Rank 0 is done while the others still want to compute.
    if (group.rank === 0) await group.close();
    else await group.allReduceSum(new Float32Array(4));
  }
} catch (error) {
  await joined?.close(error);
  print({ code: (error as GenViewError).code, message: (error as Error).message });
  process.exit(error instanceof GenViewError ? error.exitCode : 1);
}
