import { expect, it } from 'vitest';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { allFields } from '../../src/recipe/schema.ts';
import { recipeTemplate } from '../../src/recipe/template.ts';

const text = recipeTemplate('birds', '../my "birds" #1');
const defaults = parseRecipe(`name: birds\ndataset: { url: '../my "birds" #1' }`, 'defaults');
const everything = text.replace(/^(\s*)#(?=\S)/gm, '$1');

it('the template is a valid recipe with all defaults', () => {
  expect(parseRecipe(text, 'template')).toEqual(defaults);
});

it('the commented fields of the template are the defaults, and taking away the # changes nothing', () => {
  expect(everything).not.toBe(text);
  expect(parseRecipe(everything, 'template')).toEqual(defaults);
});

it('the template shows every field', () => {
  const shown = new Set([...everything.matchAll(/^\s*(?:- )?([a-zA-Z]+):/gm)].map(([, key]) => key));
  // Settings of lars and of Vision Transformers, and the long form of the noise strategy, are explained in words.
  const elsewhere = new Set(['trust', 'form', 'patch', 'constant', 'strategy', 'level']);
  const missing = allFields().map((field) => field.split('.').at(-1)!).filter((key) => !shown.has(key) && !elsewhere.has(key));
  expect(missing).toEqual([]);
});
