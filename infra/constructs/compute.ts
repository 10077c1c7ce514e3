import { Duration } from 'aws-cdk-lib';
import { AllocationStrategy, EcsMachineImageType, JobQueue, ManagedEc2EcsComputeEnvironment, type IJobQueue } from 'aws-cdk-lib/aws-batch';
import { BlockDeviceVolume, EbsDeviceVolumeType, GatewayVpcEndpointAwsService, InstanceClass, InstanceSize, InstanceType, LaunchTemplate, LaunchTemplateHttpTokens, PlacementGroup, PlacementGroupStrategy, Port, SecurityGroup, SubnetType, Vpc } from 'aws-cdk-lib/aws-ec2';
import { Construct } from 'constructs';
import type { QueueName } from '../../src/workflow/stages.ts';

export interface ComputeProps {
  /** Largest number of vCPUs in use at a time, for each compute environment. @default 256 */
  readonly maxvCpus?: number;
  /** GPU types for single and array jobs; more types find spot capacity sooner. @default g5, g6, g6e and g4dn, .xlarge and .2xlarge */
  readonly instanceTypes?: readonly InstanceType[];
  /** GPU type for multi-node jobs. @default g5.2xlarge */
  readonly trainingInstanceType?: InstanceType;
}

/** Network, compute environments that scale to zero, and job queues. */
export class Compute extends Construct {
  readonly queues: Readonly<Record<QueueName, IJobQueue>>;
  readonly trainingInstanceType: InstanceType;

  constructor(scope: Construct, id: string, props: ComputeProps = {}) {
    super(scope, id);
    // Jobs need private subnets with a way out: multi-node jobs get no public address.
    const vpc = new Vpc(this, 'Vpc', { natGateways: 1, gatewayEndpoints: { S3: { service: GatewayVpcEndpointAwsService.S3 } } });
    const securityGroup = new SecurityGroup(this, 'Jobs', { vpc, description: 'GenView jobs; the nodes of a multi-node job reach each other.' });
    securityGroup.addIngressRule(securityGroup, Port.allTcp(), 'between the nodes of a multi-node job');
    const launchTemplate = new LaunchTemplate(this, 'Instances', {
      httpTokens: LaunchTemplateHttpTokens.REQUIRED,
      // The default of 30 GB is too small for CUDA images and shards.
      blockDevices: [{ deviceName: '/dev/xvda', volume: BlockDeviceVolume.ebs(200, { encrypted: true, volumeType: EbsDeviceVolumeType.GP3 }) }],
    });
    const common = {
      vpc, launchTemplate,
      securityGroups: [securityGroup],
      vpcSubnets: { subnetType: SubnetType.PRIVATE_WITH_EGRESS },
      images: [{ imageType: EcsMachineImageType.ECS_AL2023_NVIDIA }],
      useOptimalInstanceClasses: false,
      minvCpus: 0,
      maxvCpus: props.maxvCpus ?? 256,
      updateToLatestImageVersion: true,
      terminateOnUpdate: false,
      updateTimeout: Duration.hours(1),
    };
    const instanceTypes = [...props.instanceTypes ?? [InstanceClass.G5, InstanceClass.G6, InstanceClass.G6E, InstanceClass.G4DN]
      .flatMap((type) => [InstanceSize.XLARGE, InstanceSize.XLARGE2].map((size) => InstanceType.of(type, size)))];
    const spot = new ManagedEc2EcsComputeEnvironment(this, 'SpotGpu', { ...common, instanceTypes, spot: true, allocationStrategy: AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED });
    const onDemand = new ManagedEc2EcsComputeEnvironment(this, 'OnDemandGpu', { ...common, instanceTypes, allocationStrategy: AllocationStrategy.BEST_FIT_PROGRESSIVE });

    this.trainingInstanceType = props.trainingInstanceType ?? InstanceType.of(InstanceClass.G5, InstanceSize.XLARGE2);
    const training = new ManagedEc2EcsComputeEnvironment(this, 'Training', {
      ...common,
      // A placement group lies in one zone.
      vpcSubnets: { subnets: [vpc.privateSubnets[0]!] },
      instanceTypes: [this.trainingInstanceType],
      allocationStrategy: AllocationStrategy.BEST_FIT_PROGRESSIVE,
      placementGroup: new PlacementGroup(this, 'Together', { strategy: PlacementGroupStrategy.CLUSTER }),
    });
    this.queues = {
      gpu: new JobQueue(this, 'GpuQueue', { computeEnvironments: [{ computeEnvironment: spot, order: 1 }, { computeEnvironment: onDemand, order: 2 }] }),
      training: new JobQueue(this, 'TrainingQueue', { computeEnvironments: [{ computeEnvironment: training, order: 1 }] }),
    };
  }
}

