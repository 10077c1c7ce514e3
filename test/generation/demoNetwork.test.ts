import { expect, test } from 'vitest';
import { compileDemoUNet, demoUNetConfig } from '../../src/demo/models.ts';
import { initialize } from '../../src/nn/module.ts';
import { unet } from '../../src/nn/unet.ts';
import { Random } from '../../src/random.ts';
import { float32 } from '../../src/tensor.ts';

test('the embedded U-Net gives a sample the same bits in any place of the batch, in any company, on any number of threads', async () => {
  const weights = initialize(unet(demoUNetConfig), 'weights');
  const random = new Random('zeros');
  // Layers that start at zero would hide what comes before them.
  for (const { data } of Object.values(weights)) for (let i = 0; i < data.length; i++) if (data[i] === 0) data[i] = 0.05 * random.normal();

  const batch = 4, pixels = 3 * 32 * 32, labels = demoUNetConfig.classLabels;
  const rows = Array.from({ length: batch }, (_, i) => ({ sample: new Random('sample', i).normals(pixels), label: new Random('label', i).normals(labels) }));
  const results: Float32Array[] = [];
  for (const threads of [1, 2]) {
    const network = await compileDemoUNet(weights, batch, threads);
    for (const order of [[0, 1, 2, 3], [3, 2, 1, 0], [2]]) {
      const sample = new Float32Array(batch * pixels), classLabels = new Float32Array(batch * labels);
      for (const [place, i] of order.entries()) { sample.set(rows[i]!.sample, place * pixels); classLabels.set(rows[i]!.label, place * labels); }
      const { velocity } = await network.run({
        sample: float32(sample, [batch, 3, 32, 32]), timestep: float32(new Float32Array(batch).fill(501), [batch]), classLabels: float32(classLabels, [batch, labels]),
      });
      const place = order.indexOf(2);
      results.push((velocity!.data as Float32Array).slice(place * pixels, (place + 1) * pixels));
    }
    await network.dispose();
  }
  expect(results[0]!.some((value) => value !== 0)).toBe(true);
  for (const result of results) expect(Buffer.from(result.buffer).equals(Buffer.from(results[0]!.buffer))).toBe(true);
});
