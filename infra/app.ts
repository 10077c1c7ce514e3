import { App } from 'aws-cdk-lib';
import { GenViewError } from '../src/errors.ts';
import { createTarget } from './stacks.ts';

try {
  const app = new App();
  createTarget(app);
  app.synth();
} catch (error) {
  if (!(error instanceof GenViewError)) throw error;
  console.error(`genview: ${error.message}`);
  process.exitCode = error.exitCode;
}
