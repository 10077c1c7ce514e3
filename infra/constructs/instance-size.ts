import { vcpusOf } from '../../src/estimate/instanceTypes.ts';

export { gpusOf, vcpusOf } from '../../src/estimate/instanceTypes.ts';

/** Memory that a job may have to itself there, in MiB: 4 GiB a vCPU, what the GPU families have at least, less a tenth for the machine. */
export function jobMemoryOf(instanceType: string): number {
  return Math.floor(vcpusOf(instanceType) * 4096 * 0.9);
}

/** Families of GPU instances on which no job of ours can run, and why. */
const unfit: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['g2', 'g3', 'g3s', 'p2', 'p3', 'p3dn'].map((family) => [family, 'has GPUs older than compute capability 7.5, for which there is no code (docs/containers.md)'])),
  g4ad: 'has GPUs of AMD',
  ...Object.fromEntries(['g5g', 'p6e-gb200', 'p6e-gb300'].map((family) => [family, 'has ARM processors, and the images are built for x86'])),
  ...Object.fromEntries(['g6f', 'gr6f'].map((family) => [family, 'has parts of GPUs, and a job asks for a whole one'])),
};

/** Why no job that needs a GPU can run on an instance type; undefined where one can. Families that came later than this list are taken to have NVIDIA GPUs when their names say GPU. */
export function whyUnfit(instanceType: string): string | undefined {
  const family = instanceType.slice(0, instanceType.indexOf('.'));
  return /^(?:g|gr|p)\d/.test(family) ? unfit[family] : 'has no GPU';
}

/** Whether a job finds room on an empty machine: 4 GiB a vCPU, less what the system and the ECS agent take. */
export function holds(instanceType: string, { vcpus, memoryMiB }: { readonly vcpus: number; readonly memoryMiB: number }): boolean {
  return vcpusOf(instanceType) >= vcpus && vcpusOf(instanceType) * 4096 * 0.92 >= memoryMiB;
}
