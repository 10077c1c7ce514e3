import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import validate from 'asl-validator';
import { beforeAll, describe, expect, it } from 'vitest';
import { createLocalStack } from '../../infra/localstack-stack.ts';
import { createTarget } from '../../infra/stacks.ts';
import { buildWorkflow, storeOfDefinition, type WorkflowRefs } from '../../src/workflow/definition.ts';
import { jobDefinitionNames, lambdaNames } from '../../src/workflow/stages.ts';

beforeAll(() => { process.env['CDK_VALIDATION'] = 'false'; });

const app = (context: Record<string, unknown> = {}): App => new App({ context: { 'aws:cdk:bundling-stacks': [], ...context } });

/** CloudFormation's expressions as readable text. */
function flatten(value: any): any {
  if (Array.isArray(value)) return value.map(flatten);
  if (value === null || typeof value !== 'object') return value;
  if ('Fn::Join' in value) return value['Fn::Join'][1].map(flatten).join(value['Fn::Join'][0]);
  if ('Ref' in value) return `<${value.Ref}>`;
  if ('Fn::GetAtt' in value) return `<${value['Fn::GetAtt'].join('.')}>`;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, flatten(item)]));
}

describe('the localstack target', () => {
  it('is a bucket, the state machine, an activity for each job and function, and the rights of a worker', () => {
    const template = Template.fromStack(createLocalStack(app()));
    const types = Object.values(template.toJSON()['Resources'] as Record<string, { Type: string }>).map(({ Type }) => Type);
    expect(Object.fromEntries([...new Set(types)].map((type) => [type, types.filter((other) => other === type).length]))).toEqual({
      'AWS::S3::Bucket': 1, 'AWS::S3::BucketPolicy': 1, 'AWS::StepFunctions::Activity': jobDefinitionNames.length + lambdaNames.length, 'AWS::StepFunctions::StateMachine': 1, 'AWS::IAM::Role': 1, 'AWS::IAM::ManagedPolicy': 1,
    });
    for (const name of [...jobDefinitionNames, ...lambdaNames]) template.hasResourceProperties('AWS::StepFunctions::Activity', { Name: `genview-${name}` });
    template.hasResourceProperties('AWS::IAM::ManagedPolicy', { PolicyDocument: { Statement: Match.arrayWith([Match.objectLike({ Action: 'states:ListActivities', Resource: '*' })]) } });
    for (const output of ['StateMachineArn', 'StoreUrl', 'WorkerPolicyArn']) template.hasOutput(output, {});
  });

  it('deploys the definition that the local interpreter runs, with the ARNs of its activities', () => {
    const stack = createLocalStack(app({ heartbeatSeconds: 9 }));
    const machine = Object.values(Template.fromStack(stack).findResources('AWS::StepFunctions::StateMachine'))[0]!;
    const text = flatten(machine['Properties'].DefinitionString) as string;
    const refs = flatten(stack.resolve(stack.refs)) as WorkflowRefs;
    expect(JSON.parse(text)).toEqual(buildWorkflow(refs));
    expect(refs.activities!.heartbeatSeconds).toBe(9);
    // By which the commands find the store where tags are not kept.
    expect(storeOfDefinition(JSON.parse(text) as object)).toMatch(/^s3:\/\/<Store\w+>\/$/);
    expect(storeOfDefinition(buildWorkflow({ ...refs, store: undefined } as WorkflowRefs))).toBeUndefined();
    expect(storeOfDefinition({ Comment: 'Another machine. Its store: s3://x/' })).toBeUndefined();
    expect(validate(JSON.parse(text.replaceAll(/<[^>]*Tasks[^>]*>/g, 'arn:aws:states:us-east-1:123456789012:activity:a')) as object)).toMatchObject({ isValid: true, errors: [] });
  });

  it('needs no bootstrap: nothing is uploaded, and the template is small enough to be sent', () => {
    const small = app({ target: 'localstack' });
    createTarget(small);
    const [artifact] = small.synth().stacks;
    expect(artifact!.assets).toEqual([]);
    expect(artifact!.requiresBootstrapStackVersion).toBeUndefined();
    expect(JSON.stringify(artifact!.template).length).toBeLessThan(51_200);
  });

  it('can leave the plain functions to Lambda', () => {
    const template = Template.fromStack(createLocalStack(app({ functions: 'lambda', name: 'team' })));
    template.resourceCountIs('AWS::Lambda::Function', 3);
    // Into one log that does not grow for ever, and no other: instead of the managed policy for all logs of the account.
    template.allResourcesProperties('AWS::Lambda::Function', { LoggingConfig: { LogGroup: { Ref: Match.stringLikeRegexp('^FunctionsLog') } } });
    template.hasResourceProperties('AWS::Logs::LogGroup', { RetentionInDays: 30 });
    template.allResourcesProperties('AWS::IAM::Role', { ManagedPolicyArns: Match.absent() });
    template.hasResourceProperties('AWS::StepFunctions::Activity', { Name: 'team-report' });
    expect(Object.values(template.findResources('AWS::StepFunctions::Activity')).map((activity) => activity['Properties'].Name as string)).not.toContain('team-plan-views');
    template.hasResourceProperties('AWS::IAM::Policy', { PolicyDocument: { Statement: [Match.objectLike({ Action: 'lambda:InvokeFunction', Resource: [Match.anyValue(), Match.anyValue(), Match.anyValue()] })] } });
  });

  it.each([
    [{ target: 'gcp' }, /-c target=gcp: there is no such target; known are aws, localstack/],
    [{ target: 'localstack', functions: 'batch' }, /-c functions=batch/],
    [{ target: 'localstack', name: 'My Team' }, /-c name=My Team/],
    [{ target: 'localstack', heartbeatSeconds: '0' }, /-c heartbeatSeconds=0/],
  ])('%j is refused', (context, message) => {
    expect(() => createTarget(app(context))).toThrow(message);
  });
});
