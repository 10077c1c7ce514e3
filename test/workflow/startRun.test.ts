import { describe, expect, it } from 'vitest';
import { triggeredName } from '../../src/workflow/startRun.ts';

describe('the name of an execution that a recipe starts', () => {
  it('comes from the recipe and what it depends on, and from nothing else', () => {
    const name = triggeredName('recipes/birds.yaml', ['recipes/birds.yaml', 'etag'], 1);
    expect(name).toMatch(/^birds-[0-9a-f]{16}$/);
    expect(triggeredName('recipes/birds.yaml', ['recipes/birds.yaml', 'etag'], 1)).toBe(name);
    expect(triggeredName('recipes/birds.yaml', ['recipes/birds.yaml', 'etag'], 2)).toBe(`${name}-2`);
    expect(triggeredName('recipes/birds.yaml', ['recipes/birds.yaml', 'other'], 1)).not.toBe(name);
  });

  it.each([
    ['recipes/team a/Ünïcode & more.yaml', /^-n-code-more-[0-9a-f]{16}$/],
    ['datasets/flowers/recipe.yaml', /^flowers-[0-9a-f]{16}$/],
    ['recipes/recipe.yaml', /^recipes-[0-9a-f]{16}$/],
    ['recipes/.yaml', /^run-[0-9a-f]{16}$/],
    [`recipes/${'long'.repeat(50)}.yaml`, /^(long){14}-[0-9a-f]{16}$/],
  ])('of %s is one that Step Functions takes, %s', (recipe, name) => {
    expect(triggeredName(recipe, [recipe], 1)).toMatch(name);
    expect(triggeredName(recipe, [recipe], 20)).toMatch(/^[A-Za-z0-9_-]{1,80}$/);
  });
});
