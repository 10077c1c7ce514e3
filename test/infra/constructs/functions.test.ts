import type { App } from 'aws-cdk-lib';
import { AssetManifestArtifact } from 'aws-cdk-lib/cx-api';
import { expect, it } from 'vitest';
import { Functions } from '../../../infra/constructs/functions.ts';
import { pascal } from '../../../infra/constructs/images.ts';
import { lambdaNames, lambdaStages } from '../../../src/workflow/stages.ts';
import { resource, resources, statementsOf, testStack } from '../support.ts';

const { stack, store, logGroups, template: synthesize } = testStack();
new Functions(stack, 'Functions', { store, logGroups });
const template = synthesize();

it.each(lambdaNames)('%s has the memory and the timeout of the stage table, its own log, and is traced', (name) => {
  const { memoryMiB, timeoutSeconds } = lambdaStages[name];
  expect(resource(template, 'AWS::Lambda::Function', pascal(name))).toMatchObject({
    MemorySize: memoryMiB, Timeout: timeoutSeconds, TracingConfig: { Mode: 'Active' }, LoggingConfig: { LogGroup: `/genview/${name}` },
    Environment: { Variables: { GENVIEW_LOG: 'json', POWERTOOLS_SERVICE_NAME: 'genview' } },
  });
});

it.each(lambdaNames.filter((name) => lambdaStages[name].packaging === 'bundle'))('%s is a bundle for Node 22 on ARM', (name) => {
  expect(resource(template, 'AWS::Lambda::Function', pascal(name))).toMatchObject({ Runtime: 'nodejs22.x', Architectures: ['arm64'], Handler: 'index.handler' });
});

it.each(lambdaNames.filter((name) => lambdaStages[name].packaging === 'image'))('%s is an image, with its handler as command', (name) => {
  expect(resource(template, 'AWS::Lambda::Function', pascal(name))).toMatchObject({ PackageType: 'Image', Architectures: ['x86_64'], ImageConfig: { Command: [`lambdas/${name}/handler.handler`] } });
});

it('each have a role of their own, with rights on the bucket, their log and tracing', () => {
  const roles = Object.values(resources(template, 'AWS::Lambda::Function')).map(({ Role }) => Role as string);
  expect(new Set(roles).size).toBe(lambdaNames.length);
  for (const name of lambdaNames) {
    const others = statementsOf(template, pascal(name)).filter(({ actions }) => !actions.every((action) => action.startsWith('s3:')));
    expect(others).toEqual([
      { actions: ['logs:CreateLogStream', 'logs:PutLogEvents'], resources: [expect.stringContaining(`log-group:/genview/${name}`) as string] },
      { actions: ['xray:PutTelemetryRecords', 'xray:PutTraceSegments'], resources: ['*'] },
    ]);
  }
});

it('are built from the bases that the options give', () => {
  const { stack: own, store: ownStore, logGroups: ownGroups } = testStack();
  const buildArguments = { LAMBDA_BASE: `public.ecr.aws/lambda/nodejs@sha256:${'0a'.repeat(32)}` };
  new Functions(own, 'Functions', { store: ownStore, logGroups: ownGroups, buildArguments });
  const assembly = (own.node.root as App).synth();
  const images = assembly.artifacts.filter((artifact) => AssetManifestArtifact.isAssetManifestArtifact(artifact)).flatMap(({ contents }) => Object.values(contents.dockerImages ?? {}));
  expect(images.map(({ source }) => ({ target: source.dockerBuildTarget, args: source.dockerBuildArgs }))).toEqual([{ target: 'functions', args: { DEVICE: 'cpu', ...buildArguments } }]);
});
