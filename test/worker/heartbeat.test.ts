import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startHeartbeat } from '../../src/worker/heartbeat.ts';

beforeEach(() => { vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }); });
afterEach(() => { vi.useRealTimers(); });

/** Lets what was answered be noticed. */
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });
const fail = (name: string) => async (): Promise<never> => { throw Object.assign(new Error(name), { name }); };
const isGone = (error: unknown): boolean => (error as Error).name === 'Gone';

describe('a heartbeat', () => {
  it('beats three times in its seconds until it is stopped, and never twice at once', async () => {
    let beats = 0, answer = (): void => {};
    const heartbeat = startHeartbeat(6, () => { beats++; return new Promise<void>((resolve) => { answer = resolve; }); }, isGone, () => {});
    for (let beat = 1; beat <= 6; beat++) {
      vi.advanceTimersByTime(1999);
      expect(beats).toBe(beat - 1);
      vi.advanceTimersByTime(1);
      expect(beats).toBe(beat);
      answer();
      await turn();
    }
    vi.advanceTimersByTime(2000);
    // This one is not answered.
    vi.advanceTimersByTime(10_000);
    expect(beats).toBe(7);
    answer();
    await turn();
    heartbeat.stop();
    vi.advanceTimersByTime(10_000);
    expect(beats).toBe(7);
    expect(heartbeat.gone.aborted).toBe(false);
  });

  it('complains once of failures in a row, and goes on', async () => {
    let beats = 0, broken = true;
    const complaints: string[] = [];
    const heartbeat = startHeartbeat(3, () => { beats++; return broken ? fail('Unreachable')() : Promise.resolve(); }, isGone, (error) => complaints.push((error as Error).message));
    for (broken of [true, true, false, true]) { vi.advanceTimersByTime(1000); await turn(); }
    expect({ beats, complaints }).toEqual({ beats: 4, complaints: ['Unreachable', 'Unreachable'] });
    heartbeat.stop();
  });

  it('ends when nobody waits for the task any more', async () => {
    let beats = 0;
    const { gone } = startHeartbeat(3, () => { beats++; return fail('Gone')(); }, isGone, () => { throw new Error('not used'); });
    vi.advanceTimersByTime(1000);
    await turn();
    expect((gone.reason as Error).name).toBe('Gone');
    vi.advanceTimersByTime(10_000);
    expect(beats).toBe(1);
  });
});
