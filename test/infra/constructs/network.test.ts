import { expect, it } from 'vitest';
import { Network } from '../../../infra/constructs/network.ts';
import { checkOptions, type OptionsInput } from '../../../infra/options.ts';
import { resource, resources, testStack } from '../support.ts';

function synthesize(network: OptionsInput['network'] = {}) {
  const { stack, logGroups, template } = testStack();
  const made = new Network(stack, 'Network', { options: checkOptions({ network }).network, flowLog: logGroups.network });
  return { made, template: template() };
}

it('puts jobs into private subnets of three zones behind one NAT gateway, with S3 beside it', () => {
  const { made, template } = synthesize();
  expect(made.subnets).toHaveLength(3);
  template.resourceCountIs('AWS::EC2::NatGateway', 1);
  const subnets = Object.values(resources(template, 'AWS::EC2::Subnet'));
  expect(subnets.map(({ MapPublicIpOnLaunch }) => MapPublicIpOnLaunch)).toEqual(Array(6).fill(false));
  const [endpoint, ...others] = Object.values(resources(template, 'AWS::EC2::VPCEndpoint'));
  expect(others).toEqual([]);
  expect(endpoint).toMatchObject({ ServiceName: 'com.amazonaws.<AWS::Region>.s3', VpcEndpointType: 'Gateway' });
  expect(endpoint.RouteTableIds).toHaveLength(6);
});

it('logs all traffic into the given group', () => {
  const { template } = synthesize();
  expect(resource(template, 'AWS::EC2::FlowLog')).toMatchObject({ LogGroupName: '/genview/network', TrafficType: 'ALL', ResourceType: 'VPC' });
});

it('lets members of the jobs\' security group reach each other, and nobody else reach them', () => {
  const { template } = synthesize();
  const group = resource(template, 'AWS::EC2::SecurityGroup', 'Jobs');
  expect(group.SecurityGroupIngress).toBeUndefined();
  const ingress = resource(template, 'AWS::EC2::SecurityGroupIngress');
  expect(ingress).toMatchObject({ IpProtocol: 'tcp', FromPort: 0, ToPort: 65535 });
  expect(ingress.SourceSecurityGroupId).toBe(ingress.GroupId);
});

it('has interface endpoints and no way to the internet where the option says so', () => {
  const { template } = synthesize({ egress: 'endpoints', zones: 2 });
  template.resourceCountIs('AWS::EC2::NatGateway', 0);
  template.resourceCountIs('AWS::EC2::InternetGateway', 0);
  template.resourceCountIs('AWS::EC2::Subnet', 2);
  const endpoints = Object.values(resources(template, 'AWS::EC2::VPCEndpoint')).filter(({ VpcEndpointType }) => VpcEndpointType === 'Interface');
  expect(endpoints.map(({ ServiceName }) => (ServiceName as string).replace('com.amazonaws.<AWS::Region>.', '')).toSorted()).toEqual(['ecr.api', 'ecr.dkr', 'ecs', 'ecs-agent', 'ecs-telemetry', 'logs']);
  expect(endpoints.every(({ PrivateDnsEnabled }) => PrivateDnsEnabled === true)).toBe(true);
  expect(resource(template, 'AWS::EC2::SecurityGroupIngress', 'Endpoints')).toMatchObject({ FromPort: 443, ToPort: 443 });
});

it('uses an existing network and adds nothing to it but the security group', () => {
  const { made, template } = synthesize({ vpc: { id: 'vpc-1a', availabilityZones: ['eu-west-1a', 'eu-west-1b'], privateSubnets: ['subnet-1', 'subnet-2'] } });
  expect(made.subnets.map(({ subnetId }) => subnetId)).toEqual(['subnet-1', 'subnet-2']);
  const types: string[] = Object.values(template.toJSON()['Resources'] as Record<string, { Type: string }>).map(({ Type }) => Type);
  expect(new Set(types)).toEqual(new Set(['AWS::EC2::SecurityGroup', 'AWS::EC2::SecurityGroupIngress']));
  expect(resource(template, 'AWS::EC2::SecurityGroup')).toMatchObject({ VpcId: 'vpc-1a' });
});
