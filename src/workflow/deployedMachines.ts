import { z } from 'zod';
import { instanceTypeName } from '../estimate/instanceTypes.ts';
import type { TrainingMachines } from '../stages/trainingMachines.ts';
import type { ProgramName } from './stages.ts';

/** Options of a deployment on AWS that say which machines do the work (`infra/options.ts`). Zones are not among them: on-demand prices are a region's. */
export interface DeployedMachines {
  readonly gpuInstanceTypes: readonly string[];
  readonly spot: boolean;
  /** In use at a time, of the `gpu` queue and on Fargate. */
  readonly maxVcpus: { readonly gpu: number; readonly cpu: number };
  /** Stages on Fargate beside those that always are. */
  readonly cpuStages: readonly ProgramName[];
  readonly training: TrainingMachines & { readonly instanceType: string };
}

/** Those of a deployment without options. */
export const defaultMachines: DeployedMachines = {
  gpuInstanceTypes: ['g5', 'g6', 'g6e', 'g4dn'].flatMap((family) => [`${family}.xlarge`, `${family}.2xlarge`]),
  spot: true,
  maxVcpus: { gpu: 256, cpu: 64 },
  cpuStages: [],
  training: { instanceType: 'g5.2xlarge', nodes: 4, gpus: 1 },
};

const count = z.int().positive(), instanceType = z.string().regex(instanceTypeName);
/** Other fields may come; what changes the meaning of these needs another version. */
const schema = z.object({
  version: z.literal(1),
  gpuInstanceTypes: z.array(instanceType).min(1),
  spot: z.boolean(),
  maxVcpus: z.object({ gpu: count, cpu: count }),
  cpuStages: z.array(z.string()),
  // No machines: no multi-node jobs.
  training: z.object({ instanceType, nodes: z.int().nonnegative(), gpus: count }),
});

/** As a deployed definition carries them. */
export function writeMachines({ gpuInstanceTypes, spot, maxVcpus, cpuStages, training: { instanceType: type, nodes, gpus } }: DeployedMachines): string {
  return JSON.stringify({ version: 1, gpuInstanceTypes, spot, maxVcpus, cpuStages, training: { instanceType: type, nodes, gpus } });
}

/** undefined where another version wrote them. */
export function readMachines(text: string): DeployedMachines | undefined {
  let value: unknown;
  try { value = JSON.parse(text); } catch { return undefined; }
  const parsed = schema.safeParse(value);
  if (!parsed.success) return undefined;
  const { version: _, cpuStages, ...machines } = parsed.data;
  return { ...machines, cpuStages: cpuStages as ProgramName[] };
}
