import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Json, StateMachineDefinition } from '../../../src/workflow/asl/definition.ts';
import { execute } from '../../../src/workflow/asl/interpreter.ts';
import { VirtualClock } from '../virtualClock.ts';

/** What test/fixtures/workflow/reference.py got from another interpreter. */
interface Case { name: string; definition: StateMachineDefinition; input: Json; status: string; output?: Json; error?: string; cause?: string; events: string[] }
const cases = JSON.parse(readFileSync(new URL('../../fixtures/workflow/reference.json', import.meta.url), 'utf8')) as Case[];

describe('as an independent interpreter', () => {
  it.each(cases)('$name', async ({ definition, input, status, output, error, cause, events }) => {
    const types: string[] = [];
    const run = execute(definition, input, { handlers: {}, clock: new VirtualClock(), onEvent: ({ type }) => types.push(type) });
    if (status === 'SUCCEEDED') expect(await run).toEqual(output);
    else {
      const failure = await run.then(() => undefined, (reason: { error: string; cause: string }) => reason);
      expect(failure?.error).toBe(error);
      // Both quote the expression; it adds where the state was entered.
      expect(cause).toContain(failure?.cause.replace(/\.?$/, ''));
    }
    // About a retried Parallel state the two disagree: ours records the failure of every attempt.
    if (!('Retry' in Object.values(definition.States)[0]!)) expect(types.toSorted()).toEqual(events);
  });
});
