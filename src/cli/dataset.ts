import { Command } from 'commander';
import { interruptible } from './interruption.ts';
import { prose, wholeNumber } from './options.ts';

export function datasetCommand(): Command {
  return new Command('dataset')
    .summary('make a folder of images: the embedded set, CIFAR-10, Tiny ImageNet')
    .description(prose(`Makes a folder train/<class>/..., val/<class>/... to use as dataset.url in a recipe.
Each command continues what an earlier call left unfinished.`))
    .addCommand(renderDemo())
    .addCommand(unpackCifar10Command())
    .addCommand(unpackTinyImagenetCommand());
}

function renderDemo(): Command {
  return new Command('render-demo')
    .summary('render the demo images')
    .description(prose(`Renders the embedded dataset, 32 x 32 pixel PNG files and their exact foreground masks. Recipes name it
builtin:demo and need no folder; this is for looking at it, or for more images.`))
    .argument('<folder>', 'where to write it')
    .option('--train <n>', 'training images of each of the 24 classes', wholeNumber(1), 100)
    .option('--val <n>', 'validation images of each class', wholeNumber(1), 25)
    .option('--seed <n>', 'seed', wholeNumber(0), 0)
    .addHelpText('after', `
Examples:
  genview dataset render-demo data/demo
  genview dataset render-demo data/demo-large --train 1000 --val 100`)
    .action(async (folder: string, options: { train: number; val: number; seed: number }) => {
      const [{ renderDemoDataset }, { openStore }] = await Promise.all([import('../demo/dataset.ts'), import('../storage/index.ts')]);
      await interruptible(({ log, signal }) => renderDemoDataset({ store: openStore(folder), trainPerClass: options.train, valPerClass: options.val, seed: options.seed, signal }, log));
    });
}

function unpackCifar10Command(): Command {
  return new Command('unpack-cifar10')
    .summary('unpack CIFAR-10 mosaics')
    .description(prose(`Cuts mosaics of 40 x 25 tiles (train-00.png ..., test-00.png ...; label = tile number modulo 10) into
train/<class>/*.png and val/<class>/*.png.`))
    .argument('<mosaics>', 'folder of the PNG mosaics')
    .argument('<folder>', 'where to write the images')
    .option('--train <n>', 'training images (default: all)', wholeNumber(1))
    .option('--test <n>', 'test images (default: all)', wholeNumber(1))
    .addHelpText('after', `
Examples:
  genview dataset unpack-cifar10 ../shared/data/cifar10 recipes/data/cifar10
  genview dataset unpack-cifar10 ../shared/data/cifar10 data/cifar10-small --train 5000 --test 1000`)
    .action(async (mosaics: string, folder: string, { train, test }: { train?: number; test?: number }) => {
      const { unpackCifar10 } = await import('../dataset/cifar10.ts');
      await interruptible(({ log }) => unpackCifar10(mosaics, folder, { ...(train !== undefined && { train }), ...(test !== undefined && { test }) }, log));
    });
}

function unpackTinyImagenetCommand(): Command {
  return new Command('unpack-tiny-imagenet')
    .summary('unpack Tiny ImageNet')
    .description(prose(`Unpacks <wnid>.tgz archives, chosen by classes.tsv beside them, into train/<class>/*.JPEG and
val/<class>/*.JPEG.`))
    .argument('<archives>', 'folder of classes.tsv and the archives')
    .argument('<folder>', 'where to write the images')
    .option('--classes <n>', 'a nested subset of 10, 20, 50 or 60 classes', wholeNumber(2), 10)
    .addHelpText('after', `
Examples:
  genview dataset unpack-tiny-imagenet ../shared/data/tiny-imagenet-60 recipes/data/tiny-imagenet-10`)
    .action(async (archives: string, folder: string, options: { classes: number }) => {
      const { unpackTinyImagenet } = await import('../dataset/tinyImagenet.ts');
      await interruptible(({ log }) => unpackTinyImagenet(archives, folder, { classes: options.classes }, log));
    });
}
