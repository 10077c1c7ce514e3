import type { App } from 'aws-cdk-lib';
import { AssetManifestArtifact } from 'aws-cdk-lib/cx-api';
import { expect, it } from 'vitest';
import { Jobs } from '../../../infra/constructs/jobs.ts';
import { checkOptions, type OptionsInput } from '../../../infra/options.ts';
import { batchStages, jobDefinitionNames, programNames, programOf, type JobDefinitionName } from '../../../src/workflow/stages.ts';
import { resources, statementsOf, testStack, type Json } from '../support.ts';

function synthesize(options: OptionsInput = {}) {
  const { stack, store, logGroups, template } = testStack();
  const jobs = new Jobs(stack, 'Jobs', { options: checkOptions(options), store, logGroups });
  const made = template();
  const definitions = Object.values(resources(made, 'AWS::Batch::JobDefinition'));
  return { jobs, template: made, definition: (name: JobDefinitionName): Json => definitions.find(({ JobDefinitionName: own }) => own === `${checkOptions(options).name}-${name}`) };
}
const standard = synthesize();
const containerOf = (definition: Json): Json => definition.ContainerProperties ?? definition.NodeProperties.NodeRangeProperties[0].Container;
const required = (definition: Json): Record<string, string> => Object.fromEntries(containerOf(definition).ResourceRequirements.map(({ Type, Value }: { Type: string; Value: string }) => [Type, Value]));

it.each(jobDefinitionNames)('%s has the timeout and the retries of the stage table, ending in EXIT', (name) => {
  const stage = batchStages[programOf(name)];
  expect(standard.definition(name)).toMatchObject({
    Timeout: { AttemptDurationSeconds: stage.timeoutSeconds },
    PropagateTags: true,
    RetryStrategy: {
      Attempts: programOf(name) === 'pretrain' ? 10 : 5,
      EvaluateOnExit: [{ Action: 'RETRY', OnExitCode: '75' }, { Action: 'EXIT', OnStatusReason: 'Essential container in task exited*' }, { Action: 'RETRY', OnStatusReason: '*' }, { Action: 'EXIT', OnReason: '*' }],
    },
  });
  expect(containerOf(standard.definition(name)).LogConfiguration).toMatchObject({ LogDriver: 'awslogs', Options: { 'awslogs-group': `/genview/${programOf(name)}`, 'awslogs-stream-prefix': name } });
});

it.each(programNames.filter((name) => batchStages[name].queue === 'gpu'))('%s has a GPU and the memory, cores and shared memory of the stage table', (name) => {
  const { vcpus, gpus, memoryMiB, sharedMemoryMiB } = batchStages[name];
  const definition = standard.definition(name);
  expect(definition).toMatchObject({ Type: 'container', PlatformCapabilities: ['EC2'] });
  expect(required(definition)).toEqual({ VCPU: String(vcpus), GPU: String(gpus), MEMORY: String(memoryMiB) });
  expect(definition.ContainerProperties.LinuxParameters).toEqual({ SharedMemorySize: sharedMemoryMiB, InitProcessEnabled: true });
});

it('tells every job in which form it logs, and the deployment whose metrics they are', () => {
  const team = synthesize({ name: 'team' });
  for (const name of jobDefinitionNames) {
    expect((containerOf(team.definition(name)).Environment as Json[]).map(({ Name, Value }) => `${Name} ${Value}`).toSorted(), name).toEqual(['GENVIEW_DEPLOYMENT team', 'GENVIEW_LOG json', 'GENVIEW_METRICS emf', expect.stringMatching(/^GENVIEW_THREADS \d+$/), expect.stringMatching(/^UV_THREADPOOL_SIZE \d+$/)]);
  }
});

it('runs comparisons of neighbours on Fargate, in a size that Fargate has', () => {
  const definition = standard.definition('nearest-neighbours');
  expect(definition).toMatchObject({ Type: 'container', PlatformCapabilities: ['FARGATE'], ContainerProperties: { EphemeralStorage: { SizeInGiB: 100 }, NetworkConfiguration: { AssignPublicIp: 'DISABLED' } } });
  // 16 vCPUs take 32 to 120 GB in steps of 8.
  expect(required(definition)).toEqual({ VCPU: '16', MEMORY: String(64 * 1024) });
  expect(standard.jobs.queues).toEqual({
    ...Object.fromEntries(programNames.map((name) => [name, 'gpu'])), 'nearest-neighbours': 'cpu', 'pretrain-nodes': 'training',
  });
});

it('gives a node of a multi-node job its whole machine, and lets a job say how many it wants', () => {
  const { definition } = synthesize({ training: { instanceType: 'g5.12xlarge', gpus: 4 } });
  const nodes = definition('pretrain-nodes');
  expect(nodes).toMatchObject({ Type: 'multinode', NodeProperties: { MainNode: 0, NodeRangeProperties: [{ TargetNodes: '0:', Container: { InstanceType: 'g5.12xlarge', LinuxParameters: { SharedMemorySize: 4096 } } }] } });
  expect(nodes.NodeProperties.NodeRangeProperties).toHaveLength(1);
  expect(required(nodes)).toEqual({ VCPU: '48', GPU: '4', MEMORY: '176947' });
  expect(required(definition('pretrain'))['GPU']).toBe('1');
  const processes = { Name: 'GENVIEW_PROCESSES_PER_NODE', Value: '4' };
  expect(containerOf(nodes).Environment).toContainEqual(processes);
  expect(containerOf(definition('pretrain')).Environment).not.toContainEqual(processes);
});

it('runs any stage without a GPU where the options say so, from an image without CUDA', () => {
  const { definition, jobs } = synthesize({ name: 'small', cpuStages: ['pretrain', 'linear-probe'] });
  expect(jobs.queues).toMatchObject({ 'pretrain': 'cpu', 'linear-probe': 'cpu', 'semi-supervised': 'gpu', 'pretrain-nodes': 'training' });
  expect(definition('pretrain')).toMatchObject({ PlatformCapabilities: ['FARGATE'] });
  const image = (name: JobDefinitionName): string => JSON.stringify(containerOf(definition(name)).Image);
  expect(image('linear-probe')).toBe(image('nearest-neighbours'));
  expect(image('linear-probe')).not.toBe(image('semi-supervised'));
});

it('builds the images that jobs use and no other, from the bases that the options give', () => {
  const built = (options: OptionsInput): string[] => {
    const { stack, store, logGroups } = testStack();
    new Jobs(stack, 'Jobs', { options: checkOptions(options), store, logGroups });
    const assets = (stack.node.root as App).synth().artifacts.filter((artifact) => AssetManifestArtifact.isAssetManifestArtifact(artifact)).flatMap(({ contents }) => Object.values(contents.dockerImages ?? {}));
    return assets.map(({ source: { dockerBuildTarget, dockerBuildArgs: { DEVICE, ...rest } = {} } }) => [dockerBuildTarget, DEVICE, ...Object.entries(rest).flat()].join(' ')).toSorted();
  };
  const four = ['evaluation', 'foreground', 'generation', 'pretraining'];
  expect(built({})).toEqual([...four.map((name) => `${name} cuda`), 'evaluation cpu'].toSorted());
  expect(built({ cpuStages: [...programNames] })).toEqual(four.map((name) => `${name} cpu`));
  expect(built({ cpuStages: ['pretrain'] })).toEqual(['evaluation cpu', 'evaluation cuda', 'foreground cuda', 'generation cuda', 'pretraining cpu']);
  // Single jobs on the CPU, those of several nodes on GPUs.
  expect(built({ cpuStages: [...programNames], training: { nodes: 2 } })).toEqual([...four.map((name) => `${name} cpu`), 'pretraining cuda']);
  expect(built({ training: { nodes: 0 } })).toEqual(built({}));
  expect(built({ cpuStages: [...programNames], buildArguments: { BASE: 'node:22.23.2' } })).toEqual(four.map((name) => `${name} cpu BASE node:22.23.2`));
});

it('pulls images and writes logs with one role that can do nothing else', () => {
  const statements = statementsOf(standard.template, 'ExecutionRole');
  expect(statements.flatMap(({ actions }) => actions).toSorted()).toEqual([
    'ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetAuthorizationToken', 'ecr:GetDownloadUrlForLayer', 'logs:CreateLogStream', 'logs:PutLogEvents',
  ]);
  expect(statements.filter(({ resources: on }) => on.includes('*')).flatMap(({ actions }) => actions)).toEqual(['ecr:GetAuthorizationToken']);
  const executionRoles = new Set(jobDefinitionNames.map((name) => containerOf(standard.definition(name)).ExecutionRoleArn as string));
  expect(executionRoles.size).toBe(1);
});

it('gives every stage a role of its own', () => {
  const roles = Object.fromEntries(jobDefinitionNames.map((name) => [name, containerOf(standard.definition(name)).JobRoleArn as string]));
  expect(new Set(Object.values(roles)).size).toBe(programNames.length);
  expect(roles['pretrain-nodes']).toBe(roles['pretrain']);
});
