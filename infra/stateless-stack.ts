import { CfnOutput, Stack, type StackProps } from 'aws-cdk-lib';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';
import { Compute } from './constructs/compute.ts';
import { Functions } from './constructs/functions.ts';
import { Jobs } from './constructs/jobs.ts';
import { Workflow } from './constructs/workflow.ts';

export interface StatelessStackProps extends StackProps {
  readonly bucket: IBucket;
  readonly logGroup: ILogGroup;
}

/** Everything that can be deleted and deployed again: it scales to zero between runs. */
export class StatelessStack extends Stack {
  readonly workflow: Workflow;

  constructor(scope: Construct, id: string, { bucket, logGroup, ...props }: StatelessStackProps) {
    super(scope, id, props);
    const compute = new Compute(this, 'Compute');
    const functions = new Functions(this, 'Functions', { bucket, logGroup });
    const jobs = new Jobs(this, 'Jobs', { bucket, logGroup, trainingInstanceType: compute.trainingInstanceType });
    this.workflow = new Workflow(this, 'Workflow', { functions: functions.functions, jobDefinitions: jobs.definitions, queues: compute.queues });
    new CfnOutput(this, 'StateMachineArn', { value: this.workflow.stateMachine.stateMachineArn });
    new CfnOutput(this, 'StoreUrl', { value: `s3://${bucket.bucketName}/` });
  }
}
