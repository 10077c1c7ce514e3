import { readdir, readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';

/** Calls of the services in `src/cloud`, as IAM names them. */
async function actionsUsed(): Promise<string[]> {
  const folder = new URL('../../src/cloud/', import.meta.url);
  const actions = new Set<string>();
  for (const file of await readdir(folder)) {
    const text = await readFile(new URL(file, folder), 'utf8');
    // Every call stands in the block of its service: `clients.sfn(… new sdk.XCommand`.
    for (const block of text.split(/(?=clients\.(?:sfn|batch|logs)\()/)) {
      const service = /^clients\.(sfn|batch|logs)\(/.exec(block)?.[1];
      if (service === undefined) continue;
      const prefix = { sfn: 'states', batch: 'batch', logs: 'logs' }[service as 'sfn' | 'batch' | 'logs'];
      for (const [, command, paginated] of block.matchAll(/sdk\.(?:(\w+)Command\b|paginate(\w+)\()/g)) actions.add(`${prefix}:${command ?? paginated}`);
    }
  }
  return [...actions].toSorted();
}

it('the policy of the documentation allows every call that driving a run makes, and no other', async () => {
  const page = await readFile(new URL('../../docs/aws.md', import.meta.url), 'utf8');
  const policy = JSON.parse(/```json\n([\s\S]*?)```/.exec(page.slice(page.indexOf('**To drive runs**')))![1]!) as { Statement: { Action: string[] }[] };
  const allowed = policy.Statement.flatMap(({ Action }) => Action).filter((action) => !action.startsWith('s3:')).toSorted();
  const used = await actionsUsed();
  expect(used).toContain('states:RedriveExecution');
  expect(allowed).toEqual(used);
});
