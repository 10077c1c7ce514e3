import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** A Python that imports `modules`, or why there is none. */
export type Python = { readonly python: string } | { readonly missing: string };

/**
 * The Python of GENVIEW_TEST_PYTHON when that is set; else a virtual environment with `packages` (name -> version on PyPI, the
 * names being those of the modules), made once and kept.
 */
export function pythonWith(packages: Readonly<Record<string, string>>): Python {
  const first = (error: unknown): string => String((error as Error).message).split('\n')[0]!;
  const imports = ['-c', `import ${Object.keys(packages).join(', ')}`];
  const given = process.env['GENVIEW_TEST_PYTHON'];
  if (given) {
    try { execFileSync(given, imports, { stdio: 'pipe' }); } catch (error) { return { missing: `GENVIEW_TEST_PYTHON does not import ${Object.keys(packages).join(', ')}: ${first(error)}` }; }
    return { python: given };
  }
  const wanted = Object.entries(packages).map(([name, version]) => `${name}==${version}`);
  const environment = path.join(os.tmpdir(), `genview-python-${wanted.join('-').replaceAll('==', '-')}`), python = path.join(environment, 'bin', 'python');
  try {
    if (!existsSync(path.join(environment, 'complete'))) {
      execFileSync('python3', ['-m', 'venv', environment], { stdio: 'pipe' });
      execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...wanted], { stdio: 'pipe', timeout: 600_000 });
      execFileSync(python, imports, { stdio: 'pipe' });
      writeFileSync(path.join(environment, 'complete'), '');
    }
    return { python };
  } catch (error) {
    return { missing: `Python with ${wanted.join(' and ')} from PyPI cannot be had here: ${first(error)}` };
  }
}
