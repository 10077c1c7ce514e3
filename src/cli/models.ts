import { Command } from 'commander';
import { interruptible } from './interruption.ts';
import { formatTable, jsonOption, printJson, prose, wholeNumber, withEngineOptions } from './options.ts';

export function modelsCommand(): Command {
  return new Command('models')
    .summary('the embedded networks: list them, train them again')
    .description('The small networks that ship with genview, in the places of CLIP and of the diffusion model.')
    .addCommand(listModels())
    .addCommand(trainDemo());
}

function listModels(): Command {
  return new Command('list')
    .summary('list the embedded networks')
    .description('Lists the embedded networks by the names that recipes use, with size, parameters and hash.')
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview models list
  genview models list --json`)
    .action(async (options: { json?: boolean }) => {
      const { listBuiltinModels } = await import('./builtinModels.ts');
      const models = await listBuiltinModels();
      if (options.json) { printJson(models); return; }
      process.stdout.write(`${formatTable([
        ['name', 'parameters', 'MiB', 'sha256'],
        ...models.map(({ name, parameters, bytes, sha256 }) => bytes === null ? [name, 'missing: genview models train-demo', '', '']
          : [name, String(parameters), (bytes / 2 ** 20).toFixed(1), sha256!.slice(0, 16)]),
      ])}\n`);
    });
}

function trainDemo(): Command {
  return withEngineOptions(new Command('train-demo'))
    .summary('train the embedded networks again')
    .description(prose(`Trains the embedded encoder and the conditional U-Net from rendered images, without labels, with genview's
own engine. Takes hours. Writes a checkpoint every 100 steps; the same command continues.`))
    .option('--work <folder>', 'checkpoints', '.genview/train-demo')
    .option('--out <folder>', 'where the finished networks go (default: models/demo of this package)')
    .option('--encoder-steps <n>', 'training steps of the encoder', wholeNumber(1))
    .option('--unclip-steps <n>', 'training steps of the U-Net', wholeNumber(1))
    .option('--images <n>', 'images to render for training', wholeNumber(1))
    .option('--seed <n>', 'seed', wholeNumber(0))
    .option('--threads <n>', 'threads of the engine', wholeNumber(1))
    .option('--improve', 'train the finished U-Net further, from its weights; the encoder stays')
    .addHelpText('after', `
Examples:
  npm run train:demo-models
  genview models train-demo --work /data/train-demo --out /data/models --unclip-steps 100`)
    .action(async (options: { work: string; out?: string; encoderSteps?: number; unclipSteps?: number; images?: number; seed?: number; threads?: number; improve?: boolean }) => {
      const { trainDemoModels } = await import('../demo/train.ts');
      const { announceEngine } = await import('../runtime/device.ts');
      await interruptible(async ({ log, signal }) => {
        await announceEngine(log);
        await trainDemoModels(options, log, signal);
      });
    });
}
