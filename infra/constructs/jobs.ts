import { Duration, Size, Stack } from 'aws-cdk-lib';
import {
  Action, EcsEc2ContainerDefinition, EcsFargateContainerDefinition, EcsJobDefinition, LinuxParameters, MultiNodeJobDefinition, Reason, RetryStrategy, type CfnJobDefinition, type IJobDefinition,
} from 'aws-cdk-lib/aws-batch';
import { InstanceType } from 'aws-cdk-lib/aws-ec2';
import { DockerImageAsset } from 'aws-cdk-lib/aws-ecr-assets';
import { ContainerImage, LogDriver } from 'aws-cdk-lib/aws-ecs';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { batchStages, cpuResources, jobDefinitionNames, programNames, programOf, queueOf, type ImageName, type JobDefinitionName, type ProgramName, type QueueName } from '../../src/workflow/stages.ts';
import { acknowledge } from '../acknowledge.ts';
import type { Options } from '../options.ts';
import type { StatefulStack } from '../stateful-stack.ts';
import { imageArguments, imageContext, pascal } from './images.ts';
import { jobMemoryOf, vcpusOf } from './instance-size.ts';
import { grantStore, type Store } from './store-access.ts';

export interface JobsProps {
  readonly options: Options;
  readonly store: Store;
  readonly logGroups: StatefulStack['logGroups'];
}

/** What a job is given, and where it waits for that. */
interface JobResources {
  readonly queue: QueueName;
  readonly vcpus: number;
  readonly gpus: number;
  readonly memoryMiB: number;
  readonly sharedMemoryMiB: number;
}

/** One job definition for each entry of the stage table, with the table's resources, timeout and retries; one role for each stage. */
export class Jobs extends Construct {
  readonly definitions: Readonly<Record<JobDefinitionName, IJobDefinition>>;
  readonly queues: Readonly<Record<JobDefinitionName, QueueName>>;

  constructor(scope: Construct, id: string, { options, store, logGroups }: JobsProps) {
    super(scope, id);
    const resources = (name: JobDefinitionName): JobResources => jobResources(name, options);
    const executionRole = this.#executionRole(logGroups);
    const roles = Object.fromEntries(programNames.map((name) => [name, this.#jobRole(name, store)])) as Record<ProgramName, Role>;
    const images = new Map<string, ContainerImage>();
    const image = (name: ImageName, gpus: number): ContainerImage => {
      const asset = `${pascal(name)}${gpus > 0 ? '' : 'Cpu'}Image`;
      const known = images.get(asset) ?? ContainerImage.fromDockerImageAsset(new DockerImageAsset(this, asset, { ...imageContext, target: name, buildArgs: imageArguments(gpus, options.buildArguments) }));
      images.set(asset, known);
      return known;
    };

    const container = (name: JobDefinitionName): EcsEc2ContainerDefinition | EcsFargateContainerDefinition => {
      const program = programOf(name), { queue, vcpus, gpus, memoryMiB, sharedMemoryMiB } = resources(name);
      // Of one process; there is one for each GPU.
      const threads = Math.max(1, Math.floor(vcpus / Math.max(1, gpus)));
      const common = {
        // Nobody runs it where there are no machines for multi-node jobs: then nothing is built for it alone.
        image: image(batchStages[program].image, name === 'pretrain-nodes' && options.training.nodes === 0 ? resources(program).gpus : gpus),
        cpu: vcpus,
        memory: Size.mebibytes(memoryMiB),
        jobRole: roles[program],
        executionRole,
        environment: {
          GENVIEW_LOG: 'json', GENVIEW_METRICS: 'emf', GENVIEW_DEPLOYMENT: options.name,
          // Not all cores of the machine, which jobs may share: results repeat byte for byte at the same number, on machines of any size.
          GENVIEW_THREADS: String(threads),
          // Images are decoded by libuv's threads, of which there would be four.
          UV_THREADPOOL_SIZE: String(Math.max(4, threads)),
          ...(name === 'pretrain-nodes' && gpus > 1 && { GENVIEW_PROCESSES_PER_NODE: String(gpus) }),
        },
        logging: LogDriver.awsLogs({ logGroup: logGroups[program], streamPrefix: name }),
      };
      // The default of 20 GiB would hold little beside the image.
      if (queue === 'cpu') return new EcsFargateContainerDefinition(this, `${pascal(name)}Container`, { ...common, ephemeralStorageSize: Size.gibibytes(100) });
      return new EcsEc2ContainerDefinition(this, `${pascal(name)}Container`, {
        ...common, gpu: gpus,
        linuxParameters: new LinuxParameters(this, `${pascal(name)}Linux`, { sharedMemorySize: Size.mebibytes(sharedMemoryMiB), initProcessEnabled: true }),
      });
    };
    const define = (name: JobDefinitionName): IJobDefinition => {
      const stage = batchStages[programOf(name)];
      const common = {
        // A name of our own: the one that CloudFormation makes cannot be written into a policy.
        jobDefinitionName: jobDefinitionName(options, name),
        timeout: Duration.seconds(stage.timeoutSeconds),
        retryAttempts: stage.retry.attempts,
        retryStrategies: stage.retry.evaluateOnExit.map(({ action, ...on }) => RetryStrategy.of(action === 'RETRY' ? Action.RETRY : Action.EXIT, Reason.custom(on))),
        propagateTags: true,
        // A running execution submits the revision that it began with.
        skipDeregisterOnUpdate: true,
      };
      if (name !== 'pretrain-nodes') return new EcsJobDefinition(this, pascal(name), { ...common, container: container(name) });
      const nodes = new MultiNodeJobDefinition(this, pascal(name), {
        ...common, instanceType: new InstanceType(options.training.instanceType), mainNode: 0, containers: [{ startNode: 0, endNode: 1, container: container(name) }],
      });
      // An open range, so that a job can say how many nodes it wants.
      (nodes.node.defaultChild as CfnJobDefinition).addPropertyOverride('NodeProperties.NodeRangeProperties.0.TargetNodes', '0:');
      return nodes;
    };
    this.definitions = Object.fromEntries(jobDefinitionNames.map((name) => [name, define(name)])) as Record<JobDefinitionName, IJobDefinition>;
    this.queues = Object.fromEntries(jobDefinitionNames.map((name) => [name, resources(name).queue])) as Record<JobDefinitionName, QueueName>;
  }

  /** Of one stage's program: its part of the store. */
  #jobRole(name: ProgramName, store: Store): Role {
    const role = new Role(this, `${pascal(name)}Role`, { assumedBy: new ServicePrincipal('ecs-tasks.amazonaws.com'), description: `GenView ${name}: what it reads and writes.` });
    grantStore(role, store, name);
    return role;
  }

  /** Of ECS: to pull the images and to write the logs. The images add their repository. */
  #executionRole(logGroups: StatefulStack['logGroups']): Role {
    const role = new Role(this, 'ExecutionRole', { assumedBy: new ServicePrincipal('ecs-tasks.amazonaws.com'), description: 'ECS for GenView jobs: images and logs.' });
    role.addToPolicy(new PolicyStatement({ actions: ['logs:CreateLogStream', 'logs:PutLogEvents'], resources: programNames.map((name) => logGroups[name].logGroupArn) }));
    acknowledge(role, { 'AwsSolutions-IAM5[Resource::*]': 'ecr:GetAuthorizationToken knows no resources.' });
    return role;
  }
}

/** `<name of the deployment>-<definition>` */
export function jobDefinitionName(options: Options, name: JobDefinitionName): string {
  return `${options.name}-${name}`;
}

/** ARN of every revision of a job definition. */
export function jobDefinitionArn(scope: Construct, options: Options, name: JobDefinitionName): string {
  return Stack.of(scope).formatArn({ service: 'batch', resource: 'job-definition', resourceName: `${jobDefinitionName(options, name)}:*` });
}

/** ARN of every job: their identity is made when they are submitted. */
export function anyJobArn(scope: Construct): string {
  return Stack.of(scope).formatArn({ service: 'batch', resource: 'job', resourceName: '*' });
}

/** The stage table's, less what the options change. */
export function jobResources(name: JobDefinitionName, { cpuStages, training }: Options): JobResources {
  const program = programOf(name), stage = batchStages[program];
  // Nodes of a multi-node job have their machine to themselves.
  if (name === 'pretrain-nodes') return { ...stage, queue: queueOf(name), vcpus: vcpusOf(training.instanceType), memoryMiB: jobMemoryOf(training.instanceType), gpus: training.gpus };
  return cpuStages.includes(program) ? { ...stage, ...cpuResources } : stage;
}
