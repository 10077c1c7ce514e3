import { describe, expect, test } from 'vitest';
import { betas, cumulativeAlphas } from '../../src/generation/schedules.ts';

/** Spec §12.1. */
const table = `
0,0.999958715775,0.999979358,0.00642528014,0.9999,0.999949999,0.01
1,0.999912575927,0.999956287,0.0093500841,0.999780092072,0.99989004,0.0148292929
50,0.991724684612,0.995853747,0.0909687605,0.969951493595,0.984861154,0.17334505
100,0.971575681808,0.985685387,0.168595131,0.895141590898,0.946119227,0.323818482
200,0.897762913484,0.947503516,0.319745346,0.656347005519,0.810152458,0.586219238
300,0.785632412772,0.886359077,0.462998474,0.394011122523,0.627703053,0.778452874
400,0.645988168737,0.803733892,0.594988934,0.193572009667,0.439968192,0.898013358
500,0.492285172449,0.701630367,0.712541106,0.077796658365,0.278920523,0.960314189
999,2.42876690703e-09,4.92825213e-05,0.999999999,4.03582976538e-05,0.00635281809,0.999979821
`.trim().split('\n').map((line) => line.split(',').map(Number));

const scaledLinear: readonly (readonly [number, number])[] = [
  [0, 0.99915], [1, 0.998296027838], [51, 0.950524321873], [101, 0.892980537081], [201, 0.752143401636], [301, 0.58881870415], [401, 0.422881524262],
  [501, 0.27499906685], [601, 0.159816437446], [701, 0.0819167135289], [801, 0.0365465246077], [901, 0.0140048978939], [951, 0.00815500456743], [999, 0.00466009851308],
];

const relative = (actual: number | undefined, expected: number): number => Math.abs(actual! - expected) / Math.abs(expected);

describe('noise schedules (spec §12.1)', () => {
  const cosine = cumulativeAlphas('squaredcos_cap_v2'), linear = cumulativeAlphas('linear');
  test.each(table)('t = %d', (t, cosAlpha, cosSignal, cosNoise, linAlpha, linSignal, linNoise) => {
    for (const [alpha, a, signal, noise] of [[cosine[t!]!, cosAlpha!, cosSignal!, cosNoise!], [linear[t!]!, linAlpha!, linSignal!, linNoise!]] as const) {
      expect(relative(alpha, a)).toBeLessThan(1e-9);
      expect(relative(Math.sqrt(alpha), signal)).toBeLessThan(1e-8);
      expect(relative(Math.sqrt(1 - alpha), noise)).toBeLessThan(1e-8);
    }
  });

  test('closed form of the cosine schedule', () => {
    const f = (u: number): number => Math.cos((u + 0.008) / 1.008 * Math.PI / 2) ** 2;
    for (let t = 0; t < 999; t++) expect(relative(cosine[t], f((t + 1) / 1000) / f(0))).toBeLessThan(1e-9);
  });

  test.each([[0, 4.12842248e-05], [1, 4.61417527e-05], [100, 5.31899156e-04], [200, 1.04929443e-03], [300, 1.62419787e-03], [400, 2.30130124e-03], [998, 0.749999393], [999, 0.999]])(
    'cosine β_%d', (t, beta) => { expect(relative(betas('squaredcos_cap_v2')[t], beta)).toBeLessThan(1e-8); });

  test.each(scaledLinear)('scaled linear ᾱ_%d', (t, alpha) => { expect(relative(cumulativeAlphas('scaled_linear')[t], alpha)).toBeLessThan(1e-9); });

  test.each([[0, 0.00085], [1, 0.000854698655], [51, 0.00110614384], [951, 0.0111686726], [999, 0.012]])(
    'scaled linear β_%d', (t, beta) => { expect(relative(betas('scaled_linear')[t], beta)).toBeLessThan(1e-8); });
});
