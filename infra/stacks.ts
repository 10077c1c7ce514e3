import type { App } from 'aws-cdk-lib';
import { StatefulStack } from './stateful-stack.ts';
import { StatelessStack } from './stateless-stack.ts';

/**
 * Both stacks of the application, for the account and region that the CDK command line is used with: without an
 * explicit environment, synthesis needs neither credentials nor a network.
 */
export function createStacks(app: App): { stateful: StatefulStack; stateless: StatelessStack } {
  const stateful = new StatefulStack(app, 'GenViewData', { description: 'GenView: what must outlive a deployment (bucket, logs).' });
  const stateless = new StatelessStack(app, 'GenViewWorkflow', { description: 'GenView: workflow, functions and compute; can be deleted and deployed again.', bucket: stateful.bucket, logGroup: stateful.logGroup });
  return { stateful, stateless };
}
