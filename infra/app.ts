import { App } from 'aws-cdk-lib';
import { createTarget } from './stacks.ts';

const app = new App();
createTarget(app);
app.synth();
