/** vCPUs of an instance type of a GPU family: four for each x, `g5.2xlarge` -> 8. */
export function vcpusOf(instanceType: string): number {
  return 4 * Number(/\.(\d*)xlarge$/.exec(instanceType)![1] || 1);
}

/** Memory that a job may have to itself there, in MiB: 4 GiB a vCPU, what the GPU families have at least, less a tenth for the machine. */
export function jobMemoryOf(instanceType: string): number {
  return Math.floor(vcpusOf(instanceType) * 4096 * 0.9);
}

/** GPUs of an instance type of the g4dn, g5, g6 and g6e families; undefined for others. */
export function gpusOf(instanceType: string): number | undefined {
  const size = /^g(?:4dn|5|6|6e)\.(\d*)xlarge$/.exec(instanceType)?.[1];
  return size === undefined ? undefined : { 12: 4, 24: 4, 48: 8 }[size] ?? 1;
}
