import { runProgram } from '../../src/workflow/program.ts';

await runProgram({
  'generate-views': async () => (await import('../../src/stages/generateViews.ts')).generateViews,
  'pair-similarity': async () => (await import('../../src/stages/pairSimilarity.ts')).pairSimilarity,
});
