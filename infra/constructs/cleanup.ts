import { Duration } from 'aws-cdk-lib';
import type { IJobQueue } from 'aws-cdk-lib/aws-batch';
import { EventField, Rule, RuleTargetInput, Schedule } from 'aws-cdk-lib/aws-events';
import { LambdaFunction } from 'aws-cdk-lib/aws-events-targets';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import { Tracing, type IFunction } from 'aws-cdk-lib/aws-lambda';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { acknowledge } from '../acknowledge.ts';
import type { Options } from '../options.ts';
import { bundledFunction, functionEnvironment, functionRole } from './functions.ts';
import { anyJobArn } from './jobs.ts';
import { allowDescribingExecutions, patientTarget } from './triggers.ts';

export interface CleanupProps {
  readonly options: Options;
  readonly stateMachine: StateMachine;
  /** Of multi-node jobs. */
  readonly queue: IJobQueue;
  readonly logGroup: ILogGroup;
  readonly deadLetters: IQueue;
  /** Of the dead-letter queue. */
  readonly key: IKey | undefined;
}

/**
 * Ends the multi-node jobs of an execution that was stopped, failed or timed out: all others Step Functions ends by itself. One that
 * succeeded may have left a job that was submitted twice: Batch has no tokens by which a repeated submission is known.
 */
export class Cleanup extends Construct {
  readonly stopJobs: IFunction;

  constructor(scope: Construct, id: string, { options, stateMachine, queue, logGroup, deadLetters, key }: CleanupProps) {
    super(scope, id);
    const role = functionRole(this, 'stop-jobs', logGroup, 'GenView stop-jobs: ends jobs of executions that have ended.');
    const allow = (actions: string[], resources: string[]): void => { role.addToPolicy(new PolicyStatement({ actions, resources })); };
    allowDescribingExecutions(role, options);
    // No resource-level permissions exist for them.
    allow(['batch:ListJobs', 'batch:DescribeJobs'], ['*']);
    allow(['batch:TerminateJob'], [anyJobArn(this)]);
    if (key) allow(['kms:Decrypt', 'kms:GenerateDataKey'], [key.keyArn]);
    this.stopJobs = bundledFunction(this, 'stop-jobs', {
      role, logGroup, memorySize: 512, timeout: Duration.minutes(2), tracing: Tracing.ACTIVE, deadLetterQueue: deadLetters,
      environment: { ...functionEnvironment, GENVIEW_TRAINING_QUEUE: queue.jobQueueArn },
    });
    acknowledge(role, {
      'AwsSolutions-IAM5[Resource::*]': 'batch:ListJobs, batch:DescribeJobs, xray:PutTraceSegments and xray:PutTelemetryRecords know no resources.',
      'AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:job/*]': 'The identity of a job is made when it is submitted.',
    });

    const rule = new Rule(this, 'ExecutionEnded', {
      description: 'GenView: an execution that has ended; its multi-node jobs go with it.',
      eventPattern: {
        source: ['aws.states'],
        detailType: ['Step Functions Execution Status Change'],
        detail: { stateMachineArn: [stateMachine.stateMachineArn], status: ['SUCCEEDED', 'FAILED', 'TIMED_OUT', 'ABORTED'] },
      },
    });
    rule.addTarget(patientTarget(this.stopJobs, deadLetters, { execution: EventField.fromPath('$.detail.executionArn') }));
    // Step Functions promises no event, and a forgotten machine costs as much as a used one. An event that finds no function is not kept, since the next hour brings another.
    new Rule(this, 'Sweep', { description: 'GenView: multi-node jobs whose executions have ended unnoticed.', schedule: Schedule.rate(Duration.hours(1)) })
      .addTarget(new LambdaFunction(this.stopJobs, { retryAttempts: 0, event: RuleTargetInput.fromObject({ sweep: true }) }));
  }
}
