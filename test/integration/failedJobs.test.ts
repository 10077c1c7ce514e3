import { JobQueue } from 'aws-cdk-lib/aws-batch';
import { Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { Queue } from 'aws-cdk-lib/aws-sqs';
import { DefinitionBody, Pass, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { Alarms } from '../../infra/constructs/alarms.ts';
import { checkOptions } from '../../infra/options.ts';
import { resource, testStack, type Json } from '../infra/support.ts';
import { installLocalStack, localStackPython } from './support/localstack.ts';
import { installMoto, motoPython } from './support/moto.ts';

const queue = 'arn:aws:batch:eu-west-1:123456789012:job-queue/gpu', execution = 'arn:aws:states:eu-west-1:123456789012:execution:genview:birds-01234567-89abcdef';

/** The pattern of the rule as it is deployed. */
function pattern(): Json {
  const { stack, template } = testStack();
  const stateMachine = new StateMachine(stack, 'Machine', { definitionBody: DefinitionBody.fromChainable(new Pass(stack, 'Nothing')) });
  const lambda = (name: string) => LambdaFunction.fromFunctionName(stack, name, name);
  new Alarms(stack, 'Alarms', { options: checkOptions({}), key: undefined, stateMachine, deadLetters: new Queue(stack, 'DeadLetters'), queues: [JobQueue.fromJobQueueArn(stack, 'Gpu', queue)], startRun: lambda('start-run'), stopJobs: lambda('stop-jobs') });
  return resource(template(), 'AWS::Events::Rule', 'JobFailed').EventPattern;
}

/** As AWS documents the event: the detail is DescribeJobs' of the job. */
const event = (statusReason: string | undefined, more: object = {}, id = '4c7599ae-0a82-49aa-ba5a-4727fcce14a8'): object => ({
  'version': '0', 'id': 'c8f9c4b5-76e5-d76a-f980-7011e206042b', 'detail-type': 'Batch Job State Change', 'source': 'aws.batch', 'account': '123456789012', 'time': '2026-11-26T04:36:40Z', 'region': 'eu-west-1',
  'resources': [`arn:aws:batch:eu-west-1:123456789012:job/${id}`],
  'detail': {
    jobArn: `arn:aws:batch:eu-west-1:123456789012:job/${id}`, jobName: 'birds-01234567-linear-probe-genview', jobId: id, jobQueue: queue, status: 'FAILED', ...(statusReason !== undefined && { statusReason }),
    attempts: [{ container: { exitCode: 75, logStreamName: 'linear-probe/default/1', networkInterfaces: [] }, startedAt: 1795667700000, stoppedAt: 1795667800000, statusReason: 'Essential container in task exited' }],
    createdAt: 1795667600000, retryStrategy: { attempts: 5, evaluateOnExit: [] }, dependsOn: [], jobDefinition: 'arn:aws:batch:eu-west-1:123456789012:job-definition/genview-linear-probe:1', parameters: {}, tags: { application: 'genview' },
    propagateTags: true, platformCapabilities: ['EC2'], eksAttempts: [], ...more,
  },
});

/** An array job's parent, a multi-node job's. */
const array = { arrayProperties: { size: 200, statusSummary: { FAILED: 1, SUCCEEDED: 199 } } }, nodes = { nodeProperties: { numNodes: 2, mainNode: 0, nodeRangeProperties: [] } };

const events: readonly (readonly [what: string, told: boolean, event: object])[] = [
  ['a program that failed', true, event('Essential container in task exited')],
  ['a job without a reason', true, event(undefined)],
  ['a job with an empty reason', true, event('')],
  ['a spot instance taken away at the last attempt', true, event('Host EC2 (instance i-0abcdef1234567890) terminated.')],
  ['a Fargate task taken away at the last attempt', true, event('Your Spot Task was interrupted.')],
  ['a job that took too long', true, event('Job attempt duration exceeded timeout')],
  ['a job that waited too long for a machine', true, event('Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY')],
  ['an image that cannot be pulled', true, event('Task failed to start')],
  ['a job that somebody terminated in the console', true, event('Terminated from the console')],
  ['an array of which a child failed', true, event('Array Child Job failed', array)],
  ['a multi-node job whose main node failed', true, event('Essential container in task exited', nodes)],
  ['a child of an array', false, event('Essential container in task exited', { arrayProperties: { index: 7, statusSummary: {} } }, '4c7599ae-0a82-49aa-ba5a-4727fcce14a8:7')],
  ['a node', false, event('Essential container in task exited', { nodeProperties: { nodeIndex: 1, isMainNode: false } }, '4c7599ae-0a82-49aa-ba5a-4727fcce14a8#1')],
  ['a job of another deployment', false, event('Essential container in task exited', { jobQueue: `${queue}-2` })],
  ['a job that succeeded', false, event('Essential container in task exited', { status: 'SUCCEEDED' })],
  ['a job that Step Functions terminated', false, event(`The Task state in AWS Step Functions execution [${execution}] which was managing this resource was aborted`)],
  ['an array that Step Functions terminated', false, event(`The Task state in AWS Step Functions execution [${execution}] which was managing this resource was aborted`, array)],
  ['a multi-node job that stop-jobs terminated', false, event('ended with its execution, ABORTED', nodes)],
  ['a multi-node job whose run timed out, which has an alarm of its own', false, event('ended with its execution, TIMED_OUT', nodes)],
  ['a job that genview cancel terminated', false, event('genview cancel: ended with its execution')],
];

const moto = `
import json, sys
from moto.events.models import EventPattern, EventPatternParser
given = json.load(sys.stdin)
pattern = EventPattern(None, EventPatternParser(json.dumps(given["pattern"])).parse())
print(json.dumps([pattern.matches_event(event) for event in given["events"]]))
`;
const localStack = `
import json, sys
from localstack.services.events.event_rule_engine import EventPatternCompiler, EventRuleEngine
given = json.load(sys.stdin)
pattern, engine = EventPatternCompiler().compile_event_pattern(given["pattern"]), EventRuleEngine()
print(json.dumps([engine.evaluate_pattern_on_event(pattern, event) for event in given["events"]]))
`;

// Matchers that others have written after EventBridge; that of AWS itself is not to be had.
describe.each([['moto', installMoto, motoPython, moto], ['LocalStack', installLocalStack, localStackPython, localStack]] as const)('the rule for failed jobs, by the matcher of %s', (_, install, python, program) => {
  const missing = install();
  if (missing) console.warn(`skipped: ${missing}`);

  it.skipIf(missing)('tells of those that failed, and not of those that were terminated because their execution was stopped', () => {
    const answer = JSON.parse(execFileSync(python, ['-c', program], { input: JSON.stringify({ pattern: pattern(), events: events.map(([, , given]) => given) }), encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] })) as boolean[];
    expect(Object.fromEntries(events.map(([what], i) => [what, answer[i]]))).toEqual(Object.fromEntries(events.map(([what, told]) => [what, told])));
  });
});
