import { Aws, BootstraplessSynthesizer, CfnOutput, DefaultStackSynthesizer, Duration, RemovalPolicy, Stack, Tags, type App, type StackProps } from 'aws-cdk-lib';
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import { BlockPublicAccess, Bucket, BucketEncryption, ObjectOwnership, type CfnBucket } from 'aws-cdk-lib/aws-s3';
import { Activity, DefinitionBody, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { storeTag } from '../src/cloud/deployment.ts';
import { GenViewError } from '../src/errors.ts';
import { buildWorkflow, type WorkflowRefs } from '../src/workflow/definition.ts';
import { localRefs } from '../src/workflow/local.ts';
import { jobDefinitionNames, lambdaNames, lambdaStages, type JobDefinitionName, type LambdaName } from '../src/workflow/stages.ts';
import { acknowledge } from './acknowledge.ts';
import { plainFunction } from './constructs/functions.ts';
import { pascal } from './constructs/images.ts';

export interface LocalStackOptions {
  /** Prefix of the names of activities; `genview worker --deployment` takes the same. @default genview */
  readonly name?: string;
  /**
   * Where the functions run. `activities`: in workers, like the jobs; the server needs neither containers nor a registry.
   * `lambda`: in Lambda, those that are plain JavaScript; the two that need an image stay with the workers. Then the
   * environment must have been bootstrapped (`cdk bootstrap`). @default activities
   */
  readonly functions?: 'activities' | 'lambda';
  /** Seconds without a heartbeat after which a worker counts as lost. @default 60 */
  readonly heartbeatSeconds?: number;
}

export const localStackOptionNames: readonly (keyof LocalStackOptions)[] = ['name', 'functions', 'heartbeatSeconds'];

/** The stack of `-c target=localstack`, with `-c name=`, `-c functions=` and `-c heartbeatSeconds=`. Throws `OptionsInvalid`. */
export function createLocalStack(app: App): LocalStackStack {
  const context = (key: string): string | undefined => { const value = app.node.tryGetContext(key) as string | number | undefined; return value === undefined ? undefined : String(value); };
  const { name = 'genview', functions = 'activities', heartbeatSeconds } = { name: context('name'), functions: context('functions'), heartbeatSeconds: context('heartbeatSeconds') };
  if (!/^[a-z][a-z0-9-]{0,19}$/.test(name)) throw new GenViewError('OptionsInvalid', `-c name=${name}: expected up to 20 lower-case letters, digits and dashes`);
  if (functions !== 'activities' && functions !== 'lambda') throw new GenViewError('OptionsInvalid', `-c functions=${functions}: expected activities or lambda`);
  if (heartbeatSeconds !== undefined && !/^[1-9]\d*$/.test(heartbeatSeconds)) throw new GenViewError('OptionsInvalid', `-c heartbeatSeconds=${heartbeatSeconds}: expected a whole number of seconds`);
  return new LocalStackStack(app, `${name === 'genview' ? 'GenView' : pascal(name)}Local`, {
    description: 'GenView: store and workflow; the work is done by machines that run genview worker.',
    options: { name, functions, ...(heartbeatSeconds !== undefined && { heartbeatSeconds: Number(heartbeatSeconds) }) },
  });
}

/**
 * The workflow without Batch: a bucket, the state machine, and an Activity for each Batch task and each function that
 * workers do (`genview worker`). It needs S3, Step Functions, IAM and CloudFormation only, so that it runs on LocalStack
 * and its kin, and on AWS with GPUs of one's own.
 */
export class LocalStackStack extends Stack {
  readonly stateMachine: StateMachine;
  /** With tokens in place of names. */
  readonly refs: WorkflowRefs;

  constructor(scope: App, id: string, { options = {}, ...props }: StackProps & { readonly options?: LocalStackOptions } = {}) {
    const { name = 'genview', functions: place = 'activities', heartbeatSeconds } = options;
    // Without functions nothing is to be uploaded, and no bootstrap stack is needed.
    super(scope, id, { synthesizer: place === 'lambda' ? new DefaultStackSynthesizer() : new BootstraplessSynthesizer(), ...props });
    const bucket = new Bucket(this, 'Store', {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      encryption: BucketEncryption.S3_MANAGED,
      // LocalStack does not enforce it: there HTTP will do.
      enforceSSL: true,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      removalPolicy: RemovalPolicy.RETAIN,
      lifecycleRules: [{ abortIncompleteMultipartUploadAfter: Duration.days(7) }],
    });
    acknowledge(bucket, { 'AwsSolutions-S1': 'A store for machines of one\'s own: a second bucket for access logs is a matter of the deployment on AWS, which has one.' });
    const access = [
      new PolicyStatement({ actions: ['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:AbortMultipartUpload'], resources: [bucket.arnForObjects('*')] }),
      new PolicyStatement({ actions: ['s3:ListBucket'], resources: [bucket.bucketArn] }),
    ];

    const bundled = place === 'lambda' ? lambdaNames.filter((function_) => lambdaStages[function_].packaging === 'bundle') : [];
    // As cdk-nag writes it.
    const objects = `AwsSolutions-IAM5[Resource::<${this.getLogicalId(bucket.node.defaultChild as CfnBucket)}.Arn>/*]`;
    const functions = bundled.length === 0 ? {} : this.#functions(bundled, access, { [objects]: 'Functions and workers share the store, as on one machine; a role for each stage is a matter of the deployment on AWS.' });
    const activity = (kind: JobDefinitionName | LambdaName): string => new Activity(this, `${pascal(kind)}Tasks`, { activityName: `${name}-${kind}` }).activityArn;
    const activities = {
      jobs: mapRecord(jobDefinitionNames, activity),
      functions: mapRecord(lambdaNames.filter((function_) => functions[function_] === undefined), activity),
    };
    this.refs = {
      // Workers know jobs and queues by the names that a local run has for them.
      ...localRefs,
      partition: Aws.PARTITION,
      store: `s3://${bucket.bucketName}/`,
      functions: mapRecord(lambdaNames, (function_) => functions[function_]?.functionArn ?? function_),
      activities: { ...activities, ...(heartbeatSeconds !== undefined && { heartbeatSeconds }) },
    };

    const role = new Role(this, 'Role', { assumedBy: new ServicePrincipal('states.amazonaws.com'), description: 'GenView workflow: its functions.' });
    const called = bundled.map((function_) => functions[function_]!.functionArn);
    if (called.length > 0) role.addToPolicy(new PolicyStatement({ actions: ['lambda:InvokeFunction'], resources: called }));
    this.stateMachine = new StateMachine(this, 'StateMachine', { definitionBody: DefinitionBody.fromString(this.toJsonString(buildWorkflow(this.refs))), role });
    acknowledge(this.stateMachine, {
      'AwsSolutions-SF1': 'Wants CloudWatch Logs, and the server need not have more than S3, Step Functions, IAM and CloudFormation. Step Functions keeps the history of an execution, which `genview logs` shows, for 90 days.',
      'AwsSolutions-SF2': 'Wants X-Ray, and the server need not have more than S3, Step Functions, IAM and CloudFormation.',
    });
    // How `genview submit` finds the deployment and its store; where the server keeps no tags, by the definition.
    Tags.of(this.stateMachine).add(storeTag, `s3://${bucket.bucketName}/`);

    const arns = [...Object.values(activities.jobs), ...Object.values(activities.functions)];
    const worker = new ManagedPolicy(this, 'WorkerPolicy', {
      description: 'What a machine that runs genview worker may do.',
      statements: [
        ...access,
        new PolicyStatement({ actions: ['states:GetActivityTask', 'states:SendTaskSuccess', 'states:SendTaskFailure', 'states:SendTaskHeartbeat'], resources: arns }),
        // No resource-level permissions exist for it.
        new PolicyStatement({ actions: ['states:ListActivities'], resources: ['*'] }),
      ],
    });
    acknowledge(worker, {
      [objects]: 'A worker does the work of every stage, and so reads and writes all of the store.',
      'AwsSolutions-IAM5[Resource::*]': 'states:ListActivities knows no resources.',
    });
    new CfnOutput(this, 'StateMachineArn', { value: this.stateMachine.stateMachineArn });
    new CfnOutput(this, 'StoreUrl', { value: `s3://${bucket.bucketName}/` });
    new CfnOutput(this, 'WorkerPolicyArn', { value: worker.managedPolicyArn });
  }

  #functions(names: readonly LambdaName[], access: readonly PolicyStatement[], accepted: Readonly<Record<string, string>>): Readonly<Partial<Record<LambdaName, IFunction>>> {
    const role = new Role(this, 'FunctionsRole', { assumedBy: new ServicePrincipal('lambda.amazonaws.com'), description: 'GenView functions: the store and their log.' });
    const logGroup = new LogGroup(this, 'FunctionsLog', { retention: RetentionDays.ONE_MONTH, removalPolicy: RemovalPolicy.DESTROY });
    for (const statement of [...access, new PolicyStatement({ actions: ['logs:CreateLogStream', 'logs:PutLogEvents'], resources: [logGroup.logGroupArn] })]) role.addToPolicy(statement);
    acknowledge(role, accepted);
    return mapRecord(names, (name) => plainFunction(this, name, {
      memorySize: lambdaStages[name].memoryMiB,
      timeout: Duration.seconds(lambdaStages[name].timeoutSeconds),
      role,
      logGroup,
      environment: { GENVIEW_LOG: 'json' },
    }));
  }
}

function mapRecord<Name extends string, Value>(names: readonly Name[], value: (name: Name) => Value): Record<Name, Value> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<Name, Value>;
}
