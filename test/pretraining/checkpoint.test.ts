import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { joinCollective } from '../../src/distributed/collective.ts';
import { shareState } from '../../src/pretraining/checkpoint.ts';
import { createState } from '../../src/runtime/state.ts';
import { float32 } from '../../src/tensor.ts';

it('processes get the state and the exact step of rank 0', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const steps = await Promise.all([0, 1].map(async (rank) => {
    const collective = await joinCollective({ env: {
      AWS_BATCH_JOB_NODE_INDEX: `${rank}`, AWS_BATCH_JOB_NUM_NODES: '2', AWS_BATCH_JOB_MAIN_NODE_INDEX: '0', AWS_BATCH_JOB_ID: 'share', GENVIEW_RENDEZVOUS_PORT: `${port}`,
      ...(rank === 0 ? { GENVIEW_RENDEZVOUS_ADDRESS: '127.0.0.1' } : { AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS: '127.0.0.1' }),
    } });
    const state = createState({ a: float32([rank + 1, 5], [2]) });
    // The first whole number that a float32 cannot hold.
    const step = await shareState(state, rank === 0 ? 16_777_217 : 0, collective);
    expect([...state.get('a').data]).toEqual([1, 5]);
    await collective.close();
    return step;
  }));
  expect(steps).toEqual([16_777_217, 16_777_217]);
});
