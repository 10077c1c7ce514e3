import { Fn } from 'aws-cdk-lib';
import { FlowLogDestination, FlowLogTrafficType, GatewayVpcEndpointAwsService, InterfaceVpcEndpointAwsService, Port, SecurityGroup, SubnetType, Vpc, type ISubnet, type IVpc } from 'aws-cdk-lib/aws-ec2';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { acknowledge } from '../acknowledge.ts';
import type { Options } from '../options.ts';

export interface NetworkProps {
  readonly options: Options['network'];
  /** Of what goes through the network. */
  readonly flowLog: ILogGroup;
}

/** What ECS on EC2 and on Fargate talks to, beside S3. */
const services = {
  Ecs: InterfaceVpcEndpointAwsService.ECS,
  EcsAgent: InterfaceVpcEndpointAwsService.ECS_AGENT,
  EcsTelemetry: InterfaceVpcEndpointAwsService.ECS_TELEMETRY,
  EcrApi: InterfaceVpcEndpointAwsService.ECR,
  EcrDocker: InterfaceVpcEndpointAwsService.ECR_DOCKER,
  Logs: InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
} as const;

/** Private subnets with a way to S3 and to what ECS needs: the nodes of a multi-node job get no public address. */
export class Network extends Construct {
  readonly vpc: IVpc;
  readonly subnets: readonly ISubnet[];
  /** Of every job; members reach each other. */
  readonly securityGroup: SecurityGroup;

  constructor(scope: Construct, id: string, { options, flowLog }: NetworkProps) {
    super(scope, id);
    const { vpc: given, zones, egress } = options;
    const outside = given === undefined && egress === 'nat';
    if (given) {
      this.vpc = Vpc.fromVpcAttributes(this, 'Vpc', { vpcId: given.id, availabilityZones: given.availabilityZones, privateSubnetIds: given.privateSubnets });
      this.subnets = this.vpc.privateSubnets;
      for (const subnet of this.subnets) acknowledge(subnet, { '@aws-cdk/aws-ec2:noSubnetRouteTableId': 'Nothing is added to the routes of a network that is not ours.' });
    } else {
      const vpc = new Vpc(this, 'Vpc', {
        // By number: names would have to be looked up.
        availabilityZones: Array.from({ length: zones }, (_, zone) => Fn.select(zone, Fn.getAzs())),
        natGateways: outside ? 1 : 0,
        restrictDefaultSecurityGroup: false,
        subnetConfiguration: outside
          ? [{ name: 'Public', subnetType: SubnetType.PUBLIC, cidrMask: 24, mapPublicIpOnLaunch: false }, { name: 'Private', subnetType: SubnetType.PRIVATE_WITH_EGRESS, cidrMask: 20 }]
          // The addresses of the public subnets stay reserved, so that those of the private ones are the same in both: a subnet that overlaps the one that it replaces is refused.
          : [{ name: 'Public', subnetType: SubnetType.PUBLIC, cidrMask: 24, reserved: true }, { name: 'Private', subnetType: SubnetType.PRIVATE_ISOLATED, cidrMask: 20 }],
        gatewayEndpoints: { S3: { service: GatewayVpcEndpointAwsService.S3 } },
        flowLogs: { All: { destination: FlowLogDestination.toCloudWatchLogs(flowLog), trafficType: FlowLogTrafficType.ALL } },
      });
      this.vpc = vpc;
      this.subnets = outside ? vpc.privateSubnets : vpc.isolatedSubnets;
    }
    this.securityGroup = new SecurityGroup(this, 'Jobs', { vpc: this.vpc, description: 'GenView jobs; the nodes of a multi-node job reach each other.' });
    this.securityGroup.addIngressRule(this.securityGroup, Port.allTcp(), 'between the nodes of a multi-node job');
    if (given === undefined && egress === 'endpoints') {
      const endpoints = new SecurityGroup(this, 'Endpoints', { vpc: this.vpc, description: 'Interface endpoints, for GenView jobs only.', allowAllOutbound: false });
      endpoints.addIngressRule(this.securityGroup, Port.HTTPS, 'from jobs');
      for (const [name, service] of Object.entries(services)) {
        this.vpc.addInterfaceEndpoint(name, { service, subnets: { subnets: [...this.subnets] }, securityGroups: [endpoints], open: false });
      }
    }
  }
}
