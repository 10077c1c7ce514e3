import type { Template } from 'aws-cdk-lib/assertions';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { JobQueue } from 'aws-cdk-lib/aws-batch';
import { Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { DefinitionBody, Pass, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { describe, expect, it } from 'vitest';
import { Alarms } from '../../../infra/constructs/alarms.ts';
import { Budget } from '../../../infra/constructs/budget.ts';
import { Dashboard } from '../../../infra/constructs/dashboard.ts';
import { checkOptions, type OptionsInput } from '../../../infra/options.ts';
import { programNames } from '../../../src/workflow/stages.ts';
import { flatten, resource, resources, testStack, type Json } from '../support.ts';

function synthesize(given: OptionsInput = {}) {
  const { stack, template } = testStack();
  const options = checkOptions(given);
  const stateMachine = new StateMachine(stack, 'Machine', { definitionBody: DefinitionBody.fromChainable(new Pass(stack, 'Nothing')) });
  const { topic } = new Alarms(stack, 'Alarms', {
    options, key: undefined, stateMachine, deadLetters: new Queue(stack, 'DeadLetters'),
    queues: ['gpu', 'cpu'].map((name) => JobQueue.fromJobQueueArn(stack, name, `arn:aws:batch:eu-west-1:1:job-queue/${name}`)),
    startRun: LambdaFunction.fromFunctionName(stack, 'StartRun', 'start-run'), stopJobs: LambdaFunction.fromFunctionName(stack, 'StopJobs', 'stop-jobs'),
  });
  new Dashboard(stack, 'Dashboard', { options, stateMachine });
  if (options.monthlyBudget !== undefined) new Budget(stack, 'Budget', { monthly: options.monthlyBudget, tag: { key: 'application', value: options.name }, topic });
  return template();
}
const standard = synthesize();
const alarm = (name: string): Json => resource(standard, 'AWS::CloudWatch::Alarm', name);

describe('alarms', () => {
  it.each([
    ['RunFailed', 'AWS/States', 'ExecutionsFailed', /submit the same recipe again and it continues/],
    ['RunTimedOut', 'AWS/States', 'ExecutionsTimedOut', /Look for jobs that wait/],
    ['StartFailed', 'AWS/Lambda', 'Errors', /log group \/genview\/start-run: mend it and put the object there again/],
    ['StopFailed', 'AWS/Lambda', 'Errors', /multi-node job may still be running.*`genview cancel` ends/],
    ['EventsLost', 'AWS/SQS', 'ApproximateNumberOfMessagesVisible', /start the recipes they name with `genview submit`/],
  ])('%s rings at the first %s %s and says what to do', (name, Namespace, MetricName, what) => {
    expect(alarm(name)).toMatchObject({
      Namespace, MetricName, Threshold: 1, EvaluationPeriods: 1, ComparisonOperator: 'GreaterThanOrEqualToThreshold', TreatMissingData: 'notBreaching',
      AlarmDescription: expect.stringMatching(what) as string, AlarmActions: [expect.stringMatching(/^<AlarmsTopic\w+>$/)],
    });
    // Longer ones are refused.
    expect(alarm(name).AlarmDescription.length).toBeLessThanOrEqual(1024);
  });

  it('tell of each failed job once, not of each of its children, nor of one that was terminated with its execution', () => {
    const { EventPattern, Targets: [target] } = resource(standard, 'AWS::Events::Rule', 'JobFailed');
    expect(EventPattern).toEqual({
      'source': ['aws.batch'], 'detail-type': ['Batch Job State Change'],
      'detail': { status: ['FAILED'], jobQueue: ['arn:aws:batch:eu-west-1:1:job-queue/gpu', 'arn:aws:batch:eu-west-1:1:job-queue/cpu'], arrayProperties: { index: [{ exists: false }] }, nodeProperties: { nodeIndex: [{ exists: false }] },
        statusReason: [{ 'anything-but': { prefix: ['ended with its execution', 'genview cancel: ended with its execution', 'The Task state in AWS Step Functions execution ['] } }, { exists: false }] },
    });
    expect(target.InputTransformer.InputTemplate).toContain('has failed: <detail-statusReason>');
  });

  it('tell of a blocked queue, and what to raise', () => {
    const { EventPattern, Targets: [target] } = resource(standard, 'AWS::Events::Rule', 'QueueBlocked');
    expect(EventPattern).toMatchObject({ 'detail-type': ['Batch Job Queue Blocked'], 'detail': { jobQueue: ['arn:aws:batch:eu-west-1:1:job-queue/gpu', 'arn:aws:batch:eu-west-1:1:job-queue/cpu'] } });
    expect(target.InputTransformer.InputTemplate).toMatch(/raise the account's vCPU quota.*gpuInstanceTypes.*training\.zone/);
  });

  it('use no variable in their texts that the event does not give', () => {
    for (const { Targets } of Object.values(resources(standard, 'AWS::Events::Rule'))) {
      const { InputTemplate, InputPathsMap } = Targets[0].InputTransformer;
      expect([...new Set([...InputTemplate.matchAll(/<([^>]*)>/g)].map(([, name]) => name as string))].toSorted()).toEqual(Object.keys(InputPathsMap as object).toSorted());
    }
  });

  it('may be published by CloudWatch and EventBridge, over TLS only, and reach the address that an option names', () => {
    const { Statement } = resource(standard, 'AWS::SNS::TopicPolicy').PolicyDocument;
    const allowed = (Statement as Json[]).filter(({ Effect }) => Effect === 'Allow').map(({ Principal, Action }) => `${Principal.Service} ${Action}`);
    expect([...new Set(allowed)].toSorted()).toEqual(['cloudwatch.amazonaws.com sns:Publish', 'events.amazonaws.com sns:Publish']);
    expect(Statement).toContainEqual(expect.objectContaining({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }));
    standard.resourceCountIs('AWS::SNS::Subscription', 0);
    expect(resource(synthesize({ alarmEmail: 'ops@example.org' }), 'AWS::SNS::Subscription')).toMatchObject({ Protocol: 'email', Endpoint: 'ops@example.org' });
  });
});

describe('the dashboard', () => {
  const bodyOf = (template: Template) => JSON.parse((flatten(resource(template, 'AWS::CloudWatch::Dashboard').DashboardBody) as string)) as { widgets: { properties: { title?: string; metrics?: Json[][] } }[] };
  const metrics = (title: string, template = standard): Json[][] => bodyOf(template).widgets.find(({ properties }) => properties.title === title)!.properties.metrics!;

  it('shows images a second and duration of every stage, and the loss, of its own deployment', () => {
    expect(metrics('Images per second, of one process').map((metric) => metric.slice(0, 6))).toEqual(programNames.map((name) => ['GenView', 'ImagesPerSecond', 'Deployment', 'genview', 'Stage', name]));
    expect(metrics('Stage durations').map((metric) => metric.slice(0, 6))).toEqual(programNames.map((name) => ['GenView', 'StageDuration', 'Deployment', 'genview', 'Stage', name]));
    expect(metrics('Loss').map((metric) => metric.slice(0, 6))).toEqual([['GenView', 'Loss', 'Deployment', 'genview', 'Stage', 'pretrain']]);
    expect(metrics('Loss', synthesize({ name: 'team' })).map((metric) => metric.slice(0, 6))).toEqual([['GenView', 'Loss', 'Deployment', 'team', 'Stage', 'pretrain']]);
  });

  it('shows the vCPUs that count against the quotas, and how runs ended', () => {
    expect(metrics('vCPUs in use in this account')[0]!.slice(0, 2)).toEqual(['AWS/Usage', 'ResourceCount']);
    expect(metrics('vCPUs in use in this account').map((metric) => `${metric[metric.indexOf('Service') + 1]} ${metric[metric.indexOf('Class') + 1]}`)).toEqual([
      'EC2 G/OnDemand', 'EC2 G/Spot', 'EC2 P/OnDemand', 'EC2 P/Spot', 'Fargate Standard/OnDemand', 'Fargate Standard/Spot',
    ]);
    expect(metrics('Runs').map((metric) => metric[1] as string)).toEqual(['ExecutionsStarted', 'ExecutionsSucceeded', 'ExecutionsFailed', 'ExecutionsTimedOut', 'ExecutionsAborted']);
  });
});

describe('the budget', () => {
  it('is there when an option gives its amount', () => {
    standard.resourceCountIs('AWS::Budgets::Budget', 0);
    const template = synthesize({ name: 'team', monthlyBudget: 250 });
    const { Budget: budget, NotificationsWithSubscribers: notifications } = resource(template, 'AWS::Budgets::Budget');
    expect(budget).toEqual({ BudgetType: 'COST', TimeUnit: 'MONTHLY', BudgetLimit: { Amount: 250, Unit: 'USD' }, CostFilters: { TagKeyValue: ['user:application$team'] } });
    expect((notifications as Json[]).map(({ Notification }) => Notification.Threshold)).toEqual([50, 80, 100]);
    const allowed = (resource(template, 'AWS::SNS::TopicPolicy').PolicyDocument.Statement as Json[]).filter(({ Effect }) => Effect === 'Allow').flatMap(({ Principal }) => Principal.Service);
    expect(allowed).toContain('budgets.amazonaws.com');
  });
});
