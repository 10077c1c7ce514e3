import { vcpusOf } from '../../src/estimate/instanceTypes.ts';

export { gpusOf, vcpusOf } from '../../src/estimate/instanceTypes.ts';

/** Memory that a job may have to itself there, in MiB: 4 GiB a vCPU, what the GPU families have at least, less a tenth for the machine. */
export function jobMemoryOf(instanceType: string): number {
  return Math.floor(vcpusOf(instanceType) * 4096 * 0.9);
}
