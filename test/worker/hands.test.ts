import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Hands } from '../../src/worker/hands.ts';

const never = new AbortController().signal;

describe('hands', () => {
  it('go to whoever came first', async () => {
    const hands = new Hands(2), order: string[] = [];
    expect([await hands.take(0, never), await hands.take(0, never)]).toEqual([true, true]);
    const waiting = ['a', 'b', 'c'].map((name) => hands.take(10_000, never).then((got) => { if (got) order.push(name); }));
    hands.giveBack();
    await sleep(0);
    expect(order).toEqual(['a']);
    hands.giveBack();
    hands.giveBack();
    await Promise.all(waiting);
    expect(order).toEqual(['a', 'b', 'c']);
  });

  it('are waited for so long and no longer, and not once the signal has aborted', async () => {
    const hands = new Hands(1), stop = new AbortController();
    await hands.take(0, never);
    expect(await hands.take(20, never)).toBe(false);
    const waiting = hands.take(10_000, stop.signal);
    stop.abort();
    expect(await waiting).toBe(false);
    expect(await hands.take(10_000, stop.signal)).toBe(false);
    // Nobody waits any more: the hand is free for the next.
    hands.giveBack();
    expect(await hands.take(0, never)).toBe(true);
  });

  it('are watched for without being taken', async () => {
    const hands = new Hands(1), stop = new AbortController();
    await hands.available(never);
    await hands.take(0, never);
    let seen = 0;
    const watching = [hands.available(never), hands.available(never)].map((watch) => watch.then(() => { seen++; }));
    const stopped = hands.available(stop.signal);
    stop.abort();
    await stopped;
    expect(seen).toBe(0);
    hands.giveBack();
    await Promise.all(watching);
    expect(seen).toBe(2);
    expect(await hands.take(0, never)).toBe(true);
  });
});
