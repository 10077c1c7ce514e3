import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { batchStages, programNames } from '../../src/workflow/stages.ts';

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
const instructions = read('containers/Dockerfile').replaceAll(/^#.*\n/gm, '').replaceAll('\\\n', ' ').split('\n').filter(Boolean);
const values = (keyword: string): string[] => instructions.filter((line) => line.startsWith(`${keyword} `)).map((line) => line.slice(keyword.length + 1));
const args = Object.fromEntries(values('ARG').map((text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]));
const stages = values('FROM').map((text) => /^(\S+) AS (\S+)$/.exec(text)?.slice(1) as [string, string]);
const packageFile = JSON.parse(read('package.json')) as { dependencies: Record<string, string>; peerDependencies: Record<string, string> };

describe('the Dockerfile', () => {
  it('has a target for every image, and for the functions', () => {
    const targets = stages.map(([, name]) => name);
    for (const image of new Set(programNames.map((name) => batchStages[name].image))) {
      expect(targets).toContain(image);
      expect(values('ENTRYPOINT')).toContain(`["node", "containers/${image}/main.mjs"]`);
    }
    expect(targets).toContain('functions');
  });

  it('starts from bases that are arguments with a version of three numbers at least or a digest, or from its own stages', () => {
    const known = new Set<string>();
    for (const [base, name] of stages) {
      const argument = /^\$\{(\w+)\}$/.exec(base)?.[1];
      if (argument !== undefined) expect(args[argument]?.replace('${BASE}', args['BASE']!), name).toMatch(/^[a-z0-9./-]+(:\d+\.\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$/);
      else if (base.endsWith('-${DEVICE}')) for (const device of ['cpu', 'cuda']) expect(known).toContain(base.replace('${DEVICE}', device));
      else expect(known).toContain(base);
      known.add(name);
    }
  });

  it('takes the CUDA provider of the very version of onnxruntime-node, with its checksum, and the peer that package.json names', () => {
    expect(args['ONNXRUNTIME_CUDA_URL']).toContain(`/onnxruntime_gpu-${packageFile.dependencies['onnxruntime-node']}-`);
    expect(args['ONNXRUNTIME_CUDA_SHA256']).toMatch(/^[0-9a-f]{64}$/);
    expect(args['TFJS_NODE_GPU']).toBe(packageFile.peerDependencies['@tensorflow/tfjs-node-gpu']);
  });

  it('copies what its list of ignored files lets through, and no more is let through', () => {
    const allowed = read('containers/Dockerfile.dockerignore').trim().split('\n').slice(1).map((line) => line.slice(1));
    const copied = values('COPY').filter((text) => !text.startsWith('--from')).flatMap((text) => text.split(' ').slice(0, -1)).map((name) => name.split('/')[0]!);
    expect([...new Set(copied)].toSorted()).toEqual(allowed.toSorted());
    for (const name of allowed) expect(existsSync(new URL(`../../${name}`, import.meta.url)), name).toBe(true);
  });

  it('lets onnxruntime report to nobody', () => {
    const ends = values('ENV').filter((text) => text.includes('NODE_ENV=production'));
    expect(ends).toHaveLength(2);
    for (const text of ends) expect(text).toContain('ORT_DISABLE_TELEMETRY=1');
  });

  it('ends as no root', () => {
    expect(values('USER')).toEqual(['1000:1000']);
  });
});
