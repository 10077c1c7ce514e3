import { Duration, Size } from 'aws-cdk-lib';
import { Action, EcsEc2ContainerDefinition, EcsJobDefinition, MultiNodeJobDefinition, Reason, RetryStrategy, type CfnJobDefinition, type IJobDefinition } from 'aws-cdk-lib/aws-batch';
import type { InstanceType } from 'aws-cdk-lib/aws-ec2';
import { DockerImageAsset } from 'aws-cdk-lib/aws-ecr-assets';
import { ContainerImage, LogDriver } from 'aws-cdk-lib/aws-ecs';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { batchStages, jobDefinitionNames, programOf, type ImageName, type JobDefinitionName } from '../../src/workflow/stages.ts';
import { imageContext, pascal } from './images.ts';
import { storeAccess } from './store-access.ts';

export interface JobsProps {
  readonly bucket: IBucket;
  readonly logGroup: ILogGroup;
  readonly trainingInstanceType: InstanceType;
}

/** One job definition for each entry of the stage table, with the table's resources, timeout and retries. */
export class Jobs extends Construct {
  readonly definitions: Readonly<Record<JobDefinitionName, IJobDefinition>>;

  constructor(scope: Construct, id: string, props: JobsProps) {
    super(scope, id);
    const role = new Role(this, 'Role', { assumedBy: new ServicePrincipal('ecs-tasks.amazonaws.com'), description: 'GenView jobs: the store.' });
    for (const statement of storeAccess(props.bucket)) role.addToPolicy(statement);
    const images = new Map<ImageName, ContainerImage>();
    const image = (name: ImageName): ContainerImage => {
      const known = images.get(name) ?? ContainerImage.fromDockerImageAsset(new DockerImageAsset(this, `${pascal(name)}Image`, {
        ...imageContext,
        target: name,
      }));
      images.set(name, known);
      return known;
    };

    const define = (name: JobDefinitionName): IJobDefinition => {
      const program = programOf(name), stage = batchStages[program];
      const container = new EcsEc2ContainerDefinition(this, `${pascal(name)}Container`, {
        image: image(stage.image),
        cpu: stage.vcpus,
        gpu: stage.gpus,
        memory: Size.mebibytes(stage.memoryMiB),
        jobRole: role,
        environment: { GENVIEW_LOG: 'json' },
        logging: LogDriver.awsLogs({ logGroup: props.logGroup, streamPrefix: name }),
      });
      const common = {
        // A name of our own: the one that CloudFormation makes cannot be written into a policy.
        jobDefinitionName: `genview-${name}`,
        timeout: Duration.seconds(stage.timeoutSeconds),
        retryAttempts: stage.retry.attempts,
        retryStrategies: stage.retry.evaluateOnExit.map(({ action, ...on }) => RetryStrategy.of(action === 'RETRY' ? Action.RETRY : Action.EXIT, Reason.custom(on))),
      };
      if (name !== 'pretrain-nodes') return new EcsJobDefinition(this, pascal(name), { ...common, container });
      const definition = new MultiNodeJobDefinition(this, pascal(name), { ...common, instanceType: props.trainingInstanceType, mainNode: 0, containers: [{ startNode: 0, endNode: 1, container }] });
      // An open range, so that a job can say how many nodes it wants.
      (definition.node.defaultChild as CfnJobDefinition).addPropertyOverride('NodeProperties.NodeRangeProperties.0.TargetNodes', '0:');
      return definition;
    };
    this.definitions = Object.fromEntries(jobDefinitionNames.map((name) => [name, define(name)])) as Record<JobDefinitionName, IJobDefinition>;
  }
}
