import { App, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { LogGroup, type ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { readFileSync } from 'node:fs';
import type { Store } from '../../infra/constructs/store-access.ts';
import { logNames, type LogName } from '../../infra/stateful-stack.ts';

// The CDK's own template check takes most of a synthesis; `npm run synth` has it.
process.env['CDK_VALIDATION'] = 'false';

/** An app with the flags of cdk.json; nothing is bundled or copied, which would run npm and esbuild. */
export function testApp(outdir?: string): App {
  const { context } = JSON.parse(readFileSync(new URL('../../cdk.json', import.meta.url), 'utf8')) as { context: Record<string, unknown> };
  return new App({ ...(outdir !== undefined && { outdir }), context: { ...context, 'aws:cdk:bundling-stacks': [], 'aws:cdk:disable-asset-staging': true } });
}

/** A stack with what constructs are given. */
export function testStack(): { stack: Stack; store: Store; logGroups: Readonly<Record<LogName, ILogGroup>>; template: () => Template } {
  const app = testApp(), stack = new Stack(app, 'Test');
  const store = { bucket: new Bucket(new Stack(app, 'Data'), 'Store'), key: undefined, inputs: [] };
  const logGroups = Object.fromEntries(logNames.map((name) => [name, LogGroup.fromLogGroupName(stack, `${name}-log`, `/genview/${name}`)])) as Record<LogName, ILogGroup>;
  return { stack, store, logGroups, template: () => Template.fromStack(stack) };
}

/** A parsed template has no type that would help. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Json = any;

/** CloudFormation's expressions as readable text: the same for the same expression. */
export function flatten(value: Json): Json {
  if (Array.isArray(value)) return value.map(flatten);
  if (value === null || typeof value !== 'object') return value;
  if ('Fn::Join' in value) return value['Fn::Join'][1].map(flatten).join(value['Fn::Join'][0]);
  if ('Ref' in value) return `<${value.Ref}>`;
  if ('Fn::GetAtt' in value) return `<${value['Fn::GetAtt'].join('.')}>`;
  if ('Fn::ImportValue' in value) return `<${value['Fn::ImportValue']}>`;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, flatten(item)]));
}

/** ARN of the bucket in roles of `testStack`, and of both stacks together. */
export const bucketArn = /<\w+:ExportsOutputFnGetAttStore\w+>/;

/** Properties of the resources of a type, by logical id. */
export function resources(template: Template, type: string): Record<string, Json> {
  return Object.fromEntries(Object.entries(template.findResources(type)).map(([id, { Properties }]) => [id, flatten(Properties)]));
}

/** Properties of the only resource of a type whose id contains `part`. */
export function resource(template: Template, type: string, part = ''): Json {
  const found = Object.entries(resources(template, type)).filter(([id]) => id.includes(part));
  if (found.length !== 1) throw new Error(`${found.length} resources of ${type} with ${part} in their names`);
  return found[0]![1];
}

/** A statement with lists where CloudFormation also takes single values. */
export interface Statement { readonly actions: string[]; readonly resources: string[]; readonly condition?: Json }

/** What the role whose id contains `part` may do. */
export function statementsOf(template: Template, part: string): Statement[] {
  const policies = Object.values(resources(template, 'AWS::IAM::Policy')).filter(({ Roles }) => (Roles as string[]).some((role) => role.includes(part)));
  return policies.flatMap(({ PolicyDocument }) => PolicyDocument.Statement as Json[])
    .map(({ Action, Resource, Condition }) => ({ actions: [Action].flat(), resources: [Resource].flat(), ...(Condition && { condition: Condition }) }));
}
