import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { describe, expect, it } from 'vitest';
import { folders, stageAccess, stageNames, type StageName } from '../../../infra/access.ts';
import { grantStore, type Store } from '../../../infra/constructs/store-access.ts';
import { bucketArn, statementsOf, testStack } from '../support.ts';

/** Of each stage: resources by action, without the bucket's ARN. */
function grants(changes: Partial<Store> = {}, withKey = false): Record<StageName, Record<string, string[]>> {
  const { stack, store, template } = testStack();
  const key = withKey ? new Key(stack, 'Key') : undefined;
  for (const name of stageNames) grantStore(new Role(stack, `${name}-role`, { assumedBy: new ServicePrincipal('ecs-tasks.amazonaws.com') }), { ...store, key, ...changes }, name);
  const made = template();
  return Object.fromEntries(stageNames.map((name) => {
    const byAction: Record<string, string[]> = {};
    for (const { actions, resources, condition } of statementsOf(made, `${name.replaceAll('-', '')}role`)) {
      for (const action of actions) (byAction[action] ??= []).push(...(condition ? [condition.StringLikeIfExists['s3:prefix']].flat() as string[] : resources.map((resource) => resource.replace(bucketArn, ''))));
    }
    return [name, byAction];
  })) as Record<StageName, Record<string, string[]>>;
}
const standard = grants();

describe('rights on the bucket', () => {
  it('are reading, writing, listing and deleting, each by its own name', () => {
    expect([...new Set(Object.values(standard).flatMap((byAction) => Object.keys(byAction)))].toSorted()).toEqual(['s3:AbortMultipartUpload', 's3:DeleteObject', 's3:GetObject', 's3:ListBucket', 's3:PutObject']);
  });

  it.each(stageNames)('of %s are what the table says, under store/', (name) => {
    const { reads, writes, deletes } = stageAccess[name];
    const own = (patterns: readonly string[]): string[] => patterns.map((pattern) => `/store/${pattern}`).toSorted();
    const inStore = (action: string): string[] => (standard[name][action] ?? []).filter((resource) => resource.startsWith('/store/') && resource !== '/store/demo-dataset/*').toSorted();
    const withoutDemo = (patterns: readonly string[]): string[] => own(patterns).filter((pattern) => pattern !== '/store/demo-dataset/*');
    expect(inStore('s3:GetObject')).toEqual(own(reads));
    expect(inStore('s3:PutObject')).toEqual(withoutDemo(writes));
    expect(inStore('s3:AbortMultipartUpload')).toEqual(withoutDemo(writes));
    expect(inStore('s3:DeleteObject')).toEqual(own(deletes));
  });

  it('let no stage write to recipes, datasets or models, and none write what another one makes', () => {
    const writers = new Map<string, string[]>();
    for (const name of stageNames) {
      const written = standard[name]['s3:PutObject'] ?? [];
      expect(written.every((resource) => resource.startsWith('/store/')), name).toBe(true);
      for (const resource of written) writers.set(resource, [...writers.get(resource) ?? [], name]);
    }
    expect([...writers].filter(([, names]) => names.length > 1)).toEqual([]);
  });

  it('let a stage learn that what it may read is absent, and list what the table says', () => {
    expect(standard['plan-views']['s3:ListBucket']).toEqual(stageAccess['plan-views'].reads.map((pattern) => `store/${pattern}`));
    expect(standard['shard-dataset']['s3:ListBucket']).toEqual(expect.arrayContaining(['datasets/*', 'store/demo-dataset/*', 'store/runs/*/listing/*']));
    expect(standard['record-failure']['s3:ListBucket']).toBeUndefined();
  });

  it('reach images and models outside the bucket where an option names them', () => {
    const { 'fit-foreground': reading, 'shard-dataset': listing, 'plan-views': neither } = grants({ inputs: ['s3://other/photos/', 's3://whole'] });
    expect(reading['s3:GetObject']).toEqual(expect.arrayContaining(['arn:<AWS::Partition>:s3:::other/photos/*', 'arn:<AWS::Partition>:s3:::whole/*']));
    expect(listing['s3:ListBucket']).toEqual(expect.arrayContaining(['photos/*', '*']));
    // A list of the images may lie beside them.
    expect(listing['s3:GetObject']).toEqual(expect.arrayContaining(['/datasets/*.jsonl', 'arn:<AWS::Partition>:s3:::other/photos/*']));
    expect(standard['shard-dataset']['s3:GetObject']).not.toContain('/datasets/*');
    expect(neither['s3:GetObject']).toEqual(standard['plan-views']['s3:GetObject']);
  });

  it('include the use of the key of an encrypted bucket', () => {
    for (const byAction of Object.values(grants({}, true))) {
      for (const action of ['kms:Decrypt', 'kms:GenerateDataKey']) expect(byAction[action]).toEqual([expect.stringMatching(/^<Key\w+\.Arn>$/)]);
    }
  });
});

it('every folder that stages write to is either a result or can be made again', () => {
  const written = new Set(stageNames.flatMap((name) => stageAccess[name].writes.map((pattern) => pattern.split('/')[0]!)));
  expect([...written].toSorted()).toEqual(Object.values(folders).flat().toSorted());
});
