import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { toPixels } from '../../src/dataset/image.ts';
import { timeEmbedding } from '../../src/generation/embedding.ts';
import type { UnclipModel } from '../../src/generation/model.ts';
import { float32 } from '../../src/tensor.ts';

const embeddingSize = 8;
/** Of latents and of the images that are embedded; views are twice as large. */
export const side = 8;

/** The untrained networks of make_unclip.py. */
export async function openNetworks(batch: number, threads = 1): Promise<UnclipModel> {
  const open = (name: string) => ort.InferenceSession.create(fileURLToPath(new URL(`../fixtures/generation/${name}.onnx`, import.meta.url)), { intraOpNumThreads: threads, logSeverityLevel: 3 });
  const [embed, predict, decode] = await Promise.all([open('embed'), open('predict'), open('decode')]);
  const tensor = (data: Float32Array, ...shape: number[]) => new ort.Tensor('float32', data, shape);
  return {
    sampleShape: [3, side, side], embeddingSize, betas: 'scaled_linear', imageSize: 2 * side, embedSize: side, batch,
    normalizer: { mean: new Float32Array(embeddingSize), std: new Float32Array(embeddingSize).fill(1) },
    async embed(images) {
      if (images.length !== batch) throw new RangeError(`${images.length} images, expected ${batch}`);
      const { embedding } = await embed.run({ pixels: tensor(toPixels([...images]).data, batch, 3, side, side) });
      return float32(embedding!.data as Float32Array, embedding!.dims);
    },
    async predict(sample, timestep, classLabels, n) {
      if (n !== batch) throw new RangeError(`${n} rows, expected ${batch}`);
      const time = new Float32Array(n * embeddingSize);
      for (let i = 0; i < n; i++) time.set(timeEmbedding(timestep, embeddingSize), i * embeddingSize);
      const { velocity } = await predict.run({ sample: tensor(sample, n, 3, side, side), labels: tensor(classLabels, n, 2 * embeddingSize), time: tensor(time, n, embeddingSize) });
      return velocity!.data as Float32Array;
    },
    async decode(sample, n) {
      if (n !== batch) throw new RangeError(`${n} rows, expected ${batch}`);
      const { pixels } = await decode.run({ sample: tensor(sample, n, 3, side, side) });
      const area = 4 * side * side, values = pixels!.data as Float32Array;
      return Array.from({ length: n }, (_, i) => ({
        width: 2 * side, height: 2 * side,
        data: Uint8Array.from({ length: 3 * area }, (__, k) => Math.round(255 * values[(i * 3 + k % 3) * area + Math.floor(k / 3)]!)),
      }));
    },
    async dispose() { await Promise.all([embed, predict, decode].map((session) => session.release())); },
  };
}
