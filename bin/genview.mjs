#!/usr/bin/env node
// The sources run as they are: tsx strips the types while Node loads them.
import { register } from 'tsx/esm/api';

register();
const { main } = await import('../src/cli/main.ts');
await main(process.argv);
