import { describe, expect, test } from 'vitest';
import { createSampler } from '../../src/generation/sampler.ts';

type Velocity = (x: number, t: number) => number;
const toy: Velocity = (x, t) => 0.3 * x + Math.sin(t / 1000);

/** States after each call on a scalar, float64. */
function trajectory(name: 'pndm' | 'ddim', velocity: Velocity, steps = 20): number[] {
  const sampler = createSampler(name, { steps });
  let x = Float64Array.of(1);
  return sampler.timesteps.map((t) => { x = sampler.step(Float64Array.of(velocity(x[0]!, t)), t, x); return x[0]!; });
}

const expectStates = (actual: readonly number[], expected: string): void => {
  const values = expected.trim().split(/\s+/).map(Number);
  expect(actual.length).toBe(values.length);
  for (const [i, value] of values.entries()) expect(actual[i]).toBeCloseTo(value, 11);
};

describe('samplers with v-prediction (spec §12.3)', () => {
  test('PNDM timesteps: the second one twice', () => {
    expect(createSampler('pndm', { steps: 20 }).timesteps).toEqual(
      [951, 901, 901, 851, 801, 751, 701, 651, 601, 551, 501, 451, 401, 351, 301, 251, 201, 151, 101, 51, 1]);
  });

  test('PNDM trajectory', () => {
    expectStates(trajectory('pndm', toy), `
      0.968200972806 0.968758936809 0.932469613821 0.891535731845 0.846453580986 0.798009921646 0.747165346329
      0.694994942361 0.642612902083 0.591103756873 0.541463126934 0.494552763657 0.451070546772 0.411533867172
      0.376272682944 0.345426040427 0.318929505425 0.296454452112 0.277084102761 0.253074150012 0.252486859409`);
  });

  test('DDIM trajectory', () => {
    expectStates(trajectory('ddim', toy), `
      0.968200972806 0.931249951810 0.889419405519 0.843249329768 0.793520574751 0.741203872038 0.687392264877
      0.633226641409 0.579823785983 0.528214269207 0.479294464262 0.433793853378 0.392256079387 0.355029857520
      0.322262898637 0.293884524628 0.269531954846 0.248174701893 0.221202084591 0.220368604177`);
  });

  test.each(['pndm', 'ddim'] as const)('%s of a network that predicts zero only rotates (spec §13.6)', (name) => {
    const states = trajectory(name, () => 0);
    expect(states[0]).toBeCloseTo(0.999602631349, 11);
    expect(states.at(-1)).toBeCloseTo(0.936858882999, 11);
  });

  test('PNDM of a constant velocity (spec §13.6)', () => {
    expect(trajectory('pndm', () => 0.5).at(-1)).toBeCloseTo(0.238750569658, 11);
  });

  test('elements do not mix, and float32 stays close to float64', () => {
    const sampler = createSampler('pndm', { steps: 20 });
    let x = Float32Array.of(1, -2, 1);
    for (const t of sampler.timesteps) x = sampler.step(x.map((value) => toy(value, t)), t, x);
    expect(x[0]).toBe(x[2]);
    expect(x[0]).toBeCloseTo(0.252486859409, 5);
    expect(x[1]).not.toBe(x[0]);
  });

  test.each(['pndm', 'ddim'] as const)('%s takes 1, 2, 3 and 999 steps, and refuses 0, 1000 and 2.5', (name) => {
    for (const steps of [1, 2, 3, 999]) {
      const states = trajectory(name, toy, steps);
      expect(states.length).toBe(name === 'pndm' && steps > 1 ? steps + 1 : steps);
      expect(states.every(Number.isFinite)).toBe(true);
    }
    for (const steps of [0, 1000, 2.5]) expect(() => createSampler(name, { steps })).toThrow(/generation\.steps/);
  });
});
