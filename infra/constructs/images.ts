import { IgnoreMode } from 'aws-cdk-lib';
import { Platform, type DockerImageAssetProps } from 'aws-cdk-lib/aws-ecr-assets';
import { fileURLToPath } from 'node:url';
import type { Options } from '../options.ts';

/** What all images are built from; each adds its target of the Dockerfile. */
export const imageContext = {
  directory: fileURLToPath(new URL('../..', import.meta.url)),
  file: 'containers/Dockerfile',
  platform: Platform.LINUX_AMD64,
  // Only what the Dockerfile copies: anything else would change the image's hash and upload it again.
  ignoreMode: IgnoreMode.DOCKER,
  exclude: ['*', '!package.json', '!package-lock.json', '!.npmrc', '!tsconfig.json', '!src', '!models', '!containers', '!lambdas'],
} satisfies DockerImageAssetProps;

/** Build arguments of an image for machines with or without a GPU. @param given those of the deployment's options */
export function imageArguments(gpus: number, given: Options['buildArguments'] = {}): Record<string, string> {
  return { DEVICE: gpus > 0 ? 'cuda' : 'cpu', ...given };
}

/** `fit-foreground` -> `FitForeground` */
export function pascal(name: string): string {
  return name.replace(/(^|-)([a-z])/g, (_, _dash, letter: string) => letter.toUpperCase());
}
