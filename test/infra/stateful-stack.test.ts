import { Template } from 'aws-cdk-lib/assertions';
import { describe, expect, it } from 'vitest';
import { stageNames } from '../../infra/access.ts';
import { checkOptions, type OptionsInput } from '../../infra/options.ts';
import { StatefulStack } from '../../infra/stateful-stack.ts';
import { resource, resources, testApp, type Json } from './support.ts';

function synthesize(options: OptionsInput = {}) {
  return Template.fromStack(new StatefulStack(testApp(), 'Data', { options: checkOptions(options) }));
}
const standard = synthesize();
const bucket = (template = standard): Json => resource(template, 'AWS::S3::Bucket', 'Store');
const rules = (template = standard): Json[] => bucket(template).LifecycleConfiguration.Rules;

describe('the bucket', () => {
  it('is private, encrypted, versioned, logged, and tells EventBridge of new objects', () => {
    expect(bucket()).toMatchObject({
      BucketEncryption: { ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' } }] },
      PublicAccessBlockConfiguration: { BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true },
      OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
      VersioningConfiguration: { Status: 'Enabled' },
      LoggingConfiguration: { DestinationBucketName: expect.stringMatching(/^<AccessLogs/) as string },
      NotificationConfiguration: { EventBridgeConfiguration: { EventBridgeEnabled: true } },
    });
    // No function of the CDK's own to set up the bucket.
    standard.resourceCountIs('AWS::Lambda::Function', 0);
  });

  it('takes TLS 1.2 or newer only', () => {
    const { Statement } = resource(standard, 'AWS::S3::BucketPolicy', 'Store').PolicyDocument;
    expect((Statement as Json[]).filter(({ Effect }) => Effect === 'Deny').map(({ Condition, Action, Resource }) => ({ Condition, Action, resources: Resource.length }))).toEqual([
      { Condition: { Bool: { 'aws:SecureTransport': 'false' } }, Action: 's3:*', resources: 2 },
      { Condition: { NumericLessThan: { 's3:TlsVersion': 1.2 } }, Action: 's3:*', resources: 2 },
    ]);
  });

  it('outlives the stack', () => {
    for (const { DeletionPolicy, UpdateReplacePolicy } of Object.values(standard.findResources('AWS::S3::Bucket'))) expect([DeletionPolicy, UpdateReplacePolicy]).toEqual(['Retain', 'Retain']);
  });

  it('keeps replaced results for 30 days, replaced intermediates and checkpoints for one, and unfinished uploads for a week', () => {
    expect(rules()[0]).toEqual({ Id: 'versions', Status: 'Enabled', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 }, NoncurrentVersionExpiration: { NoncurrentDays: 30 }, ExpiredObjectDeleteMarker: true });
    expect(rules().slice(1).map(({ Prefix, NoncurrentVersionExpiration: { NoncurrentDays } }) => `${Prefix} ${NoncurrentDays}`)).toEqual(['store/analysis/ 1', 'store/demo-dataset/ 1', 'store/views/ 1', 'store/pretrain/ 1']);
  });

  it('deletes nothing that is current unless an option says so, and then no result and nothing that people put there', () => {
    expect(rules().filter(({ ExpirationInDays }) => ExpirationInDays !== undefined)).toEqual([]);
    expect(rules().slice(1).every(({ Transitions }) => Transitions[0].StorageClass === 'INTELLIGENT_TIERING')).toBe(true);
    const expiring = rules(synthesize({ retention: { intermediateDays: 90, versionDays: 7 } }));
    expect(expiring[0].NoncurrentVersionExpiration).toEqual({ NoncurrentDays: 7 });
    expect(expiring.filter(({ ExpirationInDays }) => ExpirationInDays === 90).map(({ Prefix }) => Prefix)).toEqual(['store/analysis/', 'store/demo-dataset/', 'store/views/']);
  });
});

describe('log groups', () => {
  it('are one for each stage, the triggers, the state machine and the network, and forget after 30 days', () => {
    const groups = Object.values(resources(standard, 'AWS::Logs::LogGroup'));
    expect(groups.map(({ LogGroupName }) => LogGroupName as string).toSorted()).toEqual([...[...stageNames, 'start-run', 'stop-jobs', 'network'].map((name) => `/genview/${name}`), '/aws/vendedlogs/states/genview'].toSorted());
    expect(groups.every(({ RetentionInDays }) => RetentionInDays === 30)).toBe(true);
    expect(Object.values(resources(synthesize({ name: 'team', retention: { logDays: 90 } }), 'AWS::Logs::LogGroup')).filter(({ LogGroupName, RetentionInDays }) => /\/team(\/|$)/.test(LogGroupName) && RetentionInDays === 90)).toHaveLength(groups.length);
  });
});

describe('encryption with a key', () => {
  it('of the deployment covers bucket and logs, and rotates', () => {
    const template = synthesize({ encryption: 'kms' });
    expect(resource(template, 'AWS::KMS::Key')).toMatchObject({ EnableKeyRotation: true });
    expect(bucket(template).BucketEncryption.ServerSideEncryptionConfiguration).toEqual([{ BucketKeyEnabled: true, ServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: expect.stringMatching(/^<Key/) as string } }]);
    expect(Object.values(resources(template, 'AWS::Logs::LogGroup')).every(({ KmsKeyId }) => (KmsKeyId as string).startsWith('<Key'))).toBe(true);
    const services = (resource(template, 'AWS::KMS::Key').KeyPolicy.Statement as Json[]).flatMap(({ Principal }) => Principal.Service ?? []);
    expect(services).toEqual(expect.arrayContaining(['logs.<AWS::Region>.<AWS::URLSuffix>', 'cloudwatch.amazonaws.com', 'budgets.amazonaws.com']));
  });

  it('of someone else uses it and makes none', () => {
    const arn = 'arn:aws:kms:eu-west-1:123456789012:key/0a1b';
    const template = synthesize({ encryption: arn });
    template.resourceCountIs('AWS::KMS::Key', 0);
    expect(bucket(template).BucketEncryption.ServerSideEncryptionConfiguration[0].ServerSideEncryptionByDefault.KMSMasterKeyID).toBe(arn);
  });
});
