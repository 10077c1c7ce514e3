import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { costTable, markdown } from '../../bench/cost.ts';

it('the cost table of the documentation is what the estimator says', async () => {
  // `npm run bench -- cost --write` writes it again.
  expect(await readFile(new URL('../../docs/aws.md', import.meta.url), 'utf8')).toContain(markdown(await costTable()));
});
