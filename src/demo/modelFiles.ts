import { fileURLToPath } from 'node:url';

const file = (name: string): string => fileURLToPath(new URL(`../../models/demo/${name}.safetensors`, import.meta.url));

/** Weights of the embedded models. */
export const demoModelFiles = { encoder: file('encoder'), unclip: file('unclip') };

/** The embedded models by the names that recipes use: the files that each depends on, its own last. The generator conditions on the encoder's embedding. */
export const builtinModels: Readonly<Record<string, readonly string[]>> = {
  'builtin:demo-encoder': [demoModelFiles.encoder],
  'builtin:demo-unclip': [demoModelFiles.encoder, demoModelFiles.unclip],
};
