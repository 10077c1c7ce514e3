import { Template } from 'aws-cdk-lib/assertions';
import validate from 'asl-validator';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { pascal } from '../../infra/constructs/images.ts';
import { checkOptions, type OptionsInput } from '../../infra/options.ts';
import { createStacks, createTarget } from '../../infra/stacks.ts';
import { buildWorkflow, machinesOfDefinition, type WorkflowRefs } from '../../src/workflow/definition.ts';
import { defaultMachines } from '../../src/workflow/deployedMachines.ts';
import { jobDefinitionNames, lambdaNames } from '../../src/workflow/stages.ts';
import { flatten, resource, resources, statementsOf, testApp, type Json } from './support.ts';

const { stateful, stateless } = createStacks(testApp(), checkOptions());
const data = Template.fromStack(stateful), template = Template.fromStack(stateless);
const stateMachine = (): Json => resource(template, 'AWS::StepFunctions::StateMachine');

describe('the state machine', () => {
  it('is the definition that runs locally, with the names of the deployed resources', () => {
    const refs = flatten(stateless.resolve(stateless.workflow.refs)) as WorkflowRefs;
    expect(JSON.parse(stateMachine().DefinitionString as string)).toEqual(buildWorkflow(refs));
    expect(new Set(Object.values(refs.functions)).size).toBe(lambdaNames.length);
    expect(new Set(Object.values(refs.jobDefinitions)).size).toBe(jobDefinitionNames.length);
    expect(new Set(Object.values(refs.queues)).size).toBe(3);
  });

  it('tells what machines the deployment has, and refuses recipes that need more', () => {
    const definition = (options: OptionsInput): Json => {
      const { stateless: stack } = createStacks(testApp(), checkOptions(options));
      return JSON.parse(resource(Template.fromStack(stack), 'AWS::StepFunctions::StateMachine').DefinitionString as string) as Json;
    };
    expect(machinesOfDefinition(JSON.parse(stateMachine().DefinitionString as string) as object)).toEqual(defaultMachines);
    const own = definition({ spot: false, gpuInstanceTypes: ['g6.2xlarge'], maxVcpus: { gpu: 32 }, cpuStages: ['fit-foreground'], training: { instanceType: 'g6e.12xlarge', nodes: 2 } });
    expect(machinesOfDefinition(own)).toEqual({ spot: false, gpuInstanceTypes: ['g6.2xlarge'], maxVcpus: { gpu: 32, cpu: 64 }, cpuStages: ['fit-foreground'], training: { instanceType: 'g6e.12xlarge', nodes: 2, gpus: 4 } });
    expect(own.States.ResolveRecipe.Arguments.Payload.training).toEqual({ nodes: 2, gpus: 4 });
  });

  it('is accepted by an independent validator', () => {
    const text = (stateMachine().DefinitionString as string).replaceAll('<AWS::Partition>', 'aws');
    expect(validate(JSON.parse(text) as object)).toMatchObject({ isValid: true, errors: [] });
  });

  it('may submit, describe and terminate its jobs, and call its functions', () => {
    const all = statementsOf(template, 'WorkflowRole');
    const of = (action: string): string[] => all.filter(({ actions }) => actions.includes(action)).flatMap((statement) => statement.resources);
    // Without the first, stopping an execution would leave its jobs running.
    expect(of('batch:TerminateJob')).toEqual(['arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:job/*']);
    expect(of('batch:DescribeJobs')).toEqual(['*']);
    expect(of('batch:SubmitJob').filter((each) => each.includes('job-definition/')).map((each) => each.replace(/^.*job-definition\//, '')).toSorted()).toEqual(jobDefinitionNames.map((name) => `genview-${name}:*`).toSorted());
    expect(of('batch:SubmitJob')).not.toContain('*');
    // Every version, since running executions call those that they began with; the workflow itself names one of each.
    expect(of('lambda:InvokeFunction').map((each) => each.replace(/^<Functions(\w+)[0-9A-F]{8}\.Arn>/, '$1')).toSorted()).toEqual(lambdaNames.map((name) => `${pascal(name)}:*`).toSorted());
    expect(Object.values((flatten(stateless.resolve(stateless.workflow.refs)) as WorkflowRefs).functions).every((arn) => /^<Functions\w+CurrentVersion\w+>$/.test(arn))).toBe(true);
    for (const { DeletionPolicy, UpdateReplacePolicy } of Object.values(template.findResources('AWS::Lambda::Version'))) expect([DeletionPolicy, UpdateReplacePolicy]).toEqual(['RetainExceptOnCreate', 'Retain']);
    expect(of('events:PutRule')).toEqual(['arn:<AWS::Partition>:events:<AWS::Region>:<AWS::AccountId>:rule/StepFunctionsGetEventsForBatchJobsRule']);
  });

  it('is traced, logs every event without data, and says where its store is', () => {
    expect(stateMachine()).toMatchObject({
      StateMachineName: 'genview', TracingConfiguration: { Enabled: true }, LoggingConfiguration: { Level: 'ALL', IncludeExecutionData: false },
      Tags: expect.arrayContaining([{ Key: 'genview:store', Value: expect.stringMatching(/^s3:\/\/<.*ExportsOutputRefStore.*>\/store\/$/) as string }]) as Json,
    });
  });
});

describe('every role', () => {
  it('names its actions one by one', () => {
    const actions = [data, template].flatMap((each) => Object.values(resources(each, 'AWS::IAM::Policy'))).flatMap(({ PolicyDocument }) => (PolicyDocument.Statement as Json[]).flatMap(({ Action }) => Action as string | string[]));
    expect(actions.length).toBeGreaterThan(100);
    expect(actions.filter((action) => action.includes('*'))).toEqual([]);
  });

  it('has no managed policy, and every resource wildcard is of an action that knows no resources', () => {
    expect(Object.values(resources(template, 'AWS::IAM::Role')).filter(({ ManagedPolicyArns }) => ManagedPolicyArns !== undefined)).toEqual([]);
    const anywhere = Object.values(resources(template, 'AWS::IAM::Policy')).flatMap(({ PolicyDocument }) => (PolicyDocument.Statement as Json[]).filter(({ Resource }) => [Resource].flat().includes('*')).flatMap(({ Action }) => Action as string | string[]));
    expect([...new Set(anywhere)].toSorted()).toEqual([
      'batch:DescribeJobs', 'batch:ListJobs', 'ec2:DescribeTags', 'ecr:GetAuthorizationToken', 'ecs:DiscoverPollEndpoint',
      ...['CreateLogDelivery', 'DeleteLogDelivery', 'DescribeLogGroups', 'DescribeResourcePolicies', 'GetLogDelivery', 'ListLogDeliveries', 'PutResourcePolicy', 'UpdateLogDelivery'].map((name) => `logs:${name}`),
      ...['GetSamplingRules', 'GetSamplingTargets', 'PutTelemetryRecords', 'PutTraceSegments'].map((name) => `xray:${name}`),
    ]);
  });
});

describe('stacks', () => {
  it('carry the tag that costs are counted by', () => {
    for (const { Tags } of Object.values(resources(template, 'AWS::Batch::ComputeEnvironment'))) expect(Tags).toEqual({ application: 'genview' });
    expect(resource(data, 'AWS::S3::Bucket', 'Store').Tags).toContainEqual({ Key: 'application', Value: 'genview' });
  });

  it('of a second deployment share no name with the first', () => {
    const second = createStacks(testApp(), checkOptions({ name: 'second-team' }));
    expect([second.stateful.stackName, second.stateless.stackName]).toEqual(['SecondTeamData', 'SecondTeamWorkflow']);
    const named = (each: Template): string[] => Object.values(each.toJSON()['Resources'] as Record<string, Json>).flatMap(({ Type, Properties = {} }) => {
      const name: unknown = flatten(Properties[`${(Type as string).split('::')[2]}Name`]);
      return typeof name === 'string' && Type !== 'AWS::IAM::Policy' ? [`${Type} ${name}`] : [];
    });
    const first = [...named(data), ...named(template)], other = [...named(Template.fromStack(second.stateful)), ...named(Template.fromStack(second.stateless))];
    expect(first.length).toBeGreaterThan(25);
    expect(other).toEqual(first.map((name) => name.replace('genview', 'second-team')));
  });

  it('of the same name in another region share no name with it either', () => {
    // Of what is an account's, or everybody's, and not a region's.
    const global = new Set(['AWS::CloudWatch::Dashboard', 'AWS::IAM::Role', 'AWS::IAM::ManagedPolicy', 'AWS::IAM::InstanceProfile', 'AWS::S3::Bucket', 'AWS::Budgets::Budget']);
    const { stateful: full, stateless: rest } = createStacks(testApp(), checkOptions({ monthlyBudget: 10, encryption: 'kms', alarmEmail: 'ops@example.org' }));
    const found = [full, rest].flatMap((stack) => Object.values(Template.fromStack(stack).toJSON()['Resources'] as Record<string, Json>)).filter(({ Type }) => global.has(Type as string));
    expect(new Set(found.map(({ Type }) => Type as string))).toEqual(new Set([...global].filter((type) => type !== 'AWS::IAM::ManagedPolicy')));
    const names = found.flatMap(({ Type, Properties }) => ['DashboardName', 'RoleName', 'ManagedPolicyName', 'InstanceProfileName', 'BucketName'].map((key) => flatten(Properties[key]) as string | undefined).concat(Properties.Budget?.BudgetName as string | undefined).filter((name) => name !== undefined).map((name) => `${Type} ${name}`));
    // All others get theirs from CloudFormation, with a random part.
    expect(names).toEqual(['AWS::CloudWatch::Dashboard genview-<AWS::Region>']);
  });

  it.each([['GenViewData', data], ['GenViewWorkflow', template]])('%s is as it was', (_, each) => {
    expect(normalized(each.toJSON())).toMatchSnapshot();
  });
});

/** A template without the hashes of code and images: they change with every change of what is not infrastructure. */
function normalized(value: Json): Json {
  return JSON.parse(JSON.stringify(value).replaceAll(/[0-9a-f]{64}/g, '<hash>').replaceAll(/(?<=CurrentVersion[0-9A-F]{8})[0-9a-f]{32}/g, '<hash>')) as Json;
}

describe('the context', () => {
  const refusal = (context: Record<string, unknown>): string => {
    const app = testApp();
    for (const [key, value] of Object.entries(context)) app.node.setContext(key, value);
    try { createTarget(app); } catch (error) { return (error as Error).message; }
    return 'accepted';
  };

  it('is refused when it names a target that there is not', () => {
    expect(refusal({ target: 'azure' })).toMatch(/-c target=azure: there is no such target; known are aws/);
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ bogus: '1' }, /^-c bogus \(or context of cdk\.json\): there is no such option with target aws; known are alarmEmail, buildArguments, config, cpuStages/],
    [{ sport: 'false' }, /^-c sport /],
    [{ functions: 'lambda' }, /^-c functions .*: there is no such option with target aws/],
    [{ target: 'localstack', spot: 'false' }, /^-c spot .*: there is no such option with target localstack; known are functions, heartbeatSeconds, name, target$/],
  ])('%j is refused with what there is', (context, message) => {
    expect(refusal(context)).toMatch(message);
  });

  it('may have what the CDK itself keeps there', () => {
    expect(refusal({
      'target': 'localstack', 'cli-telemetry': false, '@aws-cdk/core:newStyleStackSynthesis': true, 'aws:cdk:enable-path-metadata': true, 'availability-zones:account=1:region=eu-west-1': ['a'],
      'vpc-provider:account=1:filter.vpc-id=vpc-1:region=eu-west-1': {}, 'acknowledged-issue-numbers': [1], '@aws-cdk-containers/ecs-service-extensions:enableDefaultLogDriver': true,
    })).toBe('accepted');
  });

  it('may have what a person has for all projects', () => {
    const home = mkdtempSync(path.join(tmpdir(), 'genview-home-'));
    vi.stubEnv('HOME', home);
    try {
      writeFileSync(path.join(home, '.cdk.json'), '{"context":{"team":"birds"}}');
      expect(refusal({ target: 'localstack', team: 'birds' })).toBe('accepted');
      expect(refusal({ target: 'localstack', time: 'birds' })).toMatch(/^-c time /);
    } finally {
      vi.unstubAllEnvs();
      rmSync(home, { recursive: true });
    }
  });
});
