import { Duration } from 'aws-cdk-lib';
import { ManagedPolicy, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Runtime, type IFunction } from 'aws-cdk-lib/aws-lambda';
import { NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { fileURLToPath } from 'node:url';
import { lambdaNames, lambdaStages, type LambdaName } from '../../src/workflow/stages.ts';
import { pascal } from './jobs.ts';
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
    this.functions = Object.fromEntries(lambdaNames.map((name) => {
      const stage = lambdaStages[name];
      return [name, new NodejsFunction(this, pascal(name), {
        entry: path(`lambdas/${name}/handler.ts`),
        depsLockFilePath: path('package-lock.json'),
        projectRoot: path('.'),
        runtime: Runtime.NODEJS_22_X,
        memorySize: stage.memoryMiB,
        timeout: Duration.seconds(stage.timeoutSeconds),
        role,
        logGroup: props.logGroup,
        environment: { GENVIEW_LOG: 'json', NODE_OPTIONS: '--enable-source-maps' },
        bundling: {
          format: OutputFormat.ESM,
          target: 'node22',
          sourceMap: true,
          // The SDK of our lock file, not whichever the runtime has.
          externalModules: [],
          nodeModules: [...stage.nativePackages],
          // CommonJS packages in the bundle call require().
          banner: "import { createRequire as bannerRequire } from 'node:module'; const require = bannerRequire(import.meta.url);",
        },
      })];
    })) as unknown as Record<LambdaName, IFunction>;
  }
}
