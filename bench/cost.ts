import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { formatEstimate, money } from '../src/cli/showEstimate.ts';
import { formatTable } from '../src/cli/options.ts';
import { estimate, type Estimate } from '../src/estimate/estimate.ts';
import { readPrices } from '../src/estimate/prices.ts';
import type { DatasetSize, Models } from '../src/estimate/work.ts';
import { parseRecipe } from '../src/recipe/parse.ts';
import type { Recipe } from '../src/recipe/recipe.ts';
import { defaultMachines, type DeployedMachines } from '../src/workflow/deployedMachines.ts';

const published: Models = { encoder: 'clip-vit-h-14', generator: 'stable-unclip-2.1' };

/** One run of the table: a baseline and a GenView variant, with the paper's models. */
interface Run {
  readonly name: string;
  readonly recipe: Recipe;
  readonly dataset: DatasetSize;
  readonly models: Models;
  /** Machines for training. @default those of a deployment without options */
  readonly training?: DeployedMachines['training'];
}

/** MoCo v3 with ResNet-50 at 224 pixels as in the paper; shards so large that loading the models does not count. */
const moco3 = (name: string, shardSize: number, epochs: number, nodes: number): Recipe => parseRecipe(`
name: ${name}
dataset: { url: s3://bucket/datasets/${name}/, shardSize: ${shardSize} }
foreground: { encoder: { imageSize: 224 } }
pretraining: { method: mocov3, backbone: { name: resnet50, stem: imagenet }, epochs: ${epochs}, batch: 1024, nodes: ${nodes}, augmentation: { imageSize: 224 } }
`, name);

async function runs(): Promise<Run[]> {
  const cifar = await readFile(new URL('../recipes/cifar10.yaml', import.meta.url), 'utf8');
  const imagenet = { recipe: moco3('imagenet', 4000, 100, 8), dataset: { train: 1_281_167, val: 50_000, bytes: 1_331_167 * 110_000 }, models: published };
  const small: DatasetSize = { train: 50_000, val: 10_000, bytes: 60_000 * 2_300 };
  return [
    { name: 'CIFAR-10, embedded models', recipe: parseRecipe(cifar, 'recipes/cifar10.yaml'), dataset: small, models: { encoder: 'demo', generator: 'demo' } },
    { name: 'CIFAR-10, the paper\'s models', recipe: parseRecipe(cifar, 'recipes/cifar10.yaml'), dataset: small, models: published },
    { name: '100,000 photographs, 200 epochs', recipe: moco3('photographs', 1000, 200, 4), dataset: { train: 100_000, val: 5_000, bytes: 105_000 * 110_000 }, models: published },
    { name: 'ImageNet-1K, 100 epochs', ...imagenet, training: { instanceType: 'g5.2xlarge', nodes: 8, gpus: 1 } },
    { name: 'the same, trained on p4d.24xlarge', ...imagenet, training: { instanceType: 'p4d.24xlarge', nodes: 2, gpus: 8 } },
  ];
}

const about = (hours: number): string => hours < 10 ? hours.toFixed(1) : Math.round(hours).toLocaleString('en');

/** Hours and dollars of the stages as docs/aws.md has them. */
function row(name: string, { stages, gpuHours, hours, dollars }: Estimate): string[] {
  const of = (...names: string[]): number => stages.filter(({ stage }) => names.includes(stage)).reduce((sum, stage) => sum + stage.gpuHours, 0);
  return [
    name, about(of('fit-foreground', 'analyze-foreground')), about(of('generate-views')), about(of('pretrain')), about(of('linear-probe', 'nearest-neighbours', 'semi-supervised', 'pair-similarity')),
    about(gpuHours), `${about(hours)} h`, money(dollars.total), money(dollars.storageMonth),
  ];
}

/** Head and rows of the table. */
export async function costTable(): Promise<string[][]> {
  const estimates = await estimateRuns();
  return [['run', 'foreground', 'views', 'pretraining', 'evaluation', 'GPU hours', 'time', 'cost', 'kept, a month'], ...estimates.map(({ name, result }) => row(name, result))];
}

/** The table in Markdown, as it stands in docs/aws.md. */
export function markdown([head, ...rows]: readonly (readonly string[])[]): string {
  return [head!, head!.map((_, i) => i === 0 ? '---' : '---:'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

async function estimateRuns(): Promise<{ name: string; result: Estimate }[]> {
  const prices = await readPrices();
  return (await runs()).map(({ name, recipe, dataset, models, training }) => ({ name, result: estimate(recipe, dataset, { prices, models, machines: { ...defaultMachines, ...(training && { training }) } }) }));
}

/**
 * `npm run bench -- cost [--stages] [--write]`: the cost table of docs/aws.md. `--stages` prints every stage, `--write` puts the table into the page.
 */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { stages: { type: 'boolean' }, write: { type: 'boolean' } } });
  if (values.stages) for (const { name, result } of await estimateRuns()) process.stdout.write(`${name}\n${formatEstimate(result)}\n\n`);
  const table = await costTable();
  process.stdout.write(`${formatTable(table, 'right')}\n`);
  if (values.write) {
    const page = fileURLToPath(new URL('../docs/aws.md', import.meta.url));
    await writeFile(page, (await readFile(page, 'utf8')).replace(/(<!-- npm run bench -- cost --write -->\n)[\s\S]*?(<!-- end -->)/, (_, start: string, end: string) => `${start}${markdown(table)}\n${end}`));
  }
}
