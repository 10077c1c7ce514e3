import { CfnOutput, Stack, type StackProps } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import { bucketLayout } from './access.ts';
import { Alarms } from './constructs/alarms.ts';
import { Budget } from './constructs/budget.ts';
import { Cleanup } from './constructs/cleanup.ts';
import { Compute } from './constructs/compute.ts';
import { Dashboard } from './constructs/dashboard.ts';
import { Functions } from './constructs/functions.ts';
import { Jobs } from './constructs/jobs.ts';
import { Network } from './constructs/network.ts';
import { Triggers } from './constructs/triggers.ts';
import { Workflow } from './constructs/workflow.ts';
import type { Options } from './options.ts';
import type { StatefulStack } from './stateful-stack.ts';

export interface StatelessStackProps extends StackProps {
  readonly options: Options;
  readonly data: StatefulStack;
}

/** Everything that can be deleted and deployed again: it scales to zero between runs. */
export class StatelessStack extends Stack {
  readonly workflow: Workflow;

  constructor(scope: Construct, id: string, { options, data: { bucket, key, logGroups }, ...props }: StatelessStackProps) {
    super(scope, id, props);
    const store = { bucket, key, inputs: options.inputs, decryptionKeys: options.decryptionKeys };
    const storeUrl = `s3://${bucket.bucketName}/${bucketLayout.store}`;
    const network = new Network(this, 'Network', { options: options.network, flowLog: logGroups.network });
    const { queues } = new Compute(this, 'Compute', { options, network });
    const { functions } = new Functions(this, 'Functions', { store, logGroups, buildArguments: options.buildArguments });
    const jobs = new Jobs(this, 'Jobs', { options, store, logGroups });
    this.workflow = new Workflow(this, 'Workflow', { options, functions, jobs, queues, logGroup: logGroups.workflow, storeUrl });
    const { stateMachine } = this.workflow;
    const { startRun, deadLetters } = new Triggers(this, 'Triggers', { options, store, storeUrl, stateMachine, logGroup: logGroups['start-run'] });
    const { stopJobs } = new Cleanup(this, 'Cleanup', { options, stateMachine, queue: queues.training, logGroup: logGroups['stop-jobs'], deadLetters, key });
    const { topic } = new Alarms(this, 'Alarms', { options, key, stateMachine, queues: Object.values(queues), startRun, stopJobs, deadLetters });
    new Dashboard(this, 'Dashboard', { options, stateMachine });
    if (options.monthlyBudget !== undefined) new Budget(this, 'Budget', { monthly: options.monthlyBudget, tag: { key: 'application', value: options.name }, topic });

    new CfnOutput(this, 'StateMachineArn', { value: stateMachine.stateMachineArn });
    new CfnOutput(this, 'StoreUrl', { value: storeUrl });
    new CfnOutput(this, 'RecipesUrl', { value: `s3://${bucket.bucketName}/${bucketLayout.recipes}` });
    new CfnOutput(this, 'DatasetsUrl', { value: `s3://${bucket.bucketName}/${bucketLayout.datasets}` });
    new CfnOutput(this, 'AlarmTopicArn', { value: topic.topicArn });
  }
}
