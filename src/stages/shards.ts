import { GenViewError } from '../errors.ts';
import type { RunPlan } from './contract.ts';

/** AWS Batch's limit for array jobs: larger datasets get larger shards. */
export const mostShards = 10_000;

/** Five digits of a shard's number, as in `shard-00003.jsonl`. Throws `ShardInvalid` for a number that the plan does not have. */
export function shardName(shard: number, plan: Pick<RunPlan, 'shards'>): string {
  if (!Number.isInteger(shard) || shard < 0 || shard >= plan.shards) {
    throw new GenViewError('ShardInvalid', `shard ${shard} does not exist: this run has shards 0 to ${plan.shards - 1}`);
  }
  return String(shard).padStart(5, '0');
}

/** JSON lines, one value a line, each ended by a newline. */
export function jsonLines(values: readonly unknown[]): string {
  return values.map((value) => `${JSON.stringify(value)}\n`).join('');
}
