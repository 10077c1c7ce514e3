import { createHash, randomUUID } from 'node:crypto';
import { open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { externalAlignment, type External, type ExternalConstant, type Model } from '../compiler/emit.ts';

/** One call of write() moves at most 2 GiB (Linux); a tensor may be larger. */
const chunk = 2 ** 28;

/** Writes the constants of a model, each at its place. */
export async function writeExternal(file: string, parts: readonly ExternalConstant[]): Promise<void> {
  const handle = await open(file, 'w');
  try {
    let offset = 0;
    for (const { data: part } of parts) {
      for (let at = 0; at < part.byteLength; at += chunk) {
        const piece = part.subarray(at, at + chunk);
        for (let done = 0; done < piece.byteLength;) done += (await handle.write(piece, done, piece.byteLength - done, offset + at + done)).bytesWritten;
      }
      offset += Math.ceil(part.byteLength / externalAlignment) * externalAlignment;
    }
    // Up to the end of the last tensor's page, so that all of it can be mapped.
    await handle.truncate(offset);
  } finally {
    await handle.close();
  }
}

/**
 * Writes a model as `<name>.onnx` and, when it has constants outside, `<name>.<hash>.data` beside it. After a crash the old
 * model or the new one is there, whole: the file of constants is named by its contents, and renaming the model is what makes it the current one.
 * The former constants are then removed, so one process at a time may save or open a name.
 * @param emitWith writes the model for a file of constants of that name
 */
export async function saveModel(file: string, emitWith: (external: External) => Model, above: number): Promise<void> {
  const folder = path.dirname(file), base = path.basename(file, '.onnx');
  const temporary = (name: string): string => path.join(folder, `.${name}.${randomUUID().slice(0, 8)}.part`);
  let model = emitWith({ location: '', above });
  let constants: string | undefined;
  const part = temporary(base);
  try {
    if (model.external) {
      const hash = createHash('sha256');
      for (const { data } of model.external) hash.update(data);
      constants = `${base}.${hash.digest('hex').slice(0, 12)}.data`;
      model = emitWith({ location: constants, above });
      const written = temporary(constants);
      try {
        await writeExternal(written, model.external!);
        await rename(written, path.join(folder, constants));
      } finally {
        await rm(written, { force: true });
      }
    }
    await writeFile(part, model.bytes);
    await rename(part, file);
  } finally {
    await rm(part, { force: true });
  }
  const former = (await readdir(folder)).filter((name) => name !== constants && name.startsWith(`${base}.`) && /^[0-9a-f]{12}\.data$/.test(name.slice(base.length + 1)));
  for (const name of former) await rm(path.join(folder, name), { force: true });
}
