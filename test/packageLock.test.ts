import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Package { readonly version?: string; readonly optionalDependencies?: Readonly<Record<string, string>> }

// npm leaves out the platforms that the registry at hand does not offer, and `npm ci` then refuses the whole file.
it('package-lock.json names every optional package, also those of other platforms', () => {
  const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as { packages: Readonly<Record<string, Package>> };
  const bundled = /\/node_modules\/.*\/node_modules\//;
  const missing = Object.entries(packages).filter(([place]) => !bundled.test(`/${place}`)).flatMap(([place, { optionalDependencies = {} }]) => Object.keys(optionalDependencies)
    .filter((name) => !(`node_modules/${name}` in packages) && !(`${place}/node_modules/${name}` in packages)));
  expect(missing).toEqual([]);
});
