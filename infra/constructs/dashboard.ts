import { Aws, Duration } from 'aws-cdk-lib';
import { Dashboard as CloudWatchDashboard, GraphWidget, MathExpression, Metric, SingleValueWidget, Stats, TextWidget } from 'aws-cdk-lib/aws-cloudwatch';
import type { StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { metricsNamespace } from '../../src/metrics.ts';
import { programNames } from '../../src/workflow/stages.ts';
import type { Options } from '../options.ts';

export interface DashboardProps {
  readonly options: Options;
  readonly stateMachine: StateMachine;
}

/** One page: what runs, how fast, how well, on how much. */
export class Dashboard extends Construct {
  constructor(scope: Construct, id: string, { options, stateMachine }: DashboardProps) {
    super(scope, id);
    // What the programs of this deployment write into their logs (embedded metric format).
    const of = (metricName: string, statistic: string, stages: readonly string[]): Metric[] =>
      stages.map((stage) => new Metric({ namespace: metricsNamespace, metricName, dimensionsMap: { Deployment: options.name, Stage: stage }, statistic, label: stage, period: Duration.minutes(5) }));
    const counts = { period: Duration.hours(1), statistic: Stats.SUM } as const;
    // Batch has no metric of its own; these are of the account, against which its quotas are counted.
    const vcpus = (service: string, kind: string, label: string): Metric => new Metric({
      namespace: 'AWS/Usage', metricName: 'ResourceCount', statistic: Stats.MAXIMUM, label, period: Duration.minutes(5),
      dimensionsMap: { Service: service, Type: 'Resource', Resource: 'vCPU', Class: kind },
    });
    const started = stateMachine.metricStarted(counts), succeeded = stateMachine.metricSucceeded(counts), failed = stateMachine.metricFailed(counts), timedOut = stateMachine.metricTimedOut(counts), aborted = stateMachine.metricAborted(counts);
    const wide = { width: 12, height: 6 };
    new CloudWatchDashboard(this, 'Dashboard', {
      // Dashboards are the account's, of all regions.
      dashboardName: `${options.name}-${Aws.REGION}`,
      defaultInterval: Duration.days(1),
      widgets: [
        [
          new TextWidget({ width: 6, height: 4, markdown: `# GenView\n\`genview status\` lists the runs.\n\n[Executions](https://console.aws.amazon.com/states/home?region=${Aws.REGION}#/statemachines/view/${stateMachine.stateMachineArn})` }),
          new SingleValueWidget({ title: 'Runs', width: 18, height: 4, setPeriodToTimeRange: true, metrics: [started, succeeded, failed, timedOut, aborted] }),
        ],
        [
          new GraphWidget({ title: 'Images per second, of one process', ...wide, left: of('ImagesPerSecond', Stats.AVERAGE, programNames) }),
          new GraphWidget({ title: 'Loss', ...wide, left: of('Loss', Stats.AVERAGE, ['pretrain']) }),
        ],
        [
          new GraphWidget({ title: 'Stage durations', ...wide, left: of('StageDuration', Stats.MAXIMUM, programNames) }),
          new GraphWidget({
            title: 'vCPUs in use in this account', ...wide,
            left: [
              vcpus('EC2', 'G/OnDemand', 'G and VT, on demand'), vcpus('EC2', 'G/Spot', 'G and VT, spot'), vcpus('EC2', 'P/OnDemand', 'P, on demand'), vcpus('EC2', 'P/Spot', 'P, spot'),
              vcpus('Fargate', 'Standard/OnDemand', 'Fargate, on demand'), vcpus('Fargate', 'Standard/Spot', 'Fargate, spot'),
            ],
          }),
        ],
        [
          new GraphWidget({
            title: 'Run time', ...wide,
            left: [new MathExpression({ expression: 'time / 3600000', usingMetrics: { time: stateMachine.metricTime({ statistic: Stats.MAXIMUM, period: Duration.hours(1) }) }, label: 'hours, longest of those that ended', period: Duration.hours(1) })],
          }),
          new GraphWidget({ title: 'Ended without a report', ...wide, left: [failed, timedOut, aborted] }),
        ],
      ],
    });
  }
}
