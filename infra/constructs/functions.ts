import { Duration, RemovalPolicy } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, DockerImageCode, DockerImageFunction, Runtime, Tracing, type Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { NodejsFunction, OutputFormat, type BundlingOptions, type NodejsFunctionProps } from 'aws-cdk-lib/aws-lambda-nodejs';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { fileURLToPath } from 'node:url';
import { lambdaNames, lambdaStages, type LambdaName } from '../../src/workflow/stages.ts';
import { acknowledge } from '../acknowledge.ts';
import type { Options } from '../options.ts';
import type { StatefulStack } from '../stateful-stack.ts';
import { imageArguments, imageContext, pascal } from './images.ts';
import { grantStore, type Store } from './store-access.ts';

export interface FunctionsProps {
  readonly store: Store;
  readonly logGroups: StatefulStack['logGroups'];
  /** @default the Dockerfile's */
  readonly buildArguments?: Options['buildArguments'];
}

/** One function for each Lambda stage of the stage table, each with a role of its own. */
export class Functions extends Construct {
  readonly functions: Readonly<Record<LambdaName, LambdaFunction>>;

  constructor(scope: Construct, id: string, { store, logGroups, buildArguments }: FunctionsProps) {
    super(scope, id);
    const make = (name: LambdaName): LambdaFunction => {
      const { memoryMiB, timeoutSeconds, packaging } = lambdaStages[name];
      const role = functionRole(this, name, logGroups[name], `GenView ${name}: what it reads and writes, and its log.`);
      grantStore(role, store, name);
      const common = { role, logGroup: logGroups[name], memorySize: memoryMiB, timeout: Duration.seconds(timeoutSeconds), tracing: Tracing.ACTIVE, environment: functionEnvironment, currentVersionOptions };
      if (packaging === 'bundle') return bundledFunction(this, name, common);
      return new DockerImageFunction(this, pascal(name), {
        ...common,
        // As the images of the jobs: whoever builds those for x86 can build this one without emulation.
        architecture: Architecture.X86_64,
        code: DockerImageCode.fromImageAsset(imageContext.directory, { ...imageContext, target: 'functions', buildArgs: imageArguments(0, buildArguments), cmd: [`lambdas/${name}/handler.handler`] }),
      });
    };
    this.functions = Object.fromEntries(lambdaNames.map((name) => [name, make(name)])) as Record<LambdaName, LambdaFunction>;
  }
}

export const functionEnvironment = { GENVIEW_LOG: 'json', POWERTOOLS_SERVICE_NAME: 'genview', NODE_OPTIONS: '--enable-source-maps' } as const;

/** The workflow calls versions: a running execution keeps calling those that it began with, so that an update must leave them. */
const currentVersionOptions = { removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE } as const;

/** A role that may write one log and, as tracing asks, X-Ray's segments. */
export function functionRole(scope: Construct, name: string, logGroup: ILogGroup, description: string): Role {
  const role = new Role(scope, `${pascal(name)}Role`, { assumedBy: new ServicePrincipal('lambda.amazonaws.com'), description });
  role.addToPolicy(new PolicyStatement({ actions: ['logs:CreateLogStream', 'logs:PutLogEvents'], resources: [logGroup.logGroupArn] }));
  acknowledge(role, { 'AwsSolutions-IAM5[Resource::*]': 'xray:PutTraceSegments and xray:PutTelemetryRecords know no resources.' });
  return role;
}

type Common = Pick<NodejsFunctionProps, 'role' | 'logGroup' | 'memorySize' | 'timeout' | 'tracing' | 'environment' | 'deadLetterQueue' | 'description' | 'currentVersionOptions'>;

/** `lambdas/<name>/handler.ts` as one file of plain JavaScript, on Graviton, with its source map. */
export function bundledFunction(scope: Construct, name: string, common: Common): NodejsFunction {
  return plainFunction(scope, name, { ...common, architecture: Architecture.ARM_64 }, { sourceMap: true });
}

/** `lambdas/<name>/handler.ts` as one file of plain JavaScript. */
export function plainFunction(scope: Construct, name: string, props: Common & Pick<NodejsFunctionProps, 'architecture'>, bundling: BundlingOptions = {}): NodejsFunction {
  const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
  const made = new NodejsFunction(scope, pascal(name), {
    ...props,
    entry: path(`lambdas/${name}/handler.ts`),
    depsLockFilePath: path('package-lock.json'),
    projectRoot: path('.'),
    runtime: Runtime.NODEJS_22_X,
    bundling: {
      ...bundling,
      format: OutputFormat.ESM,
      target: 'node22',
      // The SDK of our lock file, not whichever the runtime has.
      externalModules: [],
      // CommonJS packages in the bundle call require().
      banner: "import { createRequire as bannerRequire } from 'node:module'; const require = bannerRequire(import.meta.url);",
    },
  });
  acknowledge(made, { 'AwsSolutions-L1': 'Node 22 is what the containers run and the tests cover; it is supported until April 2027.' });
  return made;
}
