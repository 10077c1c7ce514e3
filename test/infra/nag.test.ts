import { Validations, type App } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { AwsSolutionsChecks } from 'cdk-nag';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalStack } from '../../infra/localstack-stack.ts';
import { checkOptions, type OptionsInput } from '../../infra/options.ts';
import { createStacks } from '../../infra/stacks.ts';
import { testApp, type Json } from './support.ts';

let folder: string;
beforeAll(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'genview-nag-')); });
afterAll(() => rmSync(folder, { recursive: true }));

type Checks = (app: App) => AwsSolutionsChecks;
const everything: Checks = (app) => Object.assign(new AwsSolutionsChecks(app), { isAcknowledged: () => false });

/** The stacks of a deployment on AWS, changed. */
const aws = (options: OptionsInput, change: (stacks: ReturnType<typeof createStacks>) => void = () => {}) => (app: App): void => change(createStacks(app, checkOptions(options)));
const localstack = (context: Readonly<Record<string, string>>) => (app: App): void => {
  for (const [key, value] of Object.entries(context)) app.node.setContext(key, value);
  createLocalStack(app);
};

/** Findings of the AwsSolutions rules, `<construct> <finding>`, and what is acknowledged in the same form. */
function check(create: (app: App) => void, checks: Checks = (app) => new AwsSolutionsChecks(app)): { findings: string[]; acknowledged: string[] } {
  const app = testApp(path.join(folder, String(Math.random())));
  Validations.of(app).addPlugins(checks(app));
  create(app);
  try { app.synth(); } catch (error) {
    if ((error as Error).name !== 'ValidationFailed' && !/[Vv]alidation failed/.test((error as Error).message)) throw error;
  }
  const report = JSON.parse(readFileSync(path.join(app.outdir, 'validation-report.json'), 'utf8')) as { pluginReports: { violations: Json[] }[] };
  // The CDK acknowledges some findings of its own.
  const acknowledged = app.node.findAll().flatMap((construct) => construct.node.metadata.filter(({ type }) => type === Validations.ACKNOWLEDGED_RULES_METADATA_KEY)
    .flatMap(({ data }) => Object.keys(data as object).filter((id) => id.includes('AwsSolutions')).map((id) => `${construct.node.path} ${id}`)));
  const findings = report.pluginReports.flatMap(({ violations }) => violations).flatMap(({ ruleName, violatingConstructs }) => (violatingConstructs as Json[]).map(({ constructPath }) => `${constructPath} ${ruleName}`));
  return { findings, acknowledged };
}

describe('cdk-nag (AwsSolutions)', { timeout: 180_000 }, () => {
  it.each<[string, (app: App) => void]>([
    ['the defaults', aws({})],
    ['everything chosen', aws({ encryption: 'kms', network: { egress: 'endpoints' }, inputs: ['s3://other/data/'], decryptionKeys: ['arn:aws:kms:eu-west-1:123456789012:key/0a1b'], monthlyBudget: 100, alarmEmail: 'ops@example.org', spot: false, cpuStages: ['pretrain'], retention: { intermediateDays: 90 } })],
    ['an existing network and key', aws({ encryption: 'arn:aws:kms:eu-west-1:123456789012:key/0a1b', network: { vpc: { id: 'vpc-1a', availabilityZones: ['a', 'b'], privateSubnets: ['subnet-1', 'subnet-2'] } } })],
    ['activities for all that is to be done', localstack({})],
    ['activities for jobs, and functions', localstack({ name: 'team', functions: 'lambda' })],
  ])('finds nothing that is not acknowledged with a reason, with %s', (_, create) => {
    expect(check(create).findings).toEqual([]);
  });

  it('would find a bucket that takes plain HTTP and keeps no access log, and a role that may do anything', () => {
    expect(check(aws({}, ({ stateful, stateless }) => {
      new Bucket(stateful, 'Bare');
      new Role(stateless, 'Almighty', { assumedBy: new ServicePrincipal('ec2.amazonaws.com') }).addToPolicy(new PolicyStatement({ actions: ['s3:*'], resources: ['*'] }));
    })).findings.toSorted()).toEqual([
      'GenViewData/Bare/Resource AwsSolutions-S1', 'GenViewData/Bare/Resource AwsSolutions-S10',
      'GenViewWorkflow/Almighty/DefaultPolicy/Resource AwsSolutions-IAM5[Action::s3:*]', 'GenViewWorkflow/Almighty/DefaultPolicy/Resource AwsSolutions-IAM5[Resource::*]',
    ]);
  });

  it.each<[string, (app: App) => void, number]>([
    ['AWS', aws({ encryption: 'kms' }), 50], ['activities', localstack({}), 1], ['activities and functions', localstack({ functions: 'lambda' }), 1],
  ])('is told of nothing that it would not find, on %s', (_, create, least) => {
    const { findings, acknowledged } = check(create, everything);
    expect(acknowledged.length).toBeGreaterThan(least);
    const stale = acknowledged.filter((entry) => {
      const [construct, id] = [entry.slice(0, entry.indexOf(' ')), entry.slice(entry.indexOf(' ') + 1).replace(/^.*::(?=AwsSolutions-)/, '')];
      return !findings.some((finding) => finding.startsWith(construct!) && finding.endsWith(` ${id}`));
    });
    expect(stale).toEqual([]);
  });
});
