import { ArnFormat, Duration, Stack } from 'aws-cdk-lib';
import { EventField, Match, Rule, RuleTargetInput } from 'aws-cdk-lib/aws-events';
import { LambdaFunction } from 'aws-cdk-lib/aws-events-targets';
import { PolicyStatement, type Role } from 'aws-cdk-lib/aws-iam';
import { Tracing, type IFunction } from 'aws-cdk-lib/aws-lambda';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Queue, QueueEncryption, type IQueue } from 'aws-cdk-lib/aws-sqs';
import type { StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { bucketLayout } from '../access.ts';
import { acknowledge } from '../acknowledge.ts';
import type { Options } from '../options.ts';
import { bundledFunction, functionEnvironment, functionRole } from './functions.ts';
import { acknowledgeObjects, type Store } from './store-access.ts';

export interface TriggersProps {
  readonly options: Options;
  readonly store: Store;
  readonly storeUrl: string;
  readonly stateMachine: StateMachine;
  readonly logGroup: ILogGroup;
}

/** What starts the workflow by itself: a recipe under `recipes/`, and a `_READY` beside a dataset's `recipe.yaml`. */
export class Triggers extends Construct {
  readonly startRun: IFunction;
  /** Events that could not be handled. */
  readonly deadLetters: Queue;

  constructor(scope: Construct, id: string, { options, store: { bucket, key, decryptionKeys = [] }, storeUrl, stateMachine, logGroup }: TriggersProps) {
    super(scope, id);
    this.deadLetters = new Queue(this, 'DeadLetters', {
      enforceSSL: true,
      retentionPeriod: Duration.days(14),
      ...(key ? { encryption: QueueEncryption.KMS, encryptionMasterKey: key } : { encryption: QueueEncryption.SQS_MANAGED }),
    });

    const role = functionRole(this, 'start-run', logGroup, 'GenView start-run: starts the workflow for new recipes.');
    const recipes = [`${bucketLayout.recipes}*.yaml`, `${bucketLayout.datasets}*/recipe.yaml`];
    const allow = (actions: string[], resources: string[], conditions?: Record<string, Record<string, readonly string[]>>): void => {
      role.addToPolicy(new PolicyStatement({ actions, resources, ...(conditions && { conditions }) }));
    };
    allow(['states:StartExecution'], [stateMachine.stateMachineArn]);
    allowDescribingExecutions(role, options);
    const objects = recipes.map((keys) => bucket.arnForObjects(keys));
    allow(['s3:GetObject'], objects);
    for (const each of objects) acknowledgeObjects(role, bucket, each);
    // Without it S3 would not say that a recipe is missing.
    allow(['s3:ListBucket'], [bucket.bucketArn], { StringLikeIfExists: { 's3:prefix': recipes } });
    // To read, and to send to the dead-letter queue.
    if (key) allow(['kms:Decrypt', 'kms:GenerateDataKey'], [key.keyArn]);
    if (decryptionKeys.length > 0) allow(['kms:Decrypt'], [...decryptionKeys]);
    this.startRun = bundledFunction(this, 'start-run', {
      role, logGroup, memorySize: 512, timeout: Duration.minutes(1), tracing: Tracing.ACTIVE, deadLetterQueue: this.deadLetters,
      environment: { ...functionEnvironment, GENVIEW_STATE_MACHINE: stateMachine.stateMachineArn, GENVIEW_STORE: storeUrl },
    });

    const rule = new Rule(this, 'RecipeOrDataset', {
      description: 'GenView: a recipe under recipes/, or a dataset that says it is ready.',
      eventPattern: {
        source: ['aws.s3'],
        detailType: ['Object Created'],
        detail: { bucket: { name: [bucket.bucketName] }, object: { key: Match.anyOf(Match.wildcard(`${bucketLayout.recipes}*.yaml`), Match.wildcard(`${bucketLayout.datasets}*/_READY`)) } },
      },
    });
    rule.addTarget(patientTarget(this.startRun, this.deadLetters, {
      bucket: EventField.fromPath('$.detail.bucket.name'),
      key: EventField.fromPath('$.detail.object.key'),
      version: EventField.fromPath('$.detail.object.version-id'),
    }));
  }
}

/** A function that gets these fields of an event, for six hours and eight times if need be; then the event is kept. */
export function patientTarget(handler: IFunction, deadLetterQueue: IQueue, event: Readonly<Record<string, string>>): LambdaFunction {
  return new LambdaFunction(handler, { deadLetterQueue, retryAttempts: 8, maxEventAge: Duration.hours(6), event: RuleTargetInput.fromObject(event) });
}

/** To look at executions of the deployment's state machine. */
export function allowDescribingExecutions(role: Role, { name }: Options): void {
  const executions = Stack.of(role).formatArn({ service: 'states', resource: 'execution', resourceName: `${name}:*`, arnFormat: ArnFormat.COLON_RESOURCE_NAME });
  role.addToPolicy(new PolicyStatement({ actions: ['states:DescribeExecution'], resources: [executions] }));
  acknowledge(role, { [`AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:${name}:*]`]: 'Executions of one state machine, whatever their names.' });
}
