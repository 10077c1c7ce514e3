import { Aws, Stack } from 'aws-cdk-lib';
import type { IJobDefinition, IJobQueue } from 'aws-cdk-lib/aws-batch';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import { DefinitionBody, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { buildWorkflow, type WorkflowRefs } from '../../src/workflow/definition.ts';
import { jobDefinitionNames, lambdaNames, type JobDefinitionName, type LambdaName, type QueueName } from '../../src/workflow/stages.ts';

export interface WorkflowProps {
  readonly functions: Readonly<Record<LambdaName, IFunction>>;
  readonly jobDefinitions: Readonly<Record<JobDefinitionName, IJobDefinition>>;
  readonly queues: Readonly<Record<QueueName, IJobQueue>>;
}

/** The state machine: the very definition that runs locally, with CloudFormation's names in it, and the rights that it needs. */
export class Workflow extends Construct {
  readonly stateMachine: StateMachine;
  /** With tokens in place of names. */
  readonly refs: WorkflowRefs;

  constructor(scope: Construct, id: string, props: WorkflowProps) {
    super(scope, id);
    const stack = Stack.of(this);
    this.refs = {
      partition: Aws.PARTITION,
      functions: mapRecord(lambdaNames, (name) => props.functions[name].functionArn),
      jobDefinitions: mapRecord(jobDefinitionNames, (name) => props.jobDefinitions[name].jobDefinitionArn),
      queues: { gpu: props.queues.gpu.jobQueueArn, training: props.queues.training.jobQueueArn },
    };

    const role = new Role(this, 'Role', { assumedBy: new ServicePrincipal('states.amazonaws.com'), description: 'GenView workflow: its functions and jobs.' });
    const jobs = stack.formatArn({ service: 'batch', resource: 'job', resourceName: '*' });
    const allow = (actions: string[], resources: string[]): void => { role.addToPolicy(new PolicyStatement({ actions, resources })); };
    allow(['lambda:InvokeFunction'], lambdaNames.map((name) => props.functions[name].functionArn));
    allow(['batch:SubmitJob'], [
      ...Object.values(this.refs.queues),
      ...jobDefinitionNames.map((name) => stack.formatArn({ service: 'batch', resource: 'job-definition', resourceName: `genview-${name}:*` })),
      jobs,
    ]);
    // Without it, stopping an execution would leave its jobs running.
    allow(['batch:TerminateJob'], [jobs]);
    // No resource-level permissions exist for it.
    allow(['batch:DescribeJobs'], ['*']);
    // How `.sync` learns that a job has ended.
    allow(['events:PutTargets', 'events:PutRule', 'events:DescribeRule'], [stack.formatArn({ service: 'events', resource: 'rule', resourceName: 'StepFunctionsGetEventsForBatchJobsRule' })]);

    this.stateMachine = new StateMachine(this, 'StateMachine', {
      definitionBody: DefinitionBody.fromString(stack.toJsonString(buildWorkflow(this.refs))),
      role,
      tracingEnabled: false,
    });
  }
}

function mapRecord<Name extends string, Value>(names: readonly Name[], value: (name: Name) => Value): Record<Name, Value> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<Name, Value>;
}
