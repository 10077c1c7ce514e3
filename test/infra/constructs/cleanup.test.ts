import { JobQueue } from 'aws-cdk-lib/aws-batch';
import { Key } from 'aws-cdk-lib/aws-kms';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { DefinitionBody, Pass, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { expect, it } from 'vitest';
import { Cleanup } from '../../../infra/constructs/cleanup.ts';
import { checkOptions } from '../../../infra/options.ts';
import { resource, statementsOf, testStack } from '../support.ts';

const { stack, logGroups, template: synthesize } = testStack();
const stateMachine = new StateMachine(stack, 'Machine', { definitionBody: DefinitionBody.fromChainable(new Pass(stack, 'Nothing')) });
new Cleanup(stack, 'Cleanup', {
  options: checkOptions(), stateMachine, logGroup: logGroups['stop-jobs'], deadLetters: new Queue(stack, 'DeadLetters'),
  queue: JobQueue.fromJobQueueArn(stack, 'Training', 'arn:aws:batch:eu-west-1:1:job-queue/training'), key: Key.fromKeyArn(stack, 'Key', 'arn:aws:kms:eu-west-1:123456789012:key/k'),
});
const template = synthesize();

it('listens for executions of its state machine that have ended', () => {
  const rule = resource(template, 'AWS::Events::Rule', 'ExecutionEnded');
  expect(rule.EventPattern).toEqual({
    'source': ['aws.states'], 'detail-type': ['Step Functions Execution Status Change'],
    'detail': { stateMachineArn: [expect.stringMatching(/^<Machine/)], status: ['SUCCEEDED', 'FAILED', 'TIMED_OUT', 'ABORTED'] },
  });
  const [target, ...others] = rule.Targets;
  expect(others).toEqual([]);
  expect(target).toMatchObject({ Arn: expect.stringMatching(/StopJobs/) as string, DeadLetterConfig: { Arn: expect.stringMatching(/DeadLetters/) as string }, RetryPolicy: { MaximumRetryAttempts: 8, MaximumEventAgeInSeconds: 21_600 } });
  expect(target.InputTransformer).toEqual({ InputPathsMap: { 'detail-executionArn': '$.detail.executionArn' }, InputTemplate: '{"execution":<detail-executionArn>}' });
});

it('looks every hour for what no event told of', () => {
  expect(resource(template, 'AWS::Events::Rule', 'Sweep')).toMatchObject({ ScheduleExpression: 'rate(1 hour)', Targets: [{ Arn: expect.stringMatching(/StopJobs/) as string, Input: '{"sweep":true}' }] });
});

it('may find and terminate jobs, look at executions of this state machine, and no more', () => {
  const statements = statementsOf(template, 'StopJobs');
  const of = (action: string): string[] => statements.filter(({ actions }) => actions.includes(action)).flatMap(({ resources }) => resources);
  expect(statements.flatMap(({ actions }) => actions).toSorted()).toEqual([
    'batch:DescribeJobs', 'batch:ListJobs', 'batch:TerminateJob', 'kms:Decrypt', 'kms:GenerateDataKey', 'logs:CreateLogStream', 'logs:PutLogEvents', 'sqs:SendMessage', 'states:DescribeExecution', 'xray:PutTelemetryRecords', 'xray:PutTraceSegments',
  ]);
  expect(of('batch:TerminateJob')).toEqual(['arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:job/*']);
  expect(of('states:DescribeExecution')).toEqual(['arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:genview:*']);
});

it('tells the function which queue has the jobs', () => {
  expect(resource(template, 'AWS::Lambda::Function')).toMatchObject({ Runtime: 'nodejs22.x', Environment: { Variables: { GENVIEW_TRAINING_QUEUE: 'arn:aws:batch:eu-west-1:1:job-queue/training' } } });
});
