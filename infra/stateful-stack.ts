import { Aws, CrossStackReferences, Duration, ReferenceStrength, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key, type IKey } from 'aws-cdk-lib/aws-kms';
import { LogGroup, type ILogGroup } from 'aws-cdk-lib/aws-logs';
import { BlockPublicAccess, Bucket, BucketEncryption, ObjectOwnership, StorageClass, type CfnBucket, type IBucket, type LifecycleRule } from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';
import { bucketLayout, folders, stageNames, type StageName } from './access.ts';
import type { Options } from './options.ts';

/** A log group each: the stages, the functions that start runs and stop jobs, the state machine, the network. */
export type LogName = StageName | 'start-run' | 'stop-jobs' | 'workflow' | 'network';
export const logNames: readonly LogName[] = [...stageNames, 'start-run', 'stop-jobs', 'workflow', 'network'];

export interface StatefulStackProps extends StackProps {
  readonly options: Options;
}

/** What must outlive a deployment. */
export class StatefulStack extends Stack {
  /** Datasets, recipes and models that people put there, and the store: runs, shards, views, checkpoints, reports. */
  readonly bucket: IBucket;
  readonly logGroups: Readonly<Record<LogName, ILogGroup>>;
  /** Of bucket, logs, topic and queue; undefined with AWS's own keys. */
  readonly key: IKey | undefined;

  constructor(scope: Construct, id: string, { options, ...props }: StatefulStackProps) {
    super(scope, id, props);
    // As in cdk.json, also for a program that does not read it: the other way is with access control lists, which are off.
    this.node.setContext('@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy', true);
    this.key = this.#key(options);
    this.bucket = this.#bucket(options);
    // The state machine's log would not be delivered into a group of another name without a policy that AWS limits to ten.
    const groupName = (name: LogName): string => name === 'workflow' ? `/aws/vendedlogs/states/${options.name}` : `/${options.name}/${name}`;
    const logGroup = (name: LogName): ILogGroup => new LogGroup(this, `${name}-log`, {
      logGroupName: groupName(name),
      retention: options.retention.logDays,
      // The names are fixed, so that they can be found: kept ones would be in the way of the next deployment.
      removalPolicy: RemovalPolicy.DESTROY,
      ...(this.key && { encryptionKey: this.key }),
    });
    this.logGroups = Object.fromEntries(logNames.map((name) => [name, logGroup(name)])) as Record<LogName, ILogGroup>;
    // Whatever the options let the other stack use today: this one is updated first, and no export may go that is still in use.
    for (const value of [this.bucket.bucketArn, this.bucket.bucketName, ...Object.values(this.logGroups).flatMap(({ logGroupArn, logGroupName }) => [logGroupArn, logGroupName])]) this.exportValue(value);
  }

  #key({ encryption }: Options): IKey | undefined {
    if (encryption === 's3') return undefined;
    if (encryption !== 'kms') return Key.fromKeyArn(this, 'Key', encryption);
    const key = new Key(this, 'Key', { description: 'GenView: bucket, logs, messages.', enableKeyRotation: true, removalPolicy: RemovalPolicy.RETAIN });
    // Read from an output that is no export: the option may change, and the key is then in this stack no more.
    CrossStackReferences.of(key).produce(ReferenceStrength.WEAK);
    key.addToResourcePolicy(new PolicyStatement({
      principals: [new ServicePrincipal(`logs.${Aws.REGION}.${Aws.URL_SUFFIX}`)],
      actions: ['kms:Encrypt', 'kms:Decrypt', 'kms:ReEncryptFrom', 'kms:ReEncryptTo', 'kms:GenerateDataKey', 'kms:GenerateDataKeyWithoutPlaintext', 'kms:DescribeKey'],
      resources: ['*'],
      conditions: { ArnLike: { 'kms:EncryptionContext:aws:logs:arn': this.formatArn({ service: 'logs', resource: '*' }) } },
    }));
    // What publishes to the topic; events add themselves.
    key.addToResourcePolicy(new PolicyStatement({
      principals: ['cloudwatch', 'budgets'].map((service) => new ServicePrincipal(`${service}.amazonaws.com`)),
      actions: ['kms:Decrypt', 'kms:GenerateDataKey'],
      resources: ['*'],
      conditions: { StringEquals: { 'aws:SourceAccount': Aws.ACCOUNT_ID } },
    }));
    return key;
  }

  #bucket({ retention: { logDays, versionDays, intermediateDays } }: Options): IBucket {
    const common = {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      removalPolicy: RemovalPolicy.RETAIN,
    };
    const accessLogs = new Bucket(this, 'AccessLogs', {
      ...common,
      // Log delivery knows no other.
      encryption: BucketEncryption.S3_MANAGED,
      lifecycleRules: [{ expiration: Duration.days(logDays), abortIncompleteMultipartUploadAfter: Duration.days(7) }],
    });

    // Versions of intermediates protect nothing, and those of checkpoints would cost more than the results.
    const large = (folder: string, expiration?: number): LifecycleRule => ({
      id: folder,
      prefix: `${bucketLayout.store}${folder}/`,
      noncurrentVersionExpiration: Duration.days(1),
      transitions: [{ storageClass: StorageClass.INTELLIGENT_TIERING, transitionAfter: Duration.days(0) }],
      ...(expiration !== undefined && { expiration: Duration.days(expiration) }),
    });
    const bucket = new Bucket(this, 'Store', {
      ...common,
      ...(this.key ? { encryption: BucketEncryption.KMS, encryptionKey: this.key, bucketKeyEnabled: true } : { encryption: BucketEncryption.S3_MANAGED }),
      versioned: true,
      serverAccessLogsBucket: accessLogs,
      serverAccessLogsPrefix: 'store/',
      lifecycleRules: [
        { id: 'versions', abortIncompleteMultipartUploadAfter: Duration.days(7), noncurrentVersionExpiration: Duration.days(versionDays), expiredObjectDeleteMarker: true },
        ...folders.intermediates.map((folder) => large(folder, intermediateDays)),
        ...folders.encoders.map((folder) => large(folder)),
      ],
    });
    // In the template itself: the construct's own way is a function that is there for nothing else.
    (bucket.node.defaultChild as CfnBucket).notificationConfiguration = { eventBridgeConfiguration: { eventBridgeEnabled: true } };
    return bucket;
  }
}
