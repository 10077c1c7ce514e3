import { runProgram } from '../../src/workflow/program.ts';

await runProgram({
  'linear-probe': async () => (await import('../../src/stages/linearProbe.ts')).linearProbe,
  'nearest-neighbours': async () => (await import('../../src/stages/nearestNeighbours.ts')).nearestNeighbours,
  'semi-supervised': async () => (await import('../../src/stages/semiSupervised.ts')).semiSupervised,
});
