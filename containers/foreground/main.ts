import { runProgram } from '../../src/workflow/program.ts';

await runProgram({
  'fit-foreground': async () => (await import('../../src/stages/fitForeground.ts')).fitForeground,
  'analyze-foreground': async () => (await import('../../src/stages/analyzeForeground.ts')).analyzeForeground,
});
