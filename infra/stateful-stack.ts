import { Duration, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib';
import { LogGroup, RetentionDays, type ILogGroup } from 'aws-cdk-lib/aws-logs';
import { BlockPublicAccess, Bucket, BucketEncryption, ObjectOwnership, type IBucket } from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';

/** What must outlive a deployment. */
export class StatefulStack extends Stack {
  /** The store: runs, shards, views, checkpoints, reports. Also holds datasets and recipes that users put there. */
  readonly bucket: IBucket;
  /** Of every function and every job. */
  readonly logGroup: ILogGroup;

  constructor(scope: Construct, id: string, props?: StackProps) {
    super(scope, id, props);
    this.bucket = new Bucket(this, 'Store', {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      encryption: BucketEncryption.S3_MANAGED,
      enforceSSL: true,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      removalPolicy: RemovalPolicy.RETAIN,
      lifecycleRules: [{ abortIncompleteMultipartUploadAfter: Duration.days(7) }],
    });
    this.logGroup = new LogGroup(this, 'Logs', { logGroupName: '/genview/stages', retention: RetentionDays.ONE_MONTH, removalPolicy: RemovalPolicy.RETAIN });
  }
}
