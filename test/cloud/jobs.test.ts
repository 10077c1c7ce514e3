import { expect, it } from 'vitest';
import { functionsOfWorkers, queuesIn } from '../../src/cloud/definition.ts';
import { newestOfEach } from '../../src/cloud/status.ts';
import { buildWorkflow } from '../../src/workflow/definition.ts';
import { localRefs } from '../../src/workflow/local.ts';

it('finds the queues in the definition that is deployed', () => {
  // In the order of the first state of each.
  expect(queuesIn(buildWorkflow(localRefs)).slice(0, 2)).toEqual(['gpu', 'training']);
});

it('tasks that workers take submit to no queue', () => {
  expect(queuesIn({ States: { A: { Type: 'Task', Resource: 'arn:aws:states:x:1:activity:genview-pretrain', Arguments: { SubmitJob: { JobQueue: 'gpu' } } } } })).toEqual([]);
});

it('tells the functions that workers call from those of Lambda', () => {
  expect(functionsOfWorkers(buildWorkflow(localRefs))).toEqual(new Set());
  const activities = { jobs: localRefs.jobDefinitions, functions: { report: 'arn:aws:states:x:1:activity:genview-report' } };
  expect(functionsOfWorkers(buildWorkflow({ ...localRefs, activities }))).toEqual(new Set(['report']));
  expect(queuesIn(buildWorkflow({ ...localRefs, activities }))).toEqual([]);
});

it('a later job of the same stage replaces the earlier one', () => {
  const job = (id: string, label: string, createdAt: number) => ({ id, label, status: 'FAILED', createdAt }) as const;
  expect([...newestOfEach([job('c', 'pretrain-a', 3), job('b', 'pretrain-b', 2), job('a', 'pretrain-a', 1)]).values()].map(({ id }) => id)).toEqual(['c', 'b']);
});
