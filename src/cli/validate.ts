import { Command } from 'commander';
import { jsonOption, printJson, prose } from './options.ts';

export function validateCommand(): Command {
  return new Command('validate')
    .summary('check a recipe without running it')
    .description(prose(`Checks every field of a recipe, that its dataset and its models are there, and lists the variants.
With --json prints the recipe with every default filled in.`))
    .argument('<recipe>', 'path or URL of a recipe file')
    .addOption(jsonOption())
    .addHelpText('after', `
Examples:
  genview validate recipe.yaml
  genview validate recipe.yaml --json | jq .variants`)
    .action(async (file: string, options: { json?: boolean }) => {
      const [{ toUrl }, { checkLocations, locate, readRecipe }] = await Promise.all([import('../recipe/location.ts'), import('../stages/resolveRecipe.ts')]);
      const url = toUrl(file);
      const recipe = locate(await readRecipe(url), url);
      await checkLocations(recipe);
      if (options.json) { printJson(recipe); return; }
      process.stdout.write(`${file} is valid: ${recipe.name}, seed ${recipe.seed}, dataset ${recipe.dataset.url}\n`);
      for (const { name, pretraining: p } of recipe.variants) {
        const views = p.views.probability === 0 ? 'ordinary pairs' : `generated views with probability ${p.views.probability}`;
        process.stdout.write(`  ${name}: ${p.method}, ${p.backbone.name}, ${p.epochs} epochs, batch ${p.batch}, ${views}${p.qualityLoss.enabled ? ', quality-driven loss' : ''}\n`);
      }
    });
}
