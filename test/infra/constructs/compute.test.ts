import { expect, it } from 'vitest';
import { Compute } from '../../../infra/constructs/compute.ts';
import { jobMemoryOf, vcpusOf } from '../../../infra/constructs/instance-size.ts';
import { Network } from '../../../infra/constructs/network.ts';
import { checkOptions, type OptionsInput } from '../../../infra/options.ts';
import { resource, resources, statementsOf, testStack } from '../support.ts';

function synthesize(given: OptionsInput = {}) {
  const { stack, logGroups, template } = testStack();
  const options = checkOptions(given);
  new Compute(stack, 'Compute', { options, network: new Network(stack, 'Network', { options: options.network, flowLog: logGroups.network }) });
  return template();
}
const standard = synthesize();
const environment = (part: string, template = standard) => resource(template, 'AWS::Batch::ComputeEnvironment', part).ComputeResources;
const order = (part: string, template = standard): string[] =>
  resource(template, 'AWS::Batch::JobQueue', part).ComputeEnvironmentOrder.map(({ ComputeEnvironment, Order }: { ComputeEnvironment: string; Order: number }) => `${Order} ${/Compute([A-Z][A-Za-z]+?)[0-9A-F]{8}\./.exec(ComputeEnvironment)![1]}`);

it('prefers spot, falls back to on demand, and scales to zero', () => {
  expect(order('GpuQueue')).toEqual(['1 SpotGpu', '2 OnDemandGpu']);
  expect(order('CpuQueue')).toEqual(['1 SpotCpu', '2 OnDemandCpu']);
  expect(order('TrainingQueue')).toEqual(['1 Training']);
  expect(environment('SpotGpu')).toMatchObject({ Type: 'SPOT', AllocationStrategy: 'SPOT_PRICE_CAPACITY_OPTIMIZED', MinvCpus: 0, MaxvCpus: 256 });
  expect(environment('OnDemandGpu')).toMatchObject({ Type: 'EC2', AllocationStrategy: 'BEST_FIT_PROGRESSIVE', MinvCpus: 0, MaxvCpus: 256 });
  expect(environment('SpotCpu')).toMatchObject({ Type: 'FARGATE_SPOT', MaxvCpus: 64 });
  expect(environment('OnDemandCpu')).toMatchObject({ Type: 'FARGATE', MaxvCpus: 64 });
  expect(environment('SpotGpu').InstanceTypes).toHaveLength(8);
});

it('trains on demand on one type, in one subnet and one placement group', () => {
  const template = synthesize({ training: { instanceType: 'g6e.4xlarge', nodes: 6, zone: 1 } });
  const training = environment('Training', template);
  expect(training).toMatchObject({ Type: 'EC2', InstanceTypes: ['g6e.4xlarge'], MinvCpus: 0, MaxvCpus: 96 });
  expect(training.Subnets).toEqual([expect.stringMatching(/PrivateSubnet2/)]);
  expect(resource(template, 'AWS::EC2::PlacementGroup')).toMatchObject({ Strategy: 'cluster' });
  expect(training.PlacementGroup).toMatch(/^<ComputeTogether\w+\.GroupName>$/);
});

it('can do without spot', () => {
  const template = synthesize({ spot: false, maxVcpus: { gpu: 32 } });
  expect(order('GpuQueue', template)).toEqual(['1 OnDemandGpu']);
  expect(order('CpuQueue', template)).toEqual(['1 OnDemandCpu']);
  expect(environment('OnDemandGpu', template).MaxvCpus).toBe(32);
});

const all = resources(standard, 'AWS::Batch::ComputeEnvironment');

it('starts AL2023 NVIDIA machines with IMDSv2 and an encrypted root volume of 200 GB', () => {
  const data = resource(standard, 'AWS::EC2::LaunchTemplate').LaunchTemplateData;
  expect(data.MetadataOptions).toEqual({ HttpTokens: 'required', HttpPutResponseHopLimit: 2 });
  expect(data.BlockDeviceMappings).toEqual([{ DeviceName: '/dev/xvda', Ebs: { Encrypted: true, VolumeSize: 200, VolumeType: 'gp3', DeleteOnTermination: true } }]);
  for (const name of ['SpotGpu', 'OnDemandGpu', 'Training']) {
    expect(environment(name)).toMatchObject({
      Ec2Configuration: [{ ImageType: 'ECS_AL2023_NVIDIA' }], UpdateToLatestImageVersion: true,
      LaunchTemplate: { LaunchTemplateId: expect.stringMatching(/Instances/) as string, Version: expect.stringMatching(/\.LatestVersionNumber>$/) as string },
    });
  }
});

it('lets updates replace machines, whose jobs have five days to end', () => {
  // A fixed name or a role of its own would stand in the way of a replacement.
  for (const properties of Object.values(all)) {
    expect(properties).toMatchObject({ ReplaceComputeEnvironment: false });
    expect(properties.ComputeEnvironmentName).toBeUndefined();
    expect(properties.ServiceRole).toBeUndefined();
  }
  const machines = Object.values(all).filter(({ ComputeResources: { Type } }) => !/FARGATE/.test(Type as string));
  expect(machines).toHaveLength(3);
  for (const { UpdatePolicy } of machines) expect(UpdatePolicy).toEqual({ TerminateJobsOnUpdate: false, JobExecutionTimeoutMinutes: 7200 });
});

it('gives Fargate only what Batch lets an update of it say', () => {
  const fargate = Object.values(all).filter(({ ComputeResources: { Type } }) => /FARGATE/.test(Type as string));
  expect(fargate).toHaveLength(2);
  for (const properties of fargate) {
    // "The following parameters can't be updated for Fargate compute environment: …, tags, type, updatePolicy, updateToLatestImageVersion": the type does not change.
    expect(Object.keys(properties as object).toSorted()).toEqual(['ComputeResources', 'ReplaceComputeEnvironment', 'State', 'Type']);
    expect(Object.keys(properties.ComputeResources as object).toSorted()).toEqual(['MaxvCpus', 'SecurityGroupIds', 'Subnets', 'Type']);
  }
});

it('keeps an environment for training that holds one machine where no multi-node jobs are wanted', () => {
  expect(environment('Training', synthesize({ training: { nodes: 0 } })).MaxvCpus).toBe(8);
});

it('cancels a job that no setting lets start after half an hour, and one that waits for capacity after a day', () => {
  for (const queue of Object.values(resources(standard, 'AWS::Batch::JobQueue'))) {
    expect(queue.JobStateTimeLimitActions).toEqual([
      ['CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY', 86_400], ['MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE', 1800], ['MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT', 1800],
    ].map(([Reason, MaxTimeSeconds]) => ({ Action: 'CANCEL', State: 'RUNNABLE', Reason, MaxTimeSeconds })));
  }
});

it('gives machines the rights of an ECS agent and no more', () => {
  const arn = (resourceType: string): string => `arn:<AWS::Partition>:ecs:<AWS::Region>:<AWS::AccountId>:${resourceType}/*`;
  expect(statementsOf(standard, 'InstanceRole')).toEqual([
    { actions: ['ecs:DeregisterContainerInstance', 'ecs:RegisterContainerInstance', 'ecs:SubmitAttachmentStateChanges', 'ecs:SubmitContainerStateChange', 'ecs:SubmitTaskStateChange'], resources: [arn('cluster')] },
    { actions: ['ecs:Poll', 'ecs:StartTelemetrySession', 'ecs:TagResource', 'ecs:UpdateContainerInstancesState'], resources: [arn('container-instance')] },
    { actions: ['ec2:DescribeTags', 'ecs:DiscoverPollEndpoint'], resources: ['*'] },
  ]);
});

it.each([['g5.xlarge', 4, 14_745], ['g5.2xlarge', 8, 29_491], ['g4dn.12xlarge', 48, 176_947], ['p5.48xlarge', 192, 707_788]])('%s has %i vCPUs and %i MiB for a job', (type, vcpus, memory) => {
  expect(vcpusOf(type)).toBe(vcpus);
  expect(jobMemoryOf(type)).toBe(memory);
});
