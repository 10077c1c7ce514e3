import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { drawArchitecture } from '../../bench/architecture.ts';
import { buildWorkflow, multiNodeStates } from '../../src/workflow/definition.ts';
import { localRefs } from '../../src/workflow/local.ts';

it('the picture of the documentation is that of the present workflow', async () => {
  // `npm run bench -- architecture` draws it again.
  expect(await readFile(new URL('../../docs/images/aws.svg', import.meta.url), 'utf8')).toBe(drawArchitecture());
});

it('every task of the workflow is in the picture, once', () => {
  const picture = drawArchitecture(), tasks: string[] = [];
  JSON.stringify(buildWorkflow(localRefs), (key, value: unknown) => {
    if (typeof value === 'object' && value !== null && (value as { Type?: string }).Type === 'Task') tasks.push(key);
    return value;
  });
  expect(tasks).toEqual(expect.arrayContaining([...multiNodeStates.parts]));
  const drawn = [...tasks.filter((task) => !multiNodeStates.parts.includes(task)), multiNodeStates.whole];
  expect(drawn).toHaveLength(14);
  for (const task of drawn) expect(picture.split(`>${task}</text>`)).toHaveLength(2);
});
