import { Aws, type CfnElement, Stack, Tags } from 'aws-cdk-lib';
import type { IJobQueue } from 'aws-cdk-lib/aws-batch';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { DefinitionBody, LogLevel, StateMachine } from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import { storeTag } from '../../src/cloud/deployment.ts';
import { buildWorkflow, type WorkflowRefs } from '../../src/workflow/definition.ts';
import { jobDefinitionNames, lambdaNames, type QueueName } from '../../src/workflow/stages.ts';
import { acknowledge } from '../acknowledge.ts';
import type { Options } from '../options.ts';
import type { Functions } from './functions.ts';
import { anyJobArn, jobDefinitionArn, type Jobs } from './jobs.ts';

export interface WorkflowProps {
  readonly options: Options;
  readonly functions: Functions['functions'];
  readonly jobs: Jobs;
  readonly queues: Readonly<Record<QueueName, IJobQueue>>;
  readonly logGroup: ILogGroup;
  /** Root URL of the store, for the commands to find by the state machine's tag. */
  readonly storeUrl: string;
}

/** The state machine: the very definition that runs locally, with CloudFormation's names in it, and the rights that it needs. */
export class Workflow extends Construct {
  readonly stateMachine: StateMachine;
  /** With tokens in place of names. */
  readonly refs: WorkflowRefs;

  constructor(scope: Construct, id: string, { options, functions, jobs, queues, logGroup, storeUrl }: WorkflowProps) {
    super(scope, id);
    const stack = Stack.of(this);
    this.refs = {
      partition: Aws.PARTITION,
      functions: mapRecord(lambdaNames, (name) => functions[name].currentVersion.functionArn),
      jobDefinitions: mapRecord(jobDefinitionNames, (name) => jobs.definitions[name].jobDefinitionArn),
      queues: mapRecord(jobDefinitionNames, (name) => queues[jobs.queues[name]].jobQueueArn),
      processesPerNode: options.training.gpus,
      machines: options,
    };

    const role = new Role(this, 'Role', { assumedBy: new ServicePrincipal('states.amazonaws.com'), description: 'GenView workflow: its functions and jobs.' });
    const anyJob = anyJobArn(this);
    const allow = (actions: string[], resources: string[]): void => { role.addToPolicy(new PolicyStatement({ actions, resources })); };
    // Versions: those of executions that began before an update, too.
    const anyVersion = lambdaNames.map((name) => `${functions[name].functionArn}:*`);
    allow(['lambda:InvokeFunction'], anyVersion);
    allow(['batch:SubmitJob'], [...new Set(Object.values(this.refs.queues)), ...jobDefinitionNames.map((name) => jobDefinitionArn(this, options, name)), anyJob]);
    // Multi-node jobs carry the execution's ARN.
    allow(['batch:TagResource'], [anyJob]);
    // Without it, stopping an execution would leave its jobs running.
    allow(['batch:TerminateJob'], [anyJob]);
    // No resource-level permissions exist for it.
    allow(['batch:DescribeJobs'], ['*']);
    // How `.sync` learns that a job has ended.
    allow(['events:PutTargets', 'events:PutRule', 'events:DescribeRule'], [stack.formatArn({ service: 'events', resource: 'rule', resourceName: 'StepFunctionsGetEventsForBatchJobsRule' })]);

    this.stateMachine = new StateMachine(this, 'StateMachine', {
      stateMachineName: options.name,
      definitionBody: DefinitionBody.fromString(stack.toJsonString(buildWorkflow(this.refs))),
      role,
      tracingEnabled: true,
      // Without data: between the states go URLs and numbers, and the history has them.
      logs: { destination: logGroup, level: LogLevel.ALL, includeExecutionData: false },
    });
    Tags.of(this.stateMachine).add(storeTag, storeUrl);
    acknowledge(role, {
      'AwsSolutions-IAM5[Resource::*]': 'batch:DescribeJobs, the delivery of logs and X-Ray know no resources.',
      'AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:job/*]': 'The identity of a job is made when it is submitted; without it jobs could not be terminated.',
      ...Object.fromEntries(lambdaNames.map((name) => [`AwsSolutions-IAM5[Resource::<${stack.getLogicalId(functions[name].node.defaultChild as CfnElement)}.Arn>:*]`, 'Every version of one function.'])),
      ...Object.fromEntries(jobDefinitionNames.map((name) => [
        `AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>:job-definition/${options.name}-${name}:*]`, 'Every revision of one job definition.',
      ])),
    });
  }
}

function mapRecord<Name extends string, Value>(names: readonly Name[], value: (name: Name) => Value): Record<Name, Value> {
  return Object.fromEntries(names.map((name) => [name, value(name)])) as Record<Name, Value>;
}
