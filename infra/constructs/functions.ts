import { Duration } from 'aws-cdk-lib';
import { ManagedPolicy, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, DockerImageCode, DockerImageFunction, Runtime, type IFunction } from 'aws-cdk-lib/aws-lambda';
import { NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { fileURLToPath } from 'node:url';
import { lambdaNames, lambdaStages, type LambdaName } from '../../src/workflow/stages.ts';
import { imageContext, pascal } from './images.ts';
import { storeAccess } from './store-access.ts';

export interface FunctionsProps {
  readonly bucket: IBucket;
  readonly logGroup: ILogGroup;
}

/** One function for each Lambda stage of the stage table. */
export class Functions extends Construct {
  readonly functions: Readonly<Record<LambdaName, IFunction>>;

  constructor(scope: Construct, id: string, props: FunctionsProps) {
    super(scope, id);
    const role = new Role(this, 'Role', {
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
      description: 'GenView functions: the store and their log.',
      managedPolicies: [ManagedPolicy.fromAwsManagedPolicyName('service-role/AWSLambdaBasicExecutionRole')],
    });
    for (const statement of storeAccess(props.bucket)) role.addToPolicy(statement);
    const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
    const imageFunction = (name: LambdaName): IFunction => new DockerImageFunction(this, pascal(name), {
      ...common(name),
      architecture: Architecture.X86_64,
      code: DockerImageCode.fromImageAsset(imageContext.directory, { ...imageContext, target: 'functions', cmd: [`lambdas/${name}/handler.handler`] }),
    });
    const bundledFunction = (name: LambdaName): IFunction => new NodejsFunction(this, pascal(name), {
      ...common(name),
      entry: path(`lambdas/${name}/handler.ts`),
      depsLockFilePath: path('package-lock.json'),
      projectRoot: path('.'),
      runtime: Runtime.NODEJS_22_X,
      bundling: {
        format: OutputFormat.ESM,
        target: 'node22',
        sourceMap: true,
        // The SDK of our lock file, not whichever the runtime has.
        externalModules: [],
        // CommonJS packages in the bundle call require().
        banner: "import { createRequire as bannerRequire } from 'node:module'; const require = bannerRequire(import.meta.url);",
      },
    });
    const common = (name: LambdaName) => ({
      memorySize: lambdaStages[name].memoryMiB,
      timeout: Duration.seconds(lambdaStages[name].timeoutSeconds),
      role,
      logGroup: props.logGroup,
      environment: { GENVIEW_LOG: 'json', NODE_OPTIONS: '--enable-source-maps' },
    });
    this.functions = Object.fromEntries(lambdaNames.map((name) =>
      [name, lambdaStages[name].packaging === 'image' ? imageFunction(name) : bundledFunction(name)])) as Record<LambdaName, IFunction>;
  }
}
