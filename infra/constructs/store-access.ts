import { Aws, Stack } from 'aws-cdk-lib';
import { PolicyStatement, type Role } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { bucketLayout, listFiles, stageAccess, type StageName } from '../access.ts';
import { acknowledge } from '../acknowledge.ts';

/** Where the stages' data is. */
export interface Store {
  readonly bucket: IBucket;
  /** Of the bucket's objects; undefined with S3's own keys. */
  readonly key: IKey | undefined;
  /** `s3://bucket/prefix` outside the bucket that stages may read. */
  readonly inputs: readonly string[];
  /** ARNs of other keys that objects may be encrypted with. @default none */
  readonly decryptionKeys?: readonly string[];
}

/** Gives a role what the table of `infra/access.ts` says of a stage. */
export function grantStore(role: Role, store: Store, stage: StageName): void {
  for (const statement of statementsOf(store, stage)) {
    role.addToPolicy(statement);
    for (const resource of statement.resources) acknowledgeObjects(role, store.bucket, resource);
  }
}

/** Accepts the `*` in the ARN of objects, where there is one. */
export function acknowledgeObjects(role: Role, bucket: IBucket, objects: string): void {
  if (!objects.endsWith('*') && !objects.includes('/*')) return;
  const own = objects.startsWith(`${bucket.bucketArn}/`);
  // As cdk-nag writes it: another stack's bucket by the name of its export.
  const data = Stack.of(bucket);
  const arn = own ? `${(data.resolve(data.exportValue(bucket.bucketArn)) as { 'Fn::ImportValue': string })['Fn::ImportValue']}${objects.slice(bucket.bucketArn.length)}` : objects;
  const readable = arn.replace(Aws.PARTITION, '<AWS::Partition>');
  acknowledge(role, {
    [`AwsSolutions-IAM5[Resource::${readable}]`]: !own ? 'A place that the option inputs names; people choose the names in it.'
      : arn.includes(`/${bucketLayout.store}`) ? 'The hash in the address is of what the object depends on: it is known when a run is.'
      : 'People choose the names of what they put there.',
  });
}

function statementsOf(store: Store, stage: StageName): PolicyStatement[] {
  const { bucket, key, decryptionKeys = [] } = store;
  const { inputs, reads, writes, deletes, lists } = stageAccess[stage];
  const own = (pattern: string): string => `${bucketLayout.store}${pattern}`;
  const has = (input: typeof inputs[number]): boolean => inputs.includes(input);
  const given = [
    // The recipe of a dataset lies beside its images.
    ...(has('recipes') ? [`${bucketLayout.recipes}*`, `${bucketLayout.datasets}*/recipe.yaml`] : []),
    ...(has('imageNames') ? listFiles.flatMap((name) => [`${bucketLayout.datasets}${name}`, ...(has('recipes') ? [] : [`${bucketLayout.recipes}${name}`])]) : []),
    ...(has('images') ? [`${bucketLayout.datasets}*`, own('demo-dataset/*')] : []),
    ...(has('models') ? [`${bucketLayout.models}*`] : []),
  ];
  const names = has('imageNames') ? [`${bucketLayout.datasets}*`, own('demo-dataset/*')] : [];
  const readable = [...given, ...reads.map(own)];
  const nameable = [...new Set([...readable, ...names, ...lists.map((prefix) => `${own(prefix)}*`)])];
  const objects = (patterns: readonly string[]): string[] => patterns.map((pattern) => bucket.arnForObjects(pattern));

  return [
    ...allow(['s3:GetObject'], objects(readable)),
    // Abort: of a body in several parts, when one of them fails.
    ...allow(['s3:PutObject', 's3:AbortMultipartUpload'], objects(writes.map(own))),
    ...allow(['s3:DeleteObject'], objects(deletes.map(own))),
    ...(nameable.length > 0 ? mayName(bucket.bucketArn, nameable) : []),
    ...(inputs.length > 0 ? inputStatements(store) : []),
    // A body in several parts is also decrypted.
    ...(key ? allow(['kms:Decrypt', 'kms:GenerateDataKey'], [key.keyArn]) : []),
    ...(readable.length > 0 ? allow(['kms:Decrypt'], [...decryptionKeys]) : []),
  ];
}

function inputStatements({ bucket, inputs }: Store): PolicyStatement[] {
  return inputs.flatMap((url) => {
    const [, name, prefix] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(url)!;
    const arn = Stack.of(bucket).formatArn({ service: 's3', region: '', account: '', resource: name! });
    return [...allow(['s3:GetObject'], [`${arn}/${prefix}*`]), ...mayName(arn, [`${prefix}*`])];
  });
}

function allow(actions: string[], resources: string[]): PolicyStatement[] {
  return resources.length === 0 ? [] : [new PolicyStatement({ actions, resources })];
}

/**
 * Listing. S3 also says that an object is absent only to who may list its name, and refuses others; IfExists answers
 * them too where S3 should take no prefix from such a request.
 */
function mayName(bucketArn: string, patterns: readonly string[]): PolicyStatement[] {
  return [new PolicyStatement({ actions: ['s3:ListBucket'], resources: [bucketArn], conditions: { StringLikeIfExists: { 's3:prefix': patterns } } })];
}
