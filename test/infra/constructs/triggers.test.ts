import { DefinitionBody, Pass, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { expect, it } from 'vitest';
import { Triggers } from '../../../infra/constructs/triggers.ts';
import { checkOptions } from '../../../infra/options.ts';
import { bucketArn, resource, statementsOf, testStack } from '../support.ts';

const { stack, store, logGroups, template: synthesize } = testStack();
const stateMachine = new StateMachine(stack, 'Machine', { definitionBody: DefinitionBody.fromChainable(new Pass(stack, 'Nothing')) });
new Triggers(stack, 'Triggers', { options: checkOptions(), store, storeUrl: 's3://b/store/', stateMachine, logGroup: logGroups['start-run'] });
const template = synthesize();

it('listens for recipes and for datasets that are ready, in its bucket only', () => {
  expect(resource(template, 'AWS::Events::Rule').EventPattern).toEqual({
    'source': ['aws.s3'], 'detail-type': ['Object Created'],
    'detail': { bucket: { name: [expect.stringMatching(/ExportsOutputRefStore/)] }, object: { key: [{ wildcard: 'recipes/*.yaml' }, { wildcard: 'datasets/*/_READY' }] } },
  });
});

it('hands the function what it names executions by, and loses no event', () => {
  const [target, ...others] = resource(template, 'AWS::Events::Rule').Targets;
  expect(others).toEqual([]);
  expect(target).toMatchObject({
    Arn: expect.stringMatching(/StartRun/) as string,
    DeadLetterConfig: { Arn: expect.stringMatching(/DeadLetters/) as string },
    RetryPolicy: { MaximumRetryAttempts: 8, MaximumEventAgeInSeconds: 21_600 },
  });
  const paths = target.InputTransformer.InputPathsMap as Record<string, string>;
  const template_ = (target.InputTransformer.InputTemplate as string).replace(/<([\w-]+)>/g, (_, name: string) => JSON.stringify(paths[name]));
  expect(JSON.parse(template_)).toEqual({ bucket: '$.detail.bucket.name', key: '$.detail.object.key', version: '$.detail.object.version-id' });
  // Of the function's own failures too.
  expect(resource(template, 'AWS::Lambda::Function').DeadLetterConfig).toEqual({ TargetArn: target.DeadLetterConfig.Arn });
});

it('may start and look at executions of this state machine, read recipes, and no more', () => {
  const statements = statementsOf(template, 'StartRun');
  const of = (action: string): string[] => statements.filter(({ actions }) => actions.includes(action)).flatMap(({ resources }) => resources.map((each) => each.replace(bucketArn, '')));
  expect(statements.flatMap(({ actions }) => actions).toSorted()).toEqual([
    'logs:CreateLogStream', 'logs:PutLogEvents', 's3:GetObject', 's3:ListBucket', 'sqs:SendMessage', 'states:DescribeExecution', 'states:StartExecution', 'xray:PutTelemetryRecords', 'xray:PutTraceSegments',
  ]);
  expect(of('states:StartExecution')).toEqual([expect.stringMatching(/^<Machine\w+>$/)]);
  expect(of('states:DescribeExecution')).toEqual(['arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:genview:*']);
  expect(of('s3:GetObject')).toEqual(['/datasets/*/recipe.yaml', '/recipes/*.yaml']);
  expect(statements.find(({ actions }) => actions.includes('s3:ListBucket'))!.condition).toEqual({ StringLikeIfExists: { 's3:prefix': ['recipes/*.yaml', 'datasets/*/recipe.yaml'] } });
});

it('tells the function where the state machine and the store are', () => {
  expect(resource(template, 'AWS::Lambda::Function')).toMatchObject({
    Runtime: 'nodejs22.x', Architectures: ['arm64'],
    Environment: { Variables: { GENVIEW_STATE_MACHINE: expect.stringMatching(/^<Machine/) as string, GENVIEW_STORE: 's3://b/store/' } },
  });
});

it('keeps what was lost for 14 days, encrypted, over TLS only', () => {
  expect(resource(template, 'AWS::SQS::Queue')).toMatchObject({ MessageRetentionPeriod: 14 * 86_400, SqsManagedSseEnabled: true });
  expect(resource(template, 'AWS::SQS::QueuePolicy').PolicyDocument.Statement).toContainEqual(expect.objectContaining({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }));
});
