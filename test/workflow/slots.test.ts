import { expect, it } from 'vitest';
import { Slots } from '../../src/workflow/batch/slots.ts';

const never = new AbortController().signal;
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

it('slots are given in order: a large job is not overtaken by small ones', async () => {
  const slots = new Slots(2), log: string[] = [];
  const take = async (name: string, count: number): Promise<() => void> => { const release = await slots.take(count, never); log.push(name); return release; };
  const first = await take('first', 1);
  const large = take('large', 2), small = take('small', 1);
  await turn();
  expect(log).toEqual(['first']);
  first();
  const release = await large;
  await turn();
  expect(log).toEqual(['first', 'large']);
  release();
  release();
  await small;
  expect(log).toEqual(['first', 'large', 'small']);
});

it('a job larger than the machine takes all of it', async () => {
  const slots = new Slots(2);
  (await slots.take(5, never))();
  await slots.take(2, never);
});

it('an aborted wait leaves the queue, and lets the next one in', async () => {
  const slots = new Slots(1), stop = new AbortController();
  const release = await slots.take(1, never);
  const waiting = slots.take(1, stop.signal), next = slots.take(1, never);
  stop.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
  release();
  (await next)();
  await expect(slots.take(1, stop.signal)).rejects.toThrow('stopped');
});
