import { Tags, type App } from 'aws-cdk-lib';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { GenViewError } from '../src/errors.ts';
import { pascal } from './constructs/images.ts';
import { createLocalStack, localStackOptionNames } from './localstack-stack.ts';
import { optionNames, readOptions, type Options } from './options.ts';
import { StatefulStack } from './stateful-stack.ts';
import { StatelessStack } from './stateless-stack.ts';

/** What `-c target=…` can be. @default aws */
const targets: Readonly<Record<string, { readonly create: (app: App) => unknown; readonly options: readonly string[] }>> = {
  aws: { create: (app) => createStacks(app, readOptions((key) => app.node.tryGetContext(key) as unknown)), options: ['config', ...optionNames] },
  localstack: { create: createLocalStack, options: localStackOptionNames },
};

/** The CDK's flags and what it has looked up have a colon or a slash in their names. These have not: its command line's, and what `cdk acknowledge` writes. */
const ofTheCdk = /[:/]|^cli-|^acknowledged-issue-numbers$/;

/** The stacks of the target that the context names. Throws `OptionsInvalid`. */
export function createTarget(app: App): void {
  const target: unknown = app.node.tryGetContext('target') ?? 'aws';
  const known = typeof target === 'string' && Object.hasOwn(targets, target) ? targets[target] : undefined;
  if (!known) throw new GenViewError('OptionsInvalid', `-c target=${String(target)}: there is no such target; known are ${Object.keys(targets).join(', ')}`);
  const names = ['target', ...known.options];
  const personal = personalContext();
  const stranger = Object.keys(app.node.getAllContext() as object).find((key) => !names.includes(key) && !ofTheCdk.test(key) && !personal.includes(key));
  if (stranger !== undefined) throw new GenViewError('OptionsInvalid', `-c ${stranger} (or context of cdk.json): there is no such option with target ${String(target)}; known are ${names.toSorted().join(', ')}`);
  known.create(app);
}

/** Keys of the context that the CDK adds from a person's own `~/.cdk.json`, for all of their projects. */
function personalContext(): readonly string[] {
  try {
    const { context } = JSON.parse(readFileSync(path.join(homedir(), '.cdk.json'), 'utf8')) as { context?: object };
    return Object.keys(context ?? {});
  } catch { return []; }
}

/**
 * Both stacks of a deployment, for the account and region that the CDK command line is used with: without an explicit
 * environment, synthesis needs neither credentials nor a network.
 */
export function createStacks(app: App, options: Options): { stateful: StatefulStack; stateless: StatelessStack } {
  const prefix = options.name === 'genview' ? 'GenView' : pascal(options.name);
  const stateful = new StatefulStack(app, `${prefix}Data`, { options, description: 'GenView: what must outlive a deployment (bucket, logs).' });
  const stateless = new StatelessStack(app, `${prefix}Workflow`, { options, data: stateful, description: 'GenView: workflow, functions and compute; can be deleted and deployed again.' });
  Tags.of(app).add('application', options.name);
  return { stateful, stateless };
}
