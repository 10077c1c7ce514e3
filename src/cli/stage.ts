import { Argument, Command } from 'commander';
import { interruptible } from './interruption.ts';
import { printJson, prose, wholeNumber, withEngineOptions } from './options.ts';
import { stageNames, type StageName } from './stageNames.ts';

export function stageCommand(): Command {
  return withEngineOptions(new Command('stage'))
    .summary('run one stage of a run by hand')
    .description(prose(`Runs one stage in this process and prints its result as JSON. The stages of a run, in order:
resolve-recipe, shard-dataset (again with --continuation until it prints null), fit-foreground,
analyze-foreground (each shard), plan-views, generate-views (each shard), pair-similarity,
pretrain, linear-probe, nearest-neighbours, semi-supervised (each variant), report.`))
    .addArgument(new Argument('<name>', 'stage').choices([...stageNames]))
    .option('--run <URL>', 'the run: <store>/runs/<run>/ (all but resolve-recipe)')
    .option('--shard <n>', 'shard, from 0 (analyze-foreground, generate-views)', wholeNumber(0))
    .option('--variant <name>', 'variant (pretrain and the evaluations)')
    .option('--recipe <file>', 'recipe (resolve-recipe)')
    .option('--store <folder or URL>', 'store (resolve-recipe)', '.genview')
    .option('--continuation <token>', 'where an earlier call stopped (shard-dataset)')
    .option('--threads <n>', 'threads of the engine (default: the cores of this machine)', wholeNumber(1))
    .addHelpText('after', `
Examples:
  genview stage resolve-recipe --recipe recipe.yaml
  genview stage generate-views --run .genview/runs/birds-0123abcd --shard 3
  genview stage pretrain --run .genview/runs/birds-0123abcd --variant baseline`)
    .action(async (name: StageName, options: StageOptions) => {
      const [{ runStage }, { announceEngine }] = await Promise.all([import('./stages.ts'), import('../runtime/device.ts')]);
      const result = await interruptible(async (context) => {
        await announceEngine(context.log);
        return runStage(name, options, { ...context, threads: options.threads ?? context.threads });
      });
      printJson(result ?? null);
    });
}

export interface StageOptions {
  readonly run?: string;
  readonly shard?: number;
  readonly variant?: string;
  readonly recipe?: string;
  readonly store: string;
  readonly continuation?: string;
  readonly threads?: number;
}
