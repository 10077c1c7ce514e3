import { Duration } from 'aws-cdk-lib';
import {
  AllocationStrategy, EcsMachineImageType, FargateComputeEnvironment, JobQueue, JobStateTimeLimitActionsAction, JobStateTimeLimitActionsReason, JobStateTimeLimitActionsState,
  ManagedEc2EcsComputeEnvironment, type CfnComputeEnvironment, type IComputeEnvironment, type IJobQueue,
} from 'aws-cdk-lib/aws-batch';
import { BlockDeviceVolume, EbsDeviceVolumeType, InstanceType, LaunchTemplate, LaunchTemplateHttpTokens, PlacementGroup, PlacementGroupStrategy } from 'aws-cdk-lib/aws-ec2';
import { Construct } from 'constructs';
import type { QueueName } from '../../src/workflow/stages.ts';
import type { Options } from '../options.ts';
import { instanceRole } from './instance-role.ts';
import { vcpusOf } from './instance-size.ts';
import type { Network } from './network.ts';

export interface ComputeProps {
  readonly options: Options;
  readonly network: Network;
}

/** Compute environments that scale to zero, and their job queues. */
export class Compute extends Construct {
  readonly queues: Readonly<Record<QueueName, IJobQueue>>;

  constructor(scope: Construct, id: string, { options, network }: ComputeProps) {
    super(scope, id);
    const { spot, training, maxVcpus } = options;
    const managed = {
      vpc: network.vpc,
      securityGroups: [network.securityGroup],
      vpcSubnets: { subnets: [...network.subnets] },
    };
    const launchTemplate = new LaunchTemplate(this, 'Instances', {
      httpTokens: LaunchTemplateHttpTokens.REQUIRED,
      // Two: a container of the bridge network asks it for the notice of a spot interruption.
      httpPutResponseHopLimit: 2,
      // The default of 30 GB is too small for CUDA images and shards.
      blockDevices: [{ deviceName: '/dev/xvda', volume: BlockDeviceVolume.ebs(200, { encrypted: true, volumeType: EbsDeviceVolumeType.GP3, deleteOnTermination: true }) }],
    });
    const machines = {
      ...managed,
      updateToLatestImageVersion: true,
      terminateOnUpdate: false,
      // The most that Batch takes. Pretraining may take longer than that; it then goes on from its checkpoint on another machine.
      updateTimeout: Duration.days(5),
      launchTemplate,
      instanceRole: instanceRole(this),
      images: [{ imageType: EcsMachineImageType.ECS_AL2023_NVIDIA }],
      useOptimalInstanceClasses: false,
      minvCpus: 0,
    };
    const gpu = { ...machines, maxvCpus: maxVcpus.gpu, instanceTypes: options.gpuInstanceTypes.map((name) => new InstanceType(name)) };
    const gpuEnvironments = [
      ...(spot ? [new ManagedEc2EcsComputeEnvironment(this, 'SpotGpu', { ...gpu, spot: true, allocationStrategy: AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED })] : []),
      new ManagedEc2EcsComputeEnvironment(this, 'OnDemandGpu', { ...gpu, allocationStrategy: AllocationStrategy.BEST_FIT_PROGRESSIVE }),
    ];
    const trainingEnvironment = new ManagedEc2EcsComputeEnvironment(this, 'Training', {
      ...machines,
      // A placement group lies in one zone.
      vpcSubnets: { subnets: [network.subnets[training.zone]!] },
      // Without machines for it no job comes here, and an environment that can hold none may not be wanted by Batch.
      maxvCpus: Math.max(1, training.nodes) * vcpusOf(training.instanceType),
      instanceTypes: [new InstanceType(training.instanceType)],
      allocationStrategy: AllocationStrategy.BEST_FIT_PROGRESSIVE,
      placementGroup: new PlacementGroup(this, 'Together', { strategy: PlacementGroupStrategy.CLUSTER }),
    });
    for (const environment of [...gpuEnvironments, trainingEnvironment]) {
      // Without it, they would keep to the first version of a template that has changed.
      (environment.node.defaultChild as CfnComputeEnvironment).addPropertyOverride('ComputeResources.LaunchTemplate.Version', launchTemplate.latestVersionNumber);
    }
    const cpu = { ...managed, maxvCpus: maxVcpus.cpu };
    const cpuEnvironments = [
      ...(spot ? [new FargateComputeEnvironment(this, 'SpotCpu', { ...cpu, spot: true })] : []),
      new FargateComputeEnvironment(this, 'OnDemandCpu', cpu),
    ];
    // Batch refuses any update of a Fargate environment that has a policy for updates, which the construct gives every one, or says which image to use.
    for (const environment of cpuEnvironments) (environment.node.defaultChild as CfnComputeEnvironment).addPropertyDeletionOverride('UpdatePolicy');
    const queue = (name: string, environments: readonly IComputeEnvironment[]): JobQueue => new JobQueue(this, name, {
      computeEnvironments: environments.map((computeEnvironment, i) => ({ computeEnvironment, order: i + 1 })),
      jobStateTimeLimitActions: patience.map(([reason, maxTime]) => ({ reason, maxTime, state: JobStateTimeLimitActionsState.RUNNABLE, action: JobStateTimeLimitActionsAction.CANCEL })),
    });
    this.queues = { gpu: queue('GpuQueue', gpuEnvironments), training: queue('TrainingQueue', [trainingEnvironment]), cpu: queue('CpuQueue', cpuEnvironments) };
  }
}

/** How long the first job of a queue may wait before it is cancelled, and the run fails with the reason: capacity may come, a wrong setting does not mend itself. */
const patience: readonly (readonly [JobStateTimeLimitActionsReason, Duration])[] = [
  [JobStateTimeLimitActionsReason.INSUFFICIENT_INSTANCE_CAPACITY, Duration.hours(24)],
  [JobStateTimeLimitActionsReason.COMPUTE_ENVIRONMENT_MAX_RESOURCE, Duration.minutes(30)],
  [JobStateTimeLimitActionsReason.JOB_RESOURCE_REQUIREMENT, Duration.minutes(30)],
];
