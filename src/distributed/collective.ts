import { singleProcess } from './singleProcess.ts';
import { placeOf, rendezvous } from './rendezvous.ts';
import { createRing } from './ring.ts';
import type { Log } from '../log.ts';

/**
 * Processes that compute one thing together. Every rank calls the same operations in the same order; operations of one
 * rank may be started without waiting, they run one after the other. When a rank closes with an error, the running
 * operation and every later one of all others reject with it: the same code and exit status, and a message that names the
 * rank. When a rank is lost without a word, they reject with `PeerLost` (exit code 75): the job is to be started again
 * from its last checkpoint.
 */
export interface Collective {
  /** 0 … size - 1; rank 0 is the main node. */
  readonly rank: number;
  readonly size: number;
  /**
   * In place: every rank ends with the same bytes, the sum over ranks. The order of additions depends on the length of
   * `data`, the rank and the size only, so that runs repeat exactly. `data` has the same length on every rank, and may
   * not be touched before the promise resolves.
   */
  allReduceSum(data: Float32Array): Promise<void>;
  /** The data of all ranks, one after the other by rank; lengths may differ, and may be 0. */
  allGather(data: Float32Array): Promise<Float32Array>;
  /** In place: `data` becomes what it is on `root`. @default root 0 */
  broadcast(data: Float32Array, root?: number): Promise<void>;
  /** Resolves when every rank has called it. */
  barrier(): Promise<void>;
  /**
   * Waits for the operations under way, and for the neighbours to close too; never rejects.
   * @param error what this process ends by: nothing is waited for but that the neighbours know, for at most 3 s, and all
   * others end by it. Of no consequence once the group has ended by another.
   */
  close(error?: unknown): Promise<void>;
}

export interface JoinOptions {
  /** @default process.env */
  readonly env?: NodeJS.ProcessEnv;
  /** Leaves the group: whatever waits here rejects with the signal's reason, and so do the others, with its exit code if it has one, else with 75. */
  readonly signal?: AbortSignal;
  readonly log?: Log;
}

/**
 * Meets the other processes of an AWS Batch multi-node job, or of the local Batch, and connects them to a ring. A
 * process outside a multi-node job, or alone in one, gets a group of one.
 *
 * | variable | meaning |
 * | --- | --- |
 * | AWS_BATCH_JOB_NODE_INDEX, AWS_BATCH_JOB_NUM_NODES, AWS_BATCH_JOB_MAIN_NODE_INDEX | which of how many this is; the rank counts from the main node |
 * | AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS | where the main node is; absent on the main node itself |
 * | GENVIEW_RENDEZVOUS_PORT | where the main node listens. @default 29500 |
 * | GENVIEW_RENDEZVOUS_ADDRESS | which of its addresses the main node listens on. @default 0.0.0.0 |
 * | GENVIEW_RENDEZVOUS_TOKEN | only processes with the same token meet. @default the job's id and attempt |
 * | GENVIEW_RENDEZVOUS_TIMEOUT | seconds to wait for all to arrive. @default 600 |
 * | GENVIEW_PEER_TIMEOUT | seconds of silence after which a peer counts as lost. @default 60 |
 *
 * Throws `EnvironmentInvalid` for variables that make no sense, `RendezvousTimeout` (exit code 75) when not all ranks
 * came, `PeerLost` (exit code 75) when one left while the ring was being built, and what another rank has failed by.
 */
export async function joinCollective(options: JoinOptions = {}): Promise<Collective> {
  const place = placeOf(options.env ?? process.env);
  if (place.size === 1) return singleProcess();
  const neighbours = await rendezvous(place, options);
  const ring = createRing({ ...neighbours, ...place, signal: options.signal });
  try { await ring.barrier(); } catch (error) {
    await ring.close(error);
    throw error;
  }
  options.log?.info(`rank ${place.rank} of ${place.size} is connected`, { rank: place.rank, size: place.size });
  return ring;
}
