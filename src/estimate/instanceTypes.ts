/**
 * EC2 instance types with NVIDIA GPUs, by what their names tell. Peaks are dense ones of the tensor cores in TFLOP/s (the makers' data
 * sheets): half precision, and float32 as TF32 where there is TF32.
 */
export interface Gpu {
  readonly name: string;
  readonly peakHalf: number;
  readonly peakFloat32: number;
}

/** An instance of a type. */
export interface Machine {
  readonly gpu: Gpu;
  readonly gpus: number;
  readonly vcpus: number;
  /** False where the family is not in the table: its GPUs are then taken for A10Gs. */
  readonly known: boolean;
}

const t4 = { name: 'T4', peakHalf: 65, peakFloat32: 8.1 }, a10g = { name: 'A10G', peakHalf: 70, peakFloat32: 35 };
const l4 = { name: 'L4', peakHalf: 121, peakFloat32: 60 }, l40s = { name: 'L40S', peakHalf: 362, peakFloat32: 183 };
const a100 = { name: 'A100', peakHalf: 312, peakFloat32: 156 }, h100 = { name: 'H100', peakHalf: 989, peakFloat32: 494 }, h200 = { ...h100, name: 'H200' };

/** GPUs of the sizes that have more than one. */
const workstation = { 12: 4, 24: 4, 48: 8 }, server = { 24: 8, 48: 8 };

const families: Readonly<Record<string, { readonly gpu: Gpu; readonly gpus: Readonly<Record<string, number>> }>> = {
  g4dn: { gpu: t4, gpus: workstation },
  g5: { gpu: a10g, gpus: workstation },
  g6: { gpu: l4, gpus: workstation },
  g6e: { gpu: l40s, gpus: workstation },
  p4d: { gpu: a100, gpus: server },
  p4de: { gpu: a100, gpus: server },
  p5: { gpu: h100, gpus: server },
  p5e: { gpu: h200, gpus: server },
  p5en: { gpu: h200, gpus: server },
};

/** Names whose vCPUs follow from them. */
export const instanceTypeName = /^([a-z][a-z0-9-]*)\.(\d*)xlarge$/;

/** vCPUs of an instance type of a GPU family: four for each x, `g5.2xlarge` -> 8. */
export function vcpusOf(instanceType: string): number {
  return 4 * Number(instanceTypeName.exec(instanceType)![2] || 1);
}

/** GPUs of an instance type of the families g4dn, g5, g6, g6e, p4d, p4de, p5, p5e and p5en; undefined for others. */
export function gpusOf(instanceType: string): number | undefined {
  const [, family = '', size = ''] = instanceTypeName.exec(instanceType) ?? [];
  return Object.hasOwn(families, family) ? families[family]!.gpus[size] ?? 1 : undefined;
}

/** @param gpus of a type whose family is not in the table. @default 1 */
export function machineOf(instanceType: string, gpus = 1): Machine {
  const [, family = ''] = instanceTypeName.exec(instanceType) ?? [], known = Object.hasOwn(families, family);
  return { gpu: known ? families[family]!.gpu : a10g, gpus: gpusOf(instanceType) ?? gpus, vcpus: vcpusOf(instanceType), known };
}
