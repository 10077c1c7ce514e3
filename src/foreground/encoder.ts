import '../runtime/telemetry.ts';
import * as ort from 'onnxruntime-node';
import { GenViewError } from '../errors.ts';
import type { EncoderRecipe } from '../recipe/recipe.ts';
import { currentDevice } from '../runtime/device.ts';
import { sessionOptions } from '../runtime/onnxruntime.ts';
import { splitUrl } from '../storage/index.ts';
import { float32, type HostTensor } from '../tensor.ts';

/** A frozen image network that gives spatial tokens and one embedding. */
export interface Encoder {
  /** Side s of the square input in pixels. */
  readonly imageSize: number;
  /** Token grid [rows, columns]. */
  readonly grid: readonly [number, number];
  /** Channels of a token. */
  readonly channels: number;
  /**
   * @param pixels [n, 3, s, s] RGB in [0, 1]; the network normalises channels itself
   * @returns tokens [n, c, h, w] and embedding [n, d]
   */
  encode(pixels: HostTensor<'float32'>): Promise<{ tokens: HostTensor<'float32'>; embedding: HostTensor<'float32'> }>;
  dispose(): Promise<void>;
}

/** Bytes of the network that `foreground.encoder.model` names. Throws `ModelNotFound`. */
export async function modelBytes(model: string): Promise<Uint8Array> {
  if (model === 'builtin:demo-encoder') {
    const { demoEncoderOnnx } = await import('../demo/models.ts');
    return demoEncoderOnnx();
  }
  if (model.startsWith('builtin:')) {
    throw new GenViewError('ModelNotFound', `foreground.encoder.model: there is no ${model}; the built-in encoder is builtin:demo-encoder`);
  }
  const { store, key } = splitUrl(model);
  try {
    return await store.get(key);
  } catch (error) {
    if (error instanceof GenViewError && error.code === 'ObjectNotFound') {
      throw new GenViewError('ModelNotFound', `foreground.encoder.model: there is no file ${model}`, { cause: error });
    }
    throw error;
  }
}

/**
 * Opens an encoder in onnxruntime and runs it once on black pixels, so that a network of the wrong kind is refused here. Throws `ModelNotFound`,
 * and `EncoderInvalid` for a file that is no ONNX network, or whose inputs and outputs are not those of EncoderRecipe.
 * @param options.threads of the engine
 * @param options.batch images of every call of the network, fewer are filled up with black ones: an image's tokens then do not depend, to
 *   the last bit, on how many images are encoded with it. A network's own static batch goes before. @default as many as are given
 */
export async function openEncoder(recipe: EncoderRecipe, options: { readonly threads: number; readonly batch?: number }): Promise<Encoder> {
  const bytes = await modelBytes(recipe.model);
  const invalid = (what: string, cause?: unknown): GenViewError =>
    new GenViewError('EncoderInvalid', `foreground.encoder.model ${recipe.model}: ${what}`, { cause });

  const { device } = await currentDevice();
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(bytes, sessionOptions(options.threads, device));
  } catch (error) {
    throw invalid(`onnxruntime cannot load it (${firstLine(error)}); expected an .onnx file`, error);
  }

  try {
    const { imageSize } = recipe;
    const staticBatch = checkInterface(session, imageSize, invalid);
    const batch = staticBatch ?? options.batch;

    const run = async (pixels: HostTensor<'float32'>): Promise<{ tokens: HostTensor<'float32'>; embedding: HostTensor<'float32'> }> => {
      const results = await session.run({ pixels: new ort.Tensor('float32', pixels.data, pixels.shape) }, ['tokens', 'embedding']);
      const [tokens, embedding] = [results['tokens']!, results['embedding']!].map((tensor) => float32(tensor.data as Float32Array, tensor.dims));
      return { tokens: tokens!, embedding: embedding! };
    };

    const probeImages = staticBatch ?? 1;
    const probe = await run(float32(new Float32Array(probeImages * 3 * imageSize ** 2), [probeImages, 3, imageSize, imageSize])).catch((error: unknown) => {
      throw invalid(`it does not run on [${probeImages}, 3, ${imageSize}, ${imageSize}] pixels (${firstLine(error)}); check foreground.encoder.imageSize`, error);
    });
    const shapes = { tokens: probe.tokens.shape, embedding: probe.embedding.shape };
    if (shapes.tokens.length !== 4 || shapes.tokens[0] !== probeImages) throw invalid(`output \`tokens\` has shape [${shapes.tokens.join(', ')}]; expected [n, c, h, w] with n = ${probeImages}`);
    if (shapes.embedding.length !== 2 || shapes.embedding[0] !== probeImages) throw invalid(`output \`embedding\` has shape [${shapes.embedding.join(', ')}]; expected [n, d] with n = ${probeImages}`);
    const [, channels, rows, columns] = shapes.tokens as [number, number, number, number];

    return {
      imageSize, channels, grid: [rows, columns],
      async encode(pixels) {
        const [n, three, height, width] = pixels.shape;
        if (pixels.shape.length !== 4 || n === undefined || three !== 3 || height !== imageSize || width !== imageSize) {
          throw new RangeError(`pixels must be [n, 3, ${imageSize}, ${imageSize}], not [${pixels.shape.join(', ')}]`);
        }
        if (batch === undefined || n === batch) return run(pixels);
        return encodeInBatches(pixels, batch, run);
      },
      async dispose() { await session.release(); },
    };
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** Checks names, types and what is static of the shapes. Returns the network's batch where that is static. */
function checkInterface(session: ort.InferenceSession, imageSize: number, invalid: (what: string) => GenViewError): number | undefined {
  if (session.inputNames.length !== 1 || session.inputNames[0] !== 'pixels') {
    throw invalid(`its inputs are ${quoted(session.inputNames)}; expected one input, \`pixels\` [n, 3, h, w]`);
  }
  for (const name of ['tokens', 'embedding']) {
    if (!session.outputNames.includes(name)) throw invalid(`its outputs are ${quoted(session.outputNames)}; \`${name}\` is missing (expected \`tokens\` [n, c, h, w] and \`embedding\` [n, d])`);
  }
  for (const metadata of [...session.inputMetadata, ...session.outputMetadata.filter(({ name }) => name === 'tokens' || name === 'embedding')]) {
    if (!metadata.isTensor || metadata.type !== 'float32') throw invalid(`\`${metadata.name}\` is not a float32 tensor`);
  }
  const input = session.inputMetadata[0]!;
  const shape = input.isTensor ? input.shape : [];
  const [batch, ...rest] = shape;
  if (shape.length !== 4 || rest.some((size, axis) => typeof size === 'number' && size > 0 && size !== [3, imageSize, imageSize][axis])) {
    throw invalid(`input \`pixels\` has shape [${shape.join(', ')}], which does not take [n, 3, ${imageSize}, ${imageSize}]; check foreground.encoder.imageSize`);
  }
  return typeof batch === 'number' && batch > 0 ? batch : undefined;
}

/** Whole batches, the last one filled up with black images. */
async function encodeInBatches(
  pixels: HostTensor<'float32'>, batch: number, run: (pixels: HostTensor<'float32'>) => Promise<{ tokens: HostTensor<'float32'>; embedding: HostTensor<'float32'> }>,
): Promise<{ tokens: HostTensor<'float32'>; embedding: HostTensor<'float32'> }> {
  const n = pixels.shape[0]!, size = pixels.data.length / n;
  const parts: { tokens: HostTensor<'float32'>; embedding: HostTensor<'float32'> }[] = [];
  for (let start = 0; start < n; start += batch) {
    const filled = new Float32Array(batch * size);
    filled.set(pixels.data.subarray(start * size, Math.min(start + batch, n) * size));
    parts.push(await run(float32(filled, [batch, ...pixels.shape.slice(1)])));
  }
  const join = (name: 'tokens' | 'embedding'): HostTensor<'float32'> => {
    const rest = parts[0]![name].shape.slice(1);
    const row = rest.reduce((product, d) => product * d, 1);
    const data = new Float32Array(n * row);
    for (const [i, part] of parts.entries()) data.set(part[name].data.subarray(0, Math.min(batch, n - i * batch) * row), i * batch * row);
    return float32(data, [n, ...rest]);
  };
  return { tokens: join('tokens'), embedding: join('embedding') };
}

function quoted(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.map((name) => `\`${name}\``).join(', ');
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0]!.slice(0, 300);
}
