import { mkdir, readdir, rename, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { GenViewError } from '../errors.ts';

/**
 * A folder that is filled with many small files, resumably: files that are there stay, each new one gets its name when
 * it is whole, and nothing waits for the disk.
 */
export class ImageFolderWriter {
  readonly #folder: string;
  readonly #present = new Map<string, Promise<Set<string>>>();

  constructor(folder: string) { this.#folder = path.resolve(folder); }

  /** Whether the file is there already. `parent` is relative to the folder. */
  async has(parent: string, name: string): Promise<boolean> {
    return (await this.#names(parent)).has(name);
  }

  async write(parent: string, name: string, bytes: Uint8Array): Promise<void> {
    const names = await this.#names(parent);
    const target = path.join(this.#folder, parent, name);
    const temporary = path.join(this.#folder, parent, `.genview-${process.pid}-${name.slice(0, 100)}.tmp`);
    try {
      await writeFile(temporary, bytes);
      await rename(temporary, target);
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw unwritable(target, error);
    }
    names.add(name);
  }

  #names(parent: string): Promise<Set<string>> {
    let names = this.#present.get(parent);
    if (!names) this.#present.set(parent, names = this.#open(path.join(this.#folder, parent)));
    return names;
  }

  async #open(folder: string): Promise<Set<string>> {
    try {
      await mkdir(folder, { recursive: true });
      return new Set(await readdir(folder));
    } catch (error) { throw unwritable(folder, error); }
  }
}

function unwritable(file: string, cause: unknown): unknown {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === undefined) return cause;
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new GenViewError('DiskFull', `${file} was not written: no space left on the disk; free some space and run the same command again`, { cause })
    : new GenViewError('StoreUnwritable', `${file} cannot be written (${code}); choose a folder that this user may write to`, { cause });
}
