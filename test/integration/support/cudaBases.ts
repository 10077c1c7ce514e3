import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Docker } from './docker.ts';
import { unpackWheel } from './wheels.ts';

/** A release of CUDA with cuDNN as NVIDIA's images `cudnn-runtime` have it, from the same libraries on PyPI. */
export interface CudaRelease {
  readonly version: string;
  /** Package -> version. */
  readonly cuda: Readonly<Record<string, string>>;
  readonly cudnn: Readonly<Record<string, string>>;
}

/** Of the Dockerfile's CUDA_BASE. */
export const cuda13: CudaRelease = {
  version: '13.0',
  cuda: { 'nvidia-cublas': '13.1.0.3', 'nvidia-cuda-runtime': '13.0.96', 'nvidia-cufft': '12.0.0.61', 'nvidia-curand': '10.4.0.35', 'nvidia-cuda-nvrtc': '13.0.88', 'nvidia-nvjitlink': '13.0.88' },
  cudnn: { 'nvidia-cudnn-cu13': '9.14.0.64' },
};

/** Of the Dockerfile's TENSORFLOW_CUDA_BASE. */
export const cuda11: CudaRelease = {
  version: '11.8',
  cuda: { 'nvidia-cublas-cu11': '11.11.3.6', 'nvidia-cuda-runtime-cu11': '11.8.89', 'nvidia-cufft-cu11': '10.9.0.58', 'nvidia-cusolver-cu11': '11.4.1.48', 'nvidia-cusparse-cu11': '11.7.5.86' },
  cudnn: { 'nvidia-cudnn-cu11': '8.9.6.50' },
};

/**
 * Makes the base image `<prefix>-cuda-<version>`, or takes that of GENVIEW_TEST_BASES: Debian, and the libraries where NVIDIA's image has them.
 * Needs the image `debian`, some gigabytes of PyPI and three times that of disk.
 */
export async function makeCudaBase(docker: Docker, debian: string, release: CudaRelease, prefix: string): Promise<string> {
  const kept = process.env['GENVIEW_TEST_BASES'], tag = `${kept || prefix}-cuda-${release.version}`;
  if (kept) return tag;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-cuda-'));
  const toolkit = `/usr/local/cuda-${release.version}`, libraries = `${toolkit}/targets/x86_64-linux/lib`;
  try {
    for (const part of ['cuda', 'cudnn'] as const) {
      for (const [name, version] of Object.entries(release[part])) await unpackVersioned(name, version, path.join(folder, part));
    }
    writeFileSync(path.join(folder, 'Dockerfile'), `FROM ${debian}
COPY cuda ${libraries}
COPY cudnn /usr/lib/x86_64-linux-gnu
RUN ln -s targets/x86_64-linux/lib ${toolkit}/lib64 && ln -s ${toolkit} /usr/local/cuda && echo /usr/local/cuda/targets/x86_64-linux/lib >/etc/ld.so.conf.d/000_cuda.conf && ldconfig
ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64
`);
    await docker.run(['build', '--quiet', '--network', 'none', '--tag', tag, folder]);
    return tag;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A wheel has `libx.so.13` alone; a system has it as a link to the file with the whole version. */
async function unpackVersioned(name: string, version: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const before = new Set(readdirSync(folder));
  await unpackWheel(name, version, folder, /\/lib\/lib[^/]+\.so\.[^/]+$/);
  for (const file of readdirSync(folder)) {
    const whole = `${file.slice(0, file.indexOf('.so') + 3)}.${version}`;
    if (before.has(file) || file === whole) continue;
    renameSync(path.join(folder, file), path.join(folder, whole));
    symlinkSync(whole, path.join(folder, file));
  }
}

/**
 * The image of `makeBases` that installs packages, with this machine's network: its certificates and what its apt is told about fetching.
 * Registries stay those of npm and apt. Builds have to be given the host's network.
 */
export async function makeOnlineBase(docker: Docker, build: string, tag: string): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'genview-online-'));
  try {
    const certificates = process.env['SSL_CERT_FILE'] ?? '/etc/ssl/certs/ca-certificates.crt', found = existsSync(certificates);
    if (found) cpSync(certificates, path.join(folder, 'certificates.crt'), { dereference: true });
    writeFileSync(path.join(folder, 'fetching.conf'), await promisify(execFile)('apt-config', ['dump', 'Acquire']).then(({ stdout }) => stdout, () => ''));
    const variables = { npm_config_offline: 'false', npm_config_prefer_offline: 'true', ...(found && { CURL_CA_BUNDLE: '/certificates.crt', NODE_EXTRA_CA_CERTS: '/certificates.crt' }) };
    writeFileSync(path.join(folder, 'Dockerfile'), `FROM ${build}
COPY fetching.conf /etc/apt/apt.conf.d/99fetching
${found ? 'COPY certificates.crt /certificates.crt\n' : ''}ENV ${Object.entries(variables).map(([name, value]) => `${name}=${value}`).join(' ')}
`);
    await docker.run(['build', '--quiet', '--network', 'none', '--tag', tag, folder]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
