import { describe, expect, it } from 'vitest';
import { buildWorkflow, machinesOfDefinition, storeOfDefinition } from '../../src/workflow/definition.ts';
import { defaultMachines, type DeployedMachines, readMachines, writeMachines } from '../../src/workflow/deployedMachines.ts';
import { localRefs } from '../../src/workflow/local.ts';

const machines: DeployedMachines = { gpuInstanceTypes: ['g6.2xlarge'], spot: false, maxVcpus: { gpu: 32, cpu: 16 }, cpuStages: ['fit-foreground'], training: { instanceType: 'g5.12xlarge', nodes: 2, gpus: 4 } };
const of = (changes: object): unknown => readMachines(JSON.stringify({ ...JSON.parse(writeMachines(machines)) as object, ...changes }));

describe('the machines of a deployment', () => {
  it('are told by its definition, beside its store or without', () => {
    const both = buildWorkflow({ ...localRefs, machines, store: 's3://b/' });
    expect(machinesOfDefinition(both)).toEqual(machines);
    expect(storeOfDefinition(both)).toBe('s3://b/');
    const one = buildWorkflow({ ...localRefs, machines });
    expect(machinesOfDefinition(one)).toEqual(machines);
    expect(storeOfDefinition(one)).toBeUndefined();
    expect(one.Comment).toBe('GenView: from a folder of images to an evaluated encoder. Its machines: {"version":1,"gpuInstanceTypes":["g6.2xlarge"],"spot":false,"maxVcpus":{"gpu":32,"cpu":16},"cpuStages":["fit-foreground"],"training":{"instanceType":"g5.12xlarge","nodes":2,"gpus":4}}');
  });

  it('are those options alone, whatever else an object of options has', () => {
    const options = { ...defaultMachines, alarmEmail: 'ops@example.org', training: { ...defaultMachines.training, zone: 2 } };
    expect(writeMachines(options)).toBe(writeMachines(defaultMachines));
    expect(readMachines(writeMachines(options))).toEqual(defaultMachines);
  });

  it('may be none for multi-node jobs', () => {
    const none: DeployedMachines = { ...machines, training: { ...machines.training, nodes: 0 } };
    expect(readMachines(writeMachines(none))).toEqual(none);
  });

  it('are not known of a deployment that says nothing, of another\'s definition, and of what another version wrote', () => {
    expect(machinesOfDefinition(buildWorkflow({ ...localRefs, store: 's3://b/' }))).toBeUndefined();
    expect(machinesOfDefinition({ Comment: `Another machine. Its machines: ${writeMachines(machines)}` })).toBeUndefined();
    expect(machinesOfDefinition({})).toBeUndefined();
    expect(of({ later: true })).toEqual(machines);
    expect([of({ version: 2 }), of({ gpuInstanceTypes: [] }), of({ training: { instanceType: 'g5', nodes: 1, gpus: 1 } }), readMachines('{"version":1')]).toEqual([undefined, undefined, undefined, undefined]);
  });
});
