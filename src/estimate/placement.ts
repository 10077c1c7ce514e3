import type { DeployedMachines } from '../workflow/deployedMachines.ts';
import { batchStages, type QueueName } from '../workflow/stages.ts';
import { fargate, fargateOverheadSeconds, instanceOverheadSeconds, jobOverheadSeconds } from './constants.ts';
import { type Machine, machineOf, vcpusOf } from './instanceTypes.ts';
import type { Prices } from './prices.ts';
import type { StageWork } from './work.ts';

/** Where the jobs of a stage, or of a stage of one variant, work. */
export interface Placement {
  readonly queue: QueueName;
  /** `Fargate`, or an instance type. */
  readonly machine: string;
  readonly type: Machine;
  /** Of each process, whatever else the machine has: what its definition (`infra/constructs/jobs.ts`) gives as GENVIEW_THREADS. */
  readonly cores: number;
  readonly spot: boolean;
  /** Processes at a time. */
  readonly processes: number;
  /** Machines for them; part of one where jobs of other variants are on it. */
  readonly instances: number;
  /** Seconds of each job before its first image. */
  readonly jobSeconds: number;
  /** Seconds for which each machine is paid beside its jobs. */
  readonly machineSeconds: number;
  /** What the stage's jobs take of the queue at a time, and what the queue has: machines for training, else jobs. */
  readonly takes: number;
  readonly capacity: number;
}

/** On Fargate a job has a machine of its own, without a GPU. */
const fargateTask: Machine = { gpu: { name: 'none', peakHalf: 0, peakFloat32: 0 }, gpus: 0, vcpus: fargate.vcpus, known: true };

/** @param works all of the run: jobs of the same stage of several variants run side by side, and share machines */
export function placementOf(work: StageWork, works: readonly StageWork[], machines: DeployedMachines, prices: Prices): Placement {
  const queue = queueFor(work, machines), jobSeconds = work.published ? jobOverheadSeconds.published : jobOverheadSeconds.demo;
  if (queue === 'training') {
    const { instanceType, nodes, gpus } = machines.training, instances = Math.ceil(work.nodes / gpus), type = machineOf(instanceType, gpus);
    return {
      queue, machine: instanceType, type, cores: Math.max(1, Math.floor(type.vcpus / gpus)), spot: false, processes: work.nodes, instances,
      jobSeconds, machineSeconds: instanceOverheadSeconds, takes: instances, capacity: Math.max(nodes, instances),
    };
  }
  const jobs = works.filter((other) => other.stage === work.stage && queueFor(other, machines) === queue).reduce((total, other) => total + other.jobs, 0);
  if (queue === 'cpu') {
    const capacity = Math.max(1, Math.floor(machines.maxVcpus.cpu / fargate.vcpus)), own = Math.min(work.jobs, capacity);
    // Each job starts a machine.
    return { queue, machine: 'Fargate', type: fargateTask, cores: fargate.vcpus, spot: false, processes: own, instances: own, jobSeconds: jobSeconds + fargateOverheadSeconds, machineSeconds: 0, takes: own, capacity };
  }
  const { vcpus } = batchStages[work.stage], machine = gpuInstanceType(vcpus, machines, prices), type = machineOf(machine);
  // A job has one GPU, and as many machines start as the jobs of all variants need.
  const slots = Math.max(1, Math.min(type.gpus, Math.floor(type.vcpus / vcpus)));
  const most = Math.max(1, Math.floor(machines.maxVcpus.gpu / type.vcpus)), started = Math.min(most, Math.ceil(jobs / slots)), atOnce = Math.min(jobs, started * slots);
  const own = Math.min(work.jobs, atOnce);
  return {
    queue, machine, type, cores: Math.min(type.vcpus, vcpus), spot: machines.spot, processes: own, instances: own * started / atOnce,
    jobSeconds, machineSeconds: instanceOverheadSeconds, takes: own, capacity: most * slots,
  };
}

/** Several nodes train on their own queue, whatever `cpuStages` says. */
function queueFor({ stage, nodes }: StageWork, { cpuStages }: DeployedMachines): QueueName {
  return nodes > 1 ? 'training' : batchStages[stage].queue === 'cpu' || cpuStages.includes(stage) ? 'cpu' : 'gpu';
}

/** The first that a job fits on, that may start and that has a price; Batch may take any. A deployment has one for each stage (`infra/options.ts`). */
function gpuInstanceType(vcpus: number, { gpuInstanceTypes, maxVcpus }: DeployedMachines, prices: Prices): string {
  const fitting = gpuInstanceTypes.filter((name) => vcpusOf(name) >= vcpus && vcpusOf(name) <= maxVcpus.gpu);
  return fitting.find((name) => prices.onDemandPerHour[name] !== undefined) ?? fitting[0] ?? gpuInstanceTypes[0]!;
}

/** Hours until the end of each of several jobs that wait for one queue in this order. */
export function endsInTurn(jobs: readonly { readonly hours: number; readonly takes: number }[], capacity: number): number[] {
  const running: { end: number; takes: number }[] = [];
  let now = 0, free = capacity;
  return jobs.map(({ hours, takes }) => {
    while (free < takes && running.length > 0) {
      const first = running.splice(running.findIndex(({ end }) => end === Math.min(...running.map((job) => job.end))), 1)[0]!;
      now = Math.max(now, first.end);
      free += first.takes;
    }
    free -= takes;
    running.push({ end: now + hours, takes });
    return now + hours;
  });
}
