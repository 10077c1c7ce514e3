import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkOptions, readOptions } from '../../infra/options.ts';
import { defaultMachines } from '../../src/workflow/deployedMachines.ts';
import { batchStages, programNames } from '../../src/workflow/stages.ts';

let folder: string;
beforeAll(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'genview-options-')); });
afterAll(() => rmSync(folder, { recursive: true }));

const read = (context: Record<string, unknown>): ReturnType<typeof readOptions> => readOptions((key) => context[key], folder);
const refusal = (call: () => unknown): string => {
  try { call(); } catch (error) { return `${(error as { code: string }).code}: ${(error as Error).message}`; }
  return 'accepted';
};

describe('options', () => {
  it('have defaults', () => {
    expect(read({})).toEqual({
      name: 'genview', spot: true, cpuStages: [], inputs: [], encryption: 's3', decryptionKeys: [], buildArguments: {},
      gpuInstanceTypes: ['g5.xlarge', 'g5.2xlarge', 'g6.xlarge', 'g6.2xlarge', 'g6e.xlarge', 'g6e.2xlarge', 'g4dn.xlarge', 'g4dn.2xlarge'],
      maxVcpus: { gpu: 256, cpu: 64 },
      training: { instanceType: 'g5.2xlarge', nodes: 4, gpus: 1, zone: 0 },
      network: { egress: 'nat', zones: 3 },
      retention: { logDays: 30, versionDays: 30 },
    });
  });

  it('of machines are what the estimate takes for a deployment that does not tell', () => {
    const { gpuInstanceTypes, spot, maxVcpus, cpuStages, training: { instanceType, nodes, gpus } } = checkOptions();
    expect(defaultMachines).toEqual({ gpuInstanceTypes, spot, maxVcpus, cpuStages, training: { instanceType, nodes, gpus } });
  });

  it('may leave out large GPU instances where the stages that need them have none', () => {
    expect(checkOptions({ gpuInstanceTypes: ['g5.xlarge'], cpuStages: ['linear-probe'] }).gpuInstanceTypes).toEqual(['g5.xlarge']);
    expect(checkOptions({ gpuInstanceTypes: ['g5.xlarge'], maxVcpus: { gpu: 4 }, cpuStages: ['linear-probe'] }).maxVcpus.gpu).toBe(4);
    expect(checkOptions({ gpuInstanceTypes: ['g5.xlarge'], maxVcpus: { gpu: 1 }, cpuStages: programNames.filter((name) => batchStages[name].queue === 'gpu') }).maxVcpus.gpu).toBe(1);
  });

  it('accept every instance type that has an NVIDIA GPU for our images, and what no list knows yet', () => {
    const types = ['g4dn.2xlarge', 'g5.2xlarge', 'g6.2xlarge', 'g6e.2xlarge', 'gr6.4xlarge', 'g7e.2xlarge', 'p4d.24xlarge', 'p5.4xlarge', 'p6-b200.48xlarge'];
    expect(types.map((type) => refusal(() => checkOptions({ gpuInstanceTypes: [type], training: { instanceType: type } })))).toEqual(types.map(() => 'accepted'));
  });

  it('have no multi-node jobs where pretraining has no GPU, unless they say so', () => {
    expect(checkOptions({ cpuStages: ['pretrain'] }).training.nodes).toBe(0);
    expect(checkOptions({ cpuStages: ['pretrain'], training: { nodes: 2 } }).training.nodes).toBe(2);
    expect(checkOptions({ training: { nodes: 0 } }).training.nodes).toBe(0);
  });

  it('replace arguments of the Dockerfile, all of which it has', () => {
    const digest = `public.ecr.aws/lambda/nodejs@sha256:${'0a'.repeat(32)}`;
    expect(read({ buildArguments: JSON.stringify({ LAMBDA_BASE: digest, BASE: 'registry:5000/node:22.23.2-slim' }) }).buildArguments).toEqual({ LAMBDA_BASE: digest, BASE: 'registry:5000/node:22.23.2-slim' });
    const dockerfile = readFileSync(new URL('../../containers/Dockerfile', import.meta.url), 'utf8');
    // All but what decides what the image is.
    for (const [, name] of dockerfile.matchAll(/^ARG (\w+)/gm)) {
      if (['DEVICE', 'TFJS_NODE_GPU'].includes(name!)) continue;
      expect(refusal(() => checkOptions({ buildArguments: { [name!]: '?' } }))).toMatch(new RegExp(`buildArguments\\.${name}: expected`));
    }
  });

  it('are read from a file, and from the context, which wins', () => {
    writeFileSync(path.join(folder, 'genview.config.json'), JSON.stringify({ spot: false, training: { nodes: 8 }, alarmEmail: 'ops@example.org' }));
    writeFileSync(path.join(folder, 'other.json'), JSON.stringify({ name: 'other' }));
    expect(read({})).toMatchObject({ spot: false, training: { nodes: 8, gpus: 1 }, alarmEmail: 'ops@example.org' });
    expect(read({ spot: 'true', training: '{"gpus":4,"instanceType":"g5.12xlarge"}', gpuInstanceTypes: '["g6.2xlarge"]', encryption: 'kms', monthlyBudget: '250' }))
      .toMatchObject({ spot: true, training: { nodes: 4, gpus: 4, instanceType: 'g5.12xlarge' }, gpuInstanceTypes: ['g6.2xlarge'], encryption: 'kms', monthlyBudget: 250, alarmEmail: 'ops@example.org' });
    expect(read({ config: 'other.json' })).toMatchObject({ name: 'other', spot: true });
    rmSync(path.join(folder, 'genview.config.json'));
  });

  it.each<[object, RegExp]>([
    [{ name: 'gen-view' }, /name: the stacks of "gen-view" would be those of "genview"; choose another/],
    [{ spot: 'maybe' }, /^OptionsInvalid: context: spot: .*expected boolean/],
    [{ training: { nodes: -1 } }, /training\.nodes: .*>=0/],
    [{ training: { instanceType: 'g5' } }, /training\.instanceType: expected an instance type such as g5\.2xlarge/],
    [{ training: { gpus: 4 } }, /training\.gpus: a g5\.2xlarge has 1, not 4; name another training\.instanceType/],
    [{ training: { gpus: 8, instanceType: 'g6.24xlarge' } }, /training\.gpus: a g6\.24xlarge has 4, not 8/],
    [{ training: { zone: 3 } }, /training\.zone: 3 is not one of the network's zones, 0 to 2/],
    [{ retention: { logDays: 31 } }, /retention\.logDays: expected one of the days that CloudWatch Logs knows: 1, 3, 5/],
    [{ encryption: 'secret' }, /encryption: expected "s3", "kms" or the ARN of a KMS key/],
    [{ inputs: ['bucket/data'] }, /inputs\.0: expected s3:\/\/bucket or s3:\/\/bucket\/prefix/],
    [{ inputs: ['s3://bucket/*'] }, /inputs\.0/],
    [{ gpuInstanceTypes: ['g5.xlarge', 'g6.xlarge'] }, /gpuInstanceTypes: linear-probe needs 8 vCPUs and 30000 MiB of one machine, and none of g5\.xlarge, g6\.xlarge has so much: its jobs would never start; add one, such as g5\.2xlarge/],
    [{ maxVcpus: { gpu: 4 } }, /maxVcpus\.gpu: linear-probe needs 8 vCPUs .* has 8 vCPUs, and at most 4 may be in use.*; give 8 or more/],
    [{ gpuInstanceTypes: ['g5.xlarge'], cpuStages: ['linear-probe'], maxVcpus: { gpu: 2 } }, /maxVcpus\.gpu: fit-foreground needs 4 vCPUs .*; give 4 or more/],
    [{ gpuInstanceTypes: ['g5.12xlarge'], maxVcpus: { gpu: 16 } }, /maxVcpus\.gpu: .*has 48 vCPUs, and at most 16 may be in use/],
    [{ gpuInstanceTypes: ['g5.2xlarge', 'm5.2xlarge'] }, /gpuInstanceTypes: m5\.2xlarge has no GPU; name types of g4dn, g5/],
    [{ gpuInstanceTypes: ['g4ad.2xlarge'] }, /gpuInstanceTypes: g4ad\.2xlarge has GPUs of AMD/],
    [{ gpuInstanceTypes: ['g5g.2xlarge'] }, /gpuInstanceTypes: g5g\.2xlarge has ARM processors/],
    [{ gpuInstanceTypes: ['p3.2xlarge'] }, /gpuInstanceTypes: p3\.2xlarge has GPUs older than compute capability 7\.5/],
    [{ training: { instanceType: 'trn1.2xlarge' } }, /training\.instanceType: trn1\.2xlarge has no GPU/],
    [{ decryptionKeys: ['alias/mine'] }, /decryptionKeys\.0: expected the ARN of a KMS key/],
    [{ buildArguments: { LAMBDA_BASE: 'public.ecr.aws/lambda/nodejs' } }, /buildArguments\.LAMBDA_BASE: expected an image with a tag or a digest/],
    [{ buildArguments: { lambdaBase: 'a:1' } }, /buildArguments: .*"lambdaBase"/],
    [{ buildArguments: { ONNXRUNTIME_CUDA_URL: 'https://example.org/a.tgz' } }, /buildArguments: ONNXRUNTIME_CUDA_URL and ONNXRUNTIME_CUDA_SHA256 belong together/],
    [{ maxVcpus: { cpu: 8 } }, /maxVcpus\.cpu: .*16/],
    [{ cpuStages: ['report'] }, /cpuStages\.0: .*fit-foreground/],
    [{ alarmEmail: 'nobody' }, /alarmEmail: expected an e-mail address/],
    [{ network: { vpc: { id: 'vpc-1a', availabilityZones: ['a'], privateSubnets: ['subnet-1', 'subnet-2'] } } }, /network\.vpc: 2 subnets need as many availabilityZones, not 1/],
  ])('%j are refused with the field and what is expected', (context, message) => {
    expect(refusal(() => read(context as Record<string, unknown>))).toMatch(message);
  });

  it('of a file are refused with its name, even when the context would replace them', () => {
    const file = path.join(folder, 'bad.json');
    writeFileSync(file, '{"spot": 1}');
    expect(refusal(() => read({ config: 'bad.json', spot: false }))).toBe(`OptionsInvalid: ${file}: spot: Invalid input: expected boolean, received number; infra/options.ts lists the options`);
    writeFileSync(file, '{"sport": true}');
    expect(refusal(() => read({ config: 'bad.json' }))).toMatch(/bad\.json: .*"sport"/);
    writeFileSync(file, '{');
    expect(refusal(() => read({ config: 'bad.json' }))).toMatch(/bad\.json: is not valid JSON/);
    expect(refusal(() => read({ config: 'absent.json' }))).toMatch(/^OptionsInvalid: -c config="absent\.json": there is no file/);
  });

  it('may be half in a file where they belong together', () => {
    const file = path.join(folder, 'half.json');
    writeFileSync(file, '{"gpuInstanceTypes": ["g5.xlarge"]}');
    expect(read({ config: 'half.json', cpuStages: '["linear-probe"]' })).toMatchObject({ gpuInstanceTypes: ['g5.xlarge'], cpuStages: ['linear-probe'] });
    expect(refusal(() => read({ config: 'half.json' }))).toMatch(/^OptionsInvalid: [^ ]*half\.json: gpuInstanceTypes: linear-probe needs/);
    expect(refusal(() => read({ config: 'half.json', spot: false }))).toMatch(/half\.json with the context: gpuInstanceTypes: linear-probe needs/);
  });

  it('given by a program are checked in the same way', () => {
    expect(checkOptions({ training: { nodes: 2 } }).training).toEqual({ instanceType: 'g5.2xlarge', nodes: 2, gpus: 1, zone: 0 });
    // All that the machine has, where that is known.
    expect(['g5.12xlarge', 'g6.48xlarge', 'g6e.16xlarge', 'p5.48xlarge'].map((instanceType) => checkOptions({ training: { instanceType } }).training.gpus)).toEqual([4, 8, 1, 8]);
    expect(checkOptions({ training: { instanceType: 'p6-b200.48xlarge' } }).training.gpus).toBe(1);
    expect(checkOptions({ training: { instanceType: 'p6-b200.48xlarge', gpus: 8 } }).training.gpus).toBe(8);
    expect(refusal(() => checkOptions({ name: 'Upper' }))).toMatch(/options: name: expected up to 20 lower-case/);
  });
});
