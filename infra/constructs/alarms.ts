import { Aws, Duration } from 'aws-cdk-lib';
import { Alarm, ComparisonOperator, TreatMissingData, type IMetric } from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import type { IJobQueue } from 'aws-cdk-lib/aws-batch';
import { EventField, Match, Rule, RuleTargetInput, type EventPattern } from 'aws-cdk-lib/aws-events';
import { SnsTopic } from 'aws-cdk-lib/aws-events-targets';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { acknowledge } from '../acknowledge.ts';
import { endedReasons } from '../../src/workflow/executionTag.ts';
import type { Options } from '../options.ts';

export interface AlarmsProps {
  readonly options: Options;
  readonly key: IKey | undefined;
  readonly stateMachine: StateMachine;
  readonly queues: readonly IJobQueue[];
  readonly startRun: IFunction;
  readonly stopJobs: IFunction;
  readonly deadLetters: IQueue;
}

/** Tells a person what went wrong and what to do about it. */
export class Alarms extends Construct {
  readonly topic: Topic;

  constructor(scope: Construct, id: string, { options, key, stateMachine, queues, startRun, stopJobs, deadLetters }: AlarmsProps) {
    super(scope, id);
    const log = (name: string): string => `/${options.name}/${name}`;
    this.topic = new Topic(this, 'Topic', { displayName: 'GenView', enforceSSL: true, ...(key && { masterKey: key }) });
    if (!key) acknowledge(this.topic, { 'AwsSolutions-SNS2': 'Messages name runs, jobs and reasons, no data; CloudWatch cannot publish with the key of AWS, and the option encryption gives one.' });
    // Replaces what a topic without a policy grants by itself.
    this.topic.addToResourcePolicy(new PolicyStatement({
      principals: [new ServicePrincipal('cloudwatch.amazonaws.com')], actions: ['sns:Publish'], resources: [this.topic.topicArn], conditions: { StringEquals: { 'aws:SourceAccount': Aws.ACCOUNT_ID } },
    }));
    if (options.alarmEmail !== undefined) this.topic.addSubscription(new EmailSubscription(options.alarmEmail));

    const alarm = (name: string, metric: IMetric, alarmDescription: string): void => {
      new Alarm(this, name, {
        metric, alarmDescription, threshold: 1, evaluationPeriods: 1,
        comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treatMissingData: TreatMissingData.NOT_BREACHING,
      }).addAlarmAction(new SnsAction(this.topic));
    };
    const period = { period: Duration.minutes(5), statistic: 'Sum' } as const;
    alarm('RunFailed', stateMachine.metricFailed(period),
      'A run has failed. `genview status` names the stage and the reason, `genview logs` shows its log; failure.json lies in the run\'s folder. Nothing that was done is lost: when the cause is mended, submit the same recipe again and it continues.');
    alarm('RunTimedOut', stateMachine.metricTimedOut(period),
      'A run was stopped after 60 days. Look for jobs that wait: `genview status`, and the queues in the Batch console. When they can run, submit the same recipe again and it continues.');
    alarm('StartFailed', startRun.metricErrors(period),
      `A recipe or a _READY was put into the bucket and no run was started. The reason is in the log group ${log('start-run')}: mend it and put the object there again.`);
    alarm('StopFailed', stopJobs.metricErrors(period),
      `A run has ended and its multi-node job may still be running, and cost. The reason is in the log group ${log('stop-jobs')}; \`genview cancel\` ends the jobs of a run.`);
    alarm('EventsLost', deadLetters.metricApproximateNumberOfMessagesVisible({ period: Duration.minutes(5), statistic: 'Maximum' }),
      `Events of the bucket, or of executions that ended, could not be handled and lie in the dead-letter queue for 14 days: receive them there, see ${log('start-run')} and ${log('stop-jobs')} for why; start the recipes they name with \`genview submit\`, end the jobs of the executions they name with \`genview cancel\`; a sweep comes again by itself. Purge the queue to end the alarm.`);

    const arns = queues.map(({ jobQueueArn }) => jobQueueArn);
    const tell = (name: string, description: string, eventPattern: EventPattern, text: string): void => {
      new Rule(this, name, { description, eventPattern }).addTarget(new SnsTopic(this.topic, { message: RuleTargetInput.fromText(text) }));
    };
    const detail = (field: string): string => EventField.fromPath(`$.detail.${field}`);
    tell('JobFailed', 'GenView: a job has failed for good, and was not just terminated with its execution.', {
      source: ['aws.batch'],
      detailType: ['Batch Job State Change'],
      detail: {
        status: ['FAILED'], jobQueue: arns,
        // One message for an array or multi-node job, not one for each child.
        arrayProperties: { index: Match.doesNotExist() }, nodeProperties: { nodeIndex: Match.doesNotExist() },
        // Whoever stops a run knows it; of one that has failed or timed out tell its own alarms.
        statusReason: Match.anyOf(Match.anythingButPrefix(...endedReasons), Match.doesNotExist()),
      },
    }, `GenView: job ${detail('jobName')} (${detail('jobId')}) has failed: ${detail('statusReason')}. \`genview logs\` shows its log, which is in the log group of its stage, ${log('…')}. The run fails with it; submit the same recipe again when the cause is mended.`);
    tell('QueueBlocked', 'GenView: the first job of a queue cannot start.', {
      source: ['aws.batch'],
      detailType: ['Batch Job Queue Blocked'],
      detail: { jobQueue: arns },
    }, `GenView: job ${detail('jobName')} (${detail('jobId')}) blocks its queue ${detail('jobQueue')}: ${detail('statusReason')}. Capacity may come by itself: it is waited for 24 hours. Otherwise raise the account's vCPU quota of the instance family, name more gpuInstanceTypes, or try another training.zone; \`genview cancel\` ends the run.`);
  }
}
