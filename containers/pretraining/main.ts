import { runOnNode } from '../../src/workflow/nodeProcesses.ts';
import { runProgram } from '../../src/workflow/program.ts';

await runOnNode(() => runProgram({
  'pretrain': async () => (await import('../../src/stages/pretrain.ts')).pretrain,
}));
