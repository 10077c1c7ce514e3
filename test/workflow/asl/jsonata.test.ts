import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Json } from '../../../src/workflow/asl/definition.ts';
import { evaluateTemplate } from '../../../src/workflow/asl/jsonata.ts';

const evaluate = (template: Json, variables: Record<string, Json> = {}): Promise<Json> => evaluateTemplate(template, { states: { input: {} }, ...variables });

describe('templates', () => {
  it('evaluates whole-string expressions and leaves everything else', async () => {
    expect(await evaluate({ a: '{% $x + 1 %}', b: ['{%$x%}', 'plain', 2, null, true], 'c.$': '$.x' }, { x: 1 })).toEqual({ a: 2, b: [1, 'plain', 2, null, true], 'c.$': '$.x' });
  });

  it.each(['{% $states.input.nothing %}', '{% $x %}', '{% function($a) { $a } %}', '{% $sum %}', '{% 1/0 %}', '{% $error("no") %}', '{% name %}', '{% $ %}'])('fails for %s', async (expression) => {
    await expect(evaluate(expression)).rejects.toMatchObject({ error: 'States.QueryEvaluationError' });
  });

  it('has the functions that Step Functions adds', async () => {
    expect(await evaluate('{% $partition([1,2,3,4,5], 2) %}')).toEqual([[1, 2], [3, 4], [5]]);
    expect(await evaluate('{% $range(1, 9, 4) %}')).toEqual([1, 5, 9]);
    expect(await evaluate('{% $range(3, 1, -1) %}')).toEqual([3, 2, 1]);
    expect(await evaluate('{% $hash("genview", "SHA-256") %}')).toBe(createHash('sha256').update('genview').digest('hex'));
    expect(await evaluate('{% $parse("{\\"a\\":[1]}").a %}')).toEqual([1]);
    expect(await evaluate('{% $uuid() %}')).toMatch(/^[0-9a-f-]{36}$/);
    expect(await evaluate('{% $random(5) = $random(5) %}')).toBe(true);
    expect(await evaluate('{% $random() < 1 %}')).toBe(true);
  });
});
