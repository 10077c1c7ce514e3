import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { builtinModels } from '../demo/modelFiles.ts';
import { decodeSafetensors } from '../nn/safetensors.ts';

export interface BuiltinModel {
  /** As recipes name it. */
  readonly name: string;
  readonly file: string;
  /** Null when the weights are missing. */
  readonly bytes: number | null;
  readonly parameters: number | null;
  readonly sha256: string | null;
}

/** The embedded models; the last file of each is its own, the others are models that it builds on. */
export function listBuiltinModels(): Promise<BuiltinModel[]> {
  return Promise.all(Object.entries(builtinModels).map(async ([name, files]) => {
    const file = files.at(-1)!;
    const bytes = await readFile(file).catch(() => undefined);
    if (!bytes) return { name, file, bytes: null, parameters: null, sha256: null };
    const { tensors } = decodeSafetensors(bytes, file);
    const parameters = Object.values(tensors).reduce((sum, tensor) => sum + tensor.data.length, 0);
    return { name, file, bytes: bytes.length, parameters, sha256: createHash('sha256').update(bytes).digest('hex') };
  }));
}
