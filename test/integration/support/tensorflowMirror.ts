import { execFile, spawn } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { createGzip } from 'node:zlib';
import { nodeHeaders } from './nodeHeaders.ts';
import { unpackWheel } from './wheels.ts';

const exec = promisify(execFile);
/** What @tensorflow/tfjs-node-gpu of this version is built for (its scripts/deps-constants.js). */
const libtensorflow = '2.9.1';

export interface TensorflowMirror {
  /** Arguments of the Dockerfile: where the package's install script finds libtensorflow and its addon. */
  readonly args: Readonly<Record<string, string>>;
  close(): void;
}

/**
 * Serves what `@tensorflow/tfjs-node-gpu` downloads when it is installed, which lies on a host that cannot be reached from everywhere. libtensorflow
 * for CUDA 11 is taken out of PyPI's package of the same version, whose library also serves Python: names that it wants of Python are there,
 * and stand for nothing. The addon is compiled here.
 */
export async function startTensorflowMirror(version: string): Promise<TensorflowMirror> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-libtensorflow-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const packages = await makePackages(version, folder);
    const server = createServer(({ url }, response) => {
      const packed = packages[url!];
      if (packed === undefined) { response.writeHead(404).end(); return; }
      // Packed while it is sent, and not compressed: it goes no further than this machine.
      const tar = spawn('tar', ['--create', '--directory', path.dirname(packed), path.basename(packed)], { stdio: ['ignore', 'pipe', 'inherit'] });
      tar.stdout.pipe(createGzip({ level: 0 })).pipe(response.writeHead(200));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => { server.once('listening', resolve); });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { args: { TFJS_NODE_BASE_URI: `${url}/libtensorflow-`, npm_config_tfjs_binding_binary_host_mirror: url }, close: () => { server.close(); remove(); } };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Path of a request -> the folder that is answered as a `.tar.gz`. */
async function makePackages(version: string, folder: string): Promise<Readonly<Record<string, string>>> {
  const headers = nodeHeaders();
  if (headers === undefined) throw new Error('the headers of Node (node_api.h), which the addon needs, are not installed');
  const at = (...names: string[]): string => path.join(folder, ...names);
  await unpackWheel('tensorflow', libtensorflow, folder, /^tensorflow\/(?:libtensorflow_framework\.so\.2|python\/_pywrap_tensorflow_internal\.so|include\/tensorflow\/(?:c|core\/platform)\/.*\.h)$/, { tree: true, python: '3.10' });
  mkdirSync(at('lib'));
  const inside = '_pywrap_tensorflow_internal.so';
  linkSync(at('tensorflow', 'python', inside), at('lib', inside));
  linkSync(at('tensorflow', 'libtensorflow_framework.so.2'), at('lib', `libtensorflow_framework.so.${libtensorflow}`));
  for (const name of ['libtensorflow', 'libtensorflow_framework']) {
    symlinkSync(`${name}.so.${libtensorflow}`, at('lib', `${name}.so.2`));
    symlinkSync(`${name}.so.2`, at('lib', `${name}.so`));
  }

  const { stdout } = await exec('nm', ['-D', '--undefined-only', at('lib', inside)], { maxBuffer: 2 ** 26 });
  writeFileSync(at('python.c'), [...stdout.matchAll(/ U (_?Py\w+)$/gm)].map((match) => `char ${match[1]!}[64];\n`).join(''));
  writeFileSync(at('empty.c'), '');
  const shared = ['-shared', '-fPIC', '-Wl,--no-as-needed', '-Wl,--allow-shlib-undefined'];
  await exec('gcc', [...shared, '-Wl,-soname,libnopython.so', '-o', at('lib', 'libnopython.so'), at('python.c')]);
  await exec('gcc', [...shared, '-Wl,-soname,libtensorflow.so.2', '-Wl,-rpath,$ORIGIN', '-o', at('lib', `libtensorflow.so.${libtensorflow}`), at('empty.c'), ...['libnopython.so', inside, 'libtensorflow_framework.so.2'].map((name) => at('lib', name))]);

  await exec('npm', ['pack', '--silent', `@tensorflow/tfjs-node-gpu@${version}`], { cwd: folder });
  await exec('tar', ['--extract', '--file', `tensorflow-tfjs-node-gpu-${version}.tgz`, 'package/binding'], { cwd: folder });
  await exec('g++', [
    ...shared, '-O1', '-std=c++17', '-DNAPI_VERSION=8', `-I${headers}`, `-I${at('tensorflow', 'include')}`, ...['backend', 'binding'].map((name) => at('package', 'binding', `tfjs_${name}.cc`)),
    '-o', at('tfjs_binding.node'), `-L${at('lib')}`, '-ltensorflow', '-ltensorflow_framework', '-Wl,-rpath,$ORIGIN/../../deps/lib',
  ]);
  mkdirSync(at('napi-v8'));
  renameSync(at('tfjs_binding.node'), at('napi-v8', 'tfjs_binding.node'));
  return { [`/libtensorflow-gpu-linux-x86_64-${libtensorflow}.tar.gz`]: at('lib'), [`/napi-v8/${version}/GPU-linux-${version}.tar.gz`]: at('napi-v8') };
}
