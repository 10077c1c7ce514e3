import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { resolveLocation, toUrl } from '../../src/recipe/location.ts';

const recipe = 'file:///data/recipes/birds%20%231.yaml';

describe('a location in a recipe', () => {
  it.each([
    ['builtin:demo', recipe, 'builtin:demo'],
    ['s3://bucket/images', recipe, 's3://bucket/images/'],
    ['file:///images/', recipe, 'file:///images/'],
    ['images', recipe, 'file:///data/recipes/images/'],
    ['../my images #1/50%', recipe, 'file:///data/my%20images%20%231/50%25/'],
    ['/images', recipe, 'file:///images/'],
    ['exp:1', recipe, 'file:///data/recipes/exp:1/'],
    ['images', 's3://bucket/a/recipe.yaml', 's3://bucket/a/images/'],
    ['exp:1', 's3://bucket/a/recipe.yaml', 's3://bucket/a/exp:1/'],
    ['../images/./x/', 's3://bucket/a/recipe.yaml', 's3://bucket/images/x/'],
  ])('%s beside %s is %s', (location, base, url) => expect(resolveLocation(location, base, 'dataset.url', true)).toBe(url));

  it('of a file gets no slash', () => expect(resolveLocation('m.onnx', recipe, 'model')).toBe('file:///data/recipes/m.onnx'));

  it.each([
    ['https://example.org/images', recipe, /^dataset\.url: .*not https:/],
    ['/images', 's3://bucket/a/recipe.yaml', /^dataset\.url: .*path of one machine/],
    ['../../images', 's3://bucket/a/recipe.yaml', /^dataset\.url: .*leads out of the bucket/],
  ])('%s beside %s is refused', (location, base, message) => expect(() => resolveLocation(location, base, 'dataset.url', true)).toThrow(message));
});

it('a path on the command line is relative to the current folder', () => {
  expect(toUrl('a b.yaml')).toBe(pathToFileURL(`${process.cwd()}/a b.yaml`).href);
  expect(toUrl('exp:1.yaml')).toBe(pathToFileURL(`${process.cwd()}/exp:1.yaml`).href);
  expect(toUrl('s3://bucket/a b')).toBe('s3://bucket/a b');
});
