import { runProgram } from '../../src/workflow/program.ts';

await runProgram({
  'pretrain': async () => (await import('../../src/stages/pretrain.ts')).pretrain,
});
