import type { Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { describe, expect, it } from 'vitest';
import { checkOptions, type OptionsInput } from '../../infra/options.ts';
import { createStacks } from '../../infra/stacks.ts';
import { programNames } from '../../src/workflow/stages.ts';
import { flatten, testApp, type Json } from './support.ts';

const key = 'arn:aws:kms:eu-west-1:123456789012:key/0a1b';
const choices: Readonly<Record<string, OptionsInput>> = {
  'the defaults': {},
  'an existing network': { network: { vpc: { id: 'vpc-1a', availabilityZones: ['a', 'b'], privateSubnets: ['subnet-1', 'subnet-2'] } } },
  'endpoints': { network: { egress: 'endpoints' } },
  'two zones': { network: { zones: 2 }, spot: false },
  'six zones and endpoints': { network: { egress: 'endpoints', zones: 6 } },
  'a key': { encryption: 'kms', monthlyBudget: 10 },
  'an existing key': { encryption: key, alarmEmail: 'ops@example.org' },
  'S3 after a key': { encryption: 's3', decryptionKeys: [key] },
  'no GPUs': { cpuStages: [...programNames] },
};

interface Subnet { readonly id: string; readonly block: string; readonly first: number; readonly last: number }

const templateOf = (stack: Stack) => Template.fromStack(stack).toJSON() as { readonly Outputs?: Record<string, Json>; readonly Resources: Record<string, Json> };

function deployed(options: OptionsInput) {
  const { stateful, stateless } = createStacks(testApp(), checkOptions(options));
  const data = templateOf(stateful), workflow = templateOf(stateless);
  const exported = Object.values(data.Outputs ?? {}).filter(({ Export }) => Export).map(({ Export, Value }) => `${Export.Name} = ${flatten(Value)}`);
  const imported = [...JSON.stringify(workflow).matchAll(/"Fn::ImportValue":"([^"]+)"/g)].map(([, name]) => name!);
  const subnets = Object.entries(workflow.Resources).filter(([, { Type }]) => Type === 'AWS::EC2::Subnet').map(([id, { Properties: { CidrBlock, AvailabilityZone } }]): Subnet => {
    const [, a, b, c, d, bits] = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(CidrBlock as string)!.map(Number);
    const first = ((a! * 256 + b!) * 256 + c!) * 256 + d!;
    return { id, block: `${CidrBlock} ${JSON.stringify(AvailabilityZone)}`, first, last: first + 2 ** (32 - bits!) - 1 };
  });
  return { stateful, stateless, exported, imported: new Set(imported), subnets, vpc: Object.values(workflow.Resources).find(({ Type }) => Type === 'AWS::EC2::VPC') };
}
const all = Object.fromEntries(Object.entries(choices).map(([name, options]) => [name, deployed(options)]));
const names = Object.keys(all), pairs = names.flatMap((from) => names.filter((to) => to !== from).map((to) => ({ from, to, before: all[from]!, after: all[to]! })));

describe('the options of a deployment can be changed, each choice into each other:', () => {
  it('what the workflow uses of the data stack is still there when that is updated first', () => {
    // CloudFormation neither deletes nor changes an export that is in use.
    const gone = pairs.flatMap(({ from, to, before, after }) => before.exported.filter((each) => before.imported.has(each.slice(0, each.indexOf(' = ')))).filter((each) => !after.exported.includes(each)).map((each) => `${from} -> ${to}: ${each}`));
    expect(gone).toEqual([]);
    for (const { imported } of Object.values(all)) expect(imported.size).toBeGreaterThan(30);
  });

  it('no new subnet takes addresses of one that goes only afterwards', () => {
    const taken = pairs.filter(({ before, after }) => before.vpc !== undefined && after.vpc !== undefined).flatMap(({ from, to, before, after }) => {
      expect(before.vpc).toEqual(after.vpc);
      const fresh = after.subnets.filter(({ id, block }) => !before.subnets.some((old) => old.id === id && old.block === block));
      return fresh.filter(({ first, last }) => before.subnets.some((old) => old.first <= last && first <= old.last)).map(({ id, block }) => `${from} -> ${to}: ${id} ${block}`);
    });
    expect(taken).toEqual([]);
    expect(Object.values(all).map(({ subnets }) => subnets.length)).toEqual([6, 0, 3, 4, 6, 6, 6, 6, 6]);
  });

  it('the data stack is updated first', () => {
    for (const { stateful, stateless } of Object.values(all)) expect(stateless.dependencies).toContain(stateful);
  });
});

it('the deployment\'s own key is read from an output that may go with it', () => {
  const { stateful, stateless, exported } = all['a key']!;
  expect(exported.filter((each) => each.includes('Key'))).toEqual([]);
  const outputs = templateOf(stateful).Outputs!;
  const read = [...JSON.stringify(templateOf(stateless)).matchAll(/"Fn::GetStackOutput":(\{(?:[^{}]|\{[^{}]*\})*\})/g)].map(([, text]) => JSON.parse(text!) as Json).map(({ StackName, OutputName }) => `${StackName} ${OutputName}`);
  const output = Object.keys(outputs).find((name) => name.includes('Key'))!;
  expect(new Set(read)).toEqual(new Set([`GenViewData ${output}`]));
  expect(flatten(outputs[output].Value)).toMatch(/^<Key\w+\.Arn>$/);
});

it('every stage that reads objects, and the function that starts runs, may decrypt with the keys that are named', () => {
  const policies = Object.values(templateOf(all['S3 after a key']!.stateless).Resources).filter(({ Type }) => Type === 'AWS::IAM::Policy').map(({ Properties }) => Properties);
  const reading = policies.filter(({ PolicyDocument }) => JSON.stringify(PolicyDocument).includes('s3:GetObject'));
  expect(reading.length).toBe(programNames.length + 5);
  for (const { PolicyName, PolicyDocument } of reading) expect(PolicyDocument.Statement, PolicyName as string).toContainEqual({ Action: 'kms:Decrypt', Effect: 'Allow', Resource: key });
});
