import { Command } from 'commander';

export function initCommand(): Command {
  return new Command('init')
    .summary('write a recipe to fill in')
    .description(`Writes a recipe with every field, its default and its meaning. Only the dataset has to be filled in.`)
    .argument('[file]', 'where to write it', 'recipe.yaml')
    .option('--name <name>', 'name of the experiment: letters, digits and dashes', 'my-experiment')
    .option('--dataset <folder or URL>', 'the images: train/<class>/... and val/<class>/..., or <class>/...', 'images')
    .option('--force', 'replace an existing file')
    .addHelpText('after', `
Examples:
  genview init
  genview init birds.yaml --name birds --dataset /data/birds`)
    .action(async (file: string, options: { name: string; dataset: string; force?: boolean }) => {
      const [{ writeFile }, path, { GenViewError }, { isUrl }, { recipeTemplate }, { parseRecipe }] = await Promise.all([
        import('node:fs/promises'), import('node:path'), import('../errors.ts'), import('../recipe/location.ts'), import('../recipe/template.ts'), import('../recipe/parse.ts'),
      ]);
      // Paths in a recipe are relative to it; those on the command line to the current folder.
      const dataset = isUrl(options.dataset) || path.isAbsolute(options.dataset)
        ? options.dataset : path.relative(path.dirname(path.resolve(file)), path.resolve(options.dataset)) || '.';
      const text = recipeTemplate(options.name, dataset);
      parseRecipe(text, file);
      try {
        await writeFile(file, text, { flag: options.force ? 'w' : 'wx' });
      } catch (cause) {
        const { code } = cause as NodeJS.ErrnoException;
        if (code === 'EEXIST') throw new GenViewError('FileExists', `${file} exists already; --force replaces it`, { cause });
        throw new GenViewError('NotWritable', `cannot write ${file}: ${(cause as Error).message}`, { cause });
      }
      process.stdout.write(`wrote ${file}; check it with: genview validate ${file}\n`);
    });
}
