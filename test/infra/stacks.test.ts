import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import validate from 'asl-validator';
import { beforeAll, describe, expect, it } from 'vitest';
import { createStacks } from '../../infra/stacks.ts';
import type { StatelessStack } from '../../infra/stateless-stack.ts';
import { buildWorkflow, type WorkflowRefs } from '../../src/workflow/definition.ts';
import { batchStages, jobDefinitionNames, lambdaNames, lambdaStages, programOf } from '../../src/workflow/stages.ts';

let stack: StatelessStack;
let template: Template;
beforeAll(() => {
  // The CDK's own template check takes most of a synthesis; `npm run synth` has it.
  process.env['CDK_VALIDATION'] = 'false';
  // Without bundling: it would run npm and esbuild.
  const stacks = createStacks(new App({ context: { 'aws:cdk:bundling-stacks': [], '@aws-cdk/aws-batch:defaultToAL2023': true } }));
  stack = stacks.stateless;
  template = Template.fromStack(stack);
});

/** CloudFormation's expressions as readable text: the same for the same expression. */
function flatten(value: any): any {
  if (Array.isArray(value)) return value.map(flatten);
  if (value === null || typeof value !== 'object') return value;
  if ('Fn::Join' in value) return value['Fn::Join'][1].map(flatten).join(value['Fn::Join'][0]);
  if ('Ref' in value) return `<${value.Ref}>`;
  if ('Fn::GetAtt' in value) return `<${value['Fn::GetAtt'].join('.')}>`;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, flatten(item)]));
}

const stateMachine = (): any => Object.values(template.findResources('AWS::StepFunctions::StateMachine'))[0];
const statements = (): any[] => {
  const role = stateMachine().Properties.RoleArn['Fn::GetAtt'][0] as string;
  const policy = Object.values(template.findResources('AWS::IAM::Policy')).find((candidate: any) => candidate.Properties.Roles.some(({ Ref }: { Ref: string }) => Ref === role)) as any;
  return flatten(policy.Properties.PolicyDocument.Statement) as any[];
};

describe('the state machine', () => {
  it('is the definition that runs locally, with the names of the deployed resources', () => {
    const deployed = JSON.parse(flatten(stateMachine().Properties.DefinitionString) as string) as object;
    const refs = flatten(stack.resolve(stack.workflow.refs)) as WorkflowRefs;
    expect(deployed).toEqual(buildWorkflow(refs));
    expect(new Set(Object.values(refs.functions)).size).toBe(lambdaNames.length);
    expect(new Set(Object.values(refs.jobDefinitions)).size).toBe(jobDefinitionNames.length);
  });

  it('is accepted by an independent validator', () => {
    const text = (flatten(stateMachine().Properties.DefinitionString) as string).replaceAll('<AWS::Partition>', 'aws');
    expect(validate(JSON.parse(text) as object)).toMatchObject({ isValid: true, errors: [] });
  });

  it('may submit, describe and terminate its jobs, and call its functions', () => {
    const all = statements();
    const of = (action: string): string[] => all.filter(({ Action }) => [Action].flat().includes(action)).flatMap(({ Resource }) => [Resource].flat() as string[]);
    expect(of('batch:TerminateJob')).toEqual(['arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:job/*']);
    expect(of('batch:DescribeJobs')).toEqual(['*']);
    expect(of('batch:SubmitJob').filter((resource) => resource.includes('job-definition/'))).toHaveLength(jobDefinitionNames.length);
    expect(of('batch:SubmitJob')).not.toContain('*');
    expect(of('lambda:InvokeFunction')).toHaveLength(lambdaNames.length);
    expect(of('events:PutRule')).toEqual(['arn:<AWS::Partition>:events:<AWS::Region>:<AWS::AccountId>:rule/StepFunctionsGetEventsForBatchJobsRule']);
  });
});

describe('job definitions and functions', () => {
  it.each(jobDefinitionNames)('%s has the resources, the timeout and the retries of the stage table', (name) => {
    const stage = batchStages[programOf(name)];
    const container = { ResourceRequirements: Match.arrayWith([{ Type: 'MEMORY', Value: String(stage.memoryMiB) }, { Type: 'VCPU', Value: String(stage.vcpus) }, { Type: 'GPU', Value: String(stage.gpus) }].toSorted((a, b) => order.indexOf(a.Type) - order.indexOf(b.Type))) };
    template.hasResourceProperties('AWS::Batch::JobDefinition', {
      JobDefinitionName: `genview-${name}`,
      Timeout: { AttemptDurationSeconds: stage.timeoutSeconds },
      RetryStrategy: { Attempts: 5, EvaluateOnExit: [{ Action: 'RETRY', OnStatusReason: 'Host EC2*' }, { Action: 'RETRY', OnReason: 'DockerTimeoutError*' }, { Action: 'RETRY', OnExitCode: '75' }, { Action: 'EXIT', OnReason: '*' }] },
      ...(name === 'pretrain-nodes'
        ? { Type: 'multinode', NodeProperties: { MainNode: 0, NodeRangeProperties: [{ TargetNodes: '0:', Container: container }] } }
        : { Type: 'container', ContainerProperties: container }),
    });
  });
  const order = ['MEMORY', 'VCPU', 'GPU'];

  it.each(lambdaNames)('%s has the memory and the timeout of the stage table', (name) => {
    template.hasResourceProperties('AWS::Lambda::Function', {
      MemorySize: lambdaStages[name].memoryMiB, Timeout: lambdaStages[name].timeoutSeconds,
      ...(lambdaStages[name].packaging === 'image' ? { PackageType: 'Image', ImageConfig: { Command: [`lambdas/${name}/handler.handler`] } } : { Runtime: 'nodejs22.x' }),
    });
  });

  it('have no permission on the bucket beyond reading, writing and listing', () => {
    for (const policy of Object.values(template.findResources('AWS::IAM::Policy'))) {
      for (const { Action } of (policy as any).Properties.PolicyDocument.Statement) for (const action of [Action].flat() as string[]) expect(action).not.toMatch(/^s3:.*\*/);
    }
  });
});

describe('compute', () => {
  it('scales to zero and prefers spot', () => {
    const environments = Object.values(template.findResources('AWS::Batch::ComputeEnvironment')) as any[];
    expect(environments).toHaveLength(3);
    for (const environment of environments) expect(environment.Properties.ComputeResources).toMatchObject({ MinvCpus: 0 });
    template.hasResourceProperties('AWS::Batch::JobQueue', { ComputeEnvironmentOrder: [{ Order: 1, ComputeEnvironment: { 'Fn::GetAtt': [Match.stringLikeRegexp('SpotGpu'), 'ComputeEnvironmentArn'] } }, { Order: 2 }] });
  });

  it('trains on several nodes on demand, close together', () => {
    template.hasResourceProperties('AWS::Batch::ComputeEnvironment', { ComputeResources: { Type: 'EC2', PlacementGroup: Match.anyValue(), InstanceTypes: ['g5.2xlarge'] } });
  });
});
