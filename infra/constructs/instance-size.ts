/** vCPUs of an instance type of a GPU family: four for each x, `g5.2xlarge` -> 8. */
export function vcpusOf(instanceType: string): number {
  return 4 * Number(/\.(\d*)xlarge$/.exec(instanceType)![1] || 1);
}

/** Memory that a job may have to itself there, in MiB: 4 GiB a vCPU, what the GPU families have at least, less a tenth for the machine. */
export function jobMemoryOf(instanceType: string): number {
  return Math.floor(vcpusOf(instanceType) * 4096 * 0.9);
}
