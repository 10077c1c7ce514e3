import { build } from 'esbuild';
import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/**
 * What an image holds beside Node: programs without the TypeScript loader, and the packages that cannot be bundled.
 *
 *   node --import tsx containers/bundle.ts --out <folder> [--with <package>]… [--outside <package>]… <entry.ts>…
 *
 * Every entry becomes `<folder>/<its path>.mjs`; what several share lies in `<first folder of the path>/chunks`. Both are as deep
 * as any source file that reads `../../models/…`, so that this leads to the same file. `<folder>/node_modules` gets the packages
 * below with all that they depend on, without what other platforms need.
 *
 * `--outside`: a package that is not bundled although it could be, because another one on disk has to meet the same copy.
 * `--with`: a package of files that a program finds by name (artwork).
 */
const native = ['onnxruntime-node', 'sharp', 'koffi'];
/** Loaded where they are installed, by a name that only the running program knows; their own tf.js must be ours. */
const optional = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];

/** Of packages that are much larger than what a program on this platform reads: the files to keep, by their path in the package. */
const kept: Readonly<Record<string, RegExp>> = {
  'onnxruntime-node': new RegExp(`^(?:package\\.json|LICENSE|dist/|bin/napi-v\\d+/${process.platform}/${process.arch}/)`),
  'emoji-datasource-google': /^(?:package\.json|LICENSE|img\/google\/64\/)/,
};
/** For people who develop with a package, not for a program that runs. */
const unread = /\.(?:map|md|markdown|d\.[cm]?ts|ts|flow)$/;

const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals: entries } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string' }, with: { type: 'string', multiple: true, default: [] }, outside: { type: 'string', multiple: true, default: [] } },
});
if (values.out === undefined || entries.length === 0) throw new Error('usage: bundle.ts --out <folder> [--with <package>]… [--outside <package>]… <entry.ts>…');
const out = path.resolve(values.out);
const outside = [...native, ...optional.filter((name) => existsSync(path.join(root, 'node_modules', name))), ...values.outside];
const packages = withDependencies([...outside, ...values.with]);

// Imported on demand, a package becomes a chunk of its own, and a chunk made of CommonJS has no names to import.
const alias = Object.fromEntries(Object.keys(packageOfFolder('').dependencies).filter((name) => name.startsWith('@aws-sdk/')).flatMap((name) => {
  const { module } = packageOfFolder(`node_modules/${name}`);
  return module === undefined ? [] : [[name, path.join(root, 'node_modules', name, module)]];
}));

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: entries,
  outdir: out,
  outbase: root,
  bundle: true,
  splitting: true,
  metafile: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  external: [...outside, ...optional],
  alias,
  chunkNames: `${entries[0]!.split('/')[0]!}/chunks/[name]-[hash]`,
  outExtension: { '.js': '.mjs' },
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'linked',
  // CommonJS packages in the bundle call require().
  banner: { js: "import { createRequire as bannerRequire } from 'node:module'; const require = bannerRequire(import.meta.url);" },
  logLevel: 'warning',
});

for (const folder of packages) copyPackage(folder);

// Whatever the programs import must be there: a name that is neither Node's nor copied would only fail in the image.
const installed = new Set(packages.map((folder) => folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length)));
for (const { imports } of Object.values(metafile.outputs)) {
  for (const { path: name, external, kind } of imports) {
    // A require() that is left is one that its package tries and can do without.
    if (external !== true || kind === 'require-call' || name.startsWith('node:') || builtinModules.includes(name) || optional.includes(packageOf(name))) continue;
    if (!installed.has(packageOf(name))) throw new Error(`the bundle imports ${name}, which the image would not have: add it to containers/bundle.ts`);
  }
}
for (const [importer, { imports }] of Object.entries(metafile.inputs)) {
  const lost = imports.find(({ kind, external, path: file }) => kind === 'dynamic-import' && external !== true && metafile.inputs[file]?.format === 'cjs');
  if (lost) throw new Error(`${importer} imports ${lost.original ?? lost.path} on demand, which is CommonJS: its names would be lost; import it in a module of its own`);
}

interface Package {
  readonly module?: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
}

/** The package.json in a folder, relative to the root. */
function packageOfFolder(folder: string): Package {
  return { dependencies: {}, optionalDependencies: {}, ...JSON.parse(readFileSync(path.join(root, folder, 'package.json'), 'utf8')) as object };
}

/** `@scope/name/file` -> `@scope/name` */
function packageOf(specifier: string): string {
  return specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
}

/** Folders, relative to the root, of the packages and of everything that they need at run time. */
function withDependencies(names: readonly string[]): string[] {
  const found = new Set<string>();
  const visit = (name: string, from: string, needed: boolean): void => {
    const folder = find(name, from);
    // A platform's package that is not for this platform.
    if (folder === undefined && !needed) return;
    if (folder === undefined) throw new Error(`${name} is not installed; run npm ci`);
    if (found.has(folder)) return;
    found.add(folder);
    const { dependencies, optionalDependencies } = packageOfFolder(folder);
    // npm lists optional ones among the others too.
    for (const dependency of Object.keys({ ...dependencies, ...optionalDependencies })) if (!installOnly(name, dependency)) visit(dependency, folder, !(dependency in optionalDependencies));
  };
  for (const name of names) visit(name, '', true);
  return [...found].toSorted();
}

/** onnxruntime-node's own dependencies, beside its types, serve its install script. */
function installOnly(name: string, dependency: string): boolean {
  return name === 'onnxruntime-node' && dependency !== 'onnxruntime-common';
}

/** As Node looks for a package: in the nearest node_modules. */
function find(name: string, from: string): string | undefined {
  for (let folder = from; ; folder = path.dirname(folder) === '.' ? '' : path.dirname(folder)) {
    const candidate = path.join(folder, 'node_modules', name);
    if (existsSync(path.join(root, candidate, 'package.json'))) return candidate;
    if (folder === '') return undefined;
  }
}

function copyPackage(folder: string): void {
  const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const copy = (relative: string): void => {
    for (const entry of readdirSync(path.join(root, folder, relative))) {
      const file = path.posix.join(relative, entry), from = path.join(root, folder, file);
      // Packages inside a package are listed by themselves, where they are needed.
      if (entry === 'node_modules') continue;
      if (lstatSync(from).isDirectory()) { copy(file); continue; }
      if (unread.test(entry) || kept[name]?.test(file) === false) continue;
      mkdirSync(path.join(out, folder, relative), { recursive: true });
      cpSync(from, path.join(out, folder, file), { verbatimSymlinks: true });
    }
  };
  copy('');
}
