import { describe, expect, it } from 'vitest';
import { toFailure } from '../../src/worker/failure.ts';
import { StatesError } from '../../src/workflow/asl/errors.ts';

describe('a failure that a worker reports', () => {
  it('keeps its name, but for the prefix that is reserved', () => {
    expect(toFailure(new StatesError('RecipeInvalid', 'x'))).toEqual({ error: 'RecipeInvalid', cause: 'x' });
    expect(toFailure(new StatesError('Batch.ClientException', ''))).toEqual({ error: 'Batch.ClientException', cause: '' });
    expect(toFailure(new StatesError('States.TaskFailed', '{}')).error).toBe('TaskFailed');
    expect(toFailure(new StatesError('x'.repeat(300), '')).error).toHaveLength(256);
  });

  it('has a cause that fits: JSON without its long parts, which is still JSON', () => {
    const job = { JobName: 'j', StatusReason: `Broken: ${'r'.repeat(30_000)}`, Attempts: Array.from({ length: 5 }, () => ({ StatusReason: 'x'.repeat(1000) })), Container: { ExitCode: 2 } };
    const { cause } = toFailure(new StatesError('States.TaskFailed', JSON.stringify(job)));
    expect(JSON.parse(cause)).toMatchObject({ JobName: 'j', StatusReason: expect.stringMatching(/^Broken: r{3992}…$/) as string, Container: { ExitCode: 2 } });
    const error = { errorType: 'E', errorMessage: 'm', trace: Array.from({ length: 1000 }, () => 'at somewhere or other in a file') };
    expect(JSON.parse(toFailure(new StatesError('E', JSON.stringify(error))).cause)).toEqual({ errorType: 'E', errorMessage: 'm' });
    expect(toFailure(new StatesError('E', 'y'.repeat(40_000))).cause).toHaveLength(32_768);
    const small = JSON.stringify(error.trace.slice(0, 3));
    expect(toFailure(new StatesError('E', small)).cause).toBe(small);
  });
});
