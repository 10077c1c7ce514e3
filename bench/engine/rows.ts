import * as tf from '@tensorflow/tfjs';
import { convnext, convnextBase } from '../../src/nn/convnext.ts';
import { initialize, type ParameterSpec, type Weights } from '../../src/nn/module.ts';
import { vit, vitSizes } from '../../src/nn/vit.ts';
import { methodOf } from '../../src/pretraining/methods/method.ts';
import { trainingSteps } from '../../src/pretraining/steps.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';
import { compile, compileInference, createState } from '../../src/runtime/compile.ts';
import type { Program } from '../../src/runtime/program.ts';
import { Random } from '../../src/random.ts';
import { float32, scalar, sizeOf, type NamedTensors } from '../../src/tensor.ts';

/** One line of the table: a step that both sides do. */
export interface Row {
  readonly label: string;
  readonly batch: number;
  readonly training: boolean;
  /** @param profile as of `CompileOptions` */
  readonly open: (threads: number, profile?: string) => Promise<{ program: Program; inputs: NamedTensors }>;
}

const random = new Random('bench engine');
const noise = (shape: readonly number[]) => float32(Float32Array.from({ length: sizeOf(shape) }, () => random.uniform()), shape);

/** The whole step of a recipe's method, as pretraining runs it. */
export function pretraining(text: string): Row['open'] {
  return async (threads, profile) => {
    const recipe = parseRecipe(`name: bench\ndataset: { url: 'builtin:demo' }\nvariants: [{ name: one }]\n${text}`, 'bench').variants[0]!.pretraining;
    const { whole, initialState } = trainingSteps(methodOf(recipe), recipe, 1);
    const program = await compile(whole.run, whole.inputs, { state: createState(initialState(0), { owned: true }), threads, name: recipe.method, ...(profile && { profile }) });
    const inputs = Object.fromEntries(Object.entries(whole.inputs).map(([name, { shape }]) => [name, noise(shape)]));
    return { program, inputs: { ...inputs, weights: float32(new Float32Array(recipe.batch).fill(1), [recipe.batch]), learningRate: scalar(0.03), ema: scalar(0.999) } };
  };
}

/** A forward pass with random weights; `run` takes normalised NHWC images. */
function forward(module: { readonly parameters: readonly ParameterSpec[] }, batch: number, run: (images: tf.Tensor4D, weights: Weights) => tf.Tensor): Row['open'] {
  return async (threads, profile) => {
    const shape = [batch, 3, 224, 224];
    const program = await compileInference(({ images }, weights) => ({ result: run(tf.transpose(images as tf.Tensor4D, [0, 2, 3, 1]), weights) }),
      { images: { shape } }, initialize(module, 0), { threads, name: 'inference', ...(profile && { profile }) });
    return { program, inputs: { images: noise(shape) } };
  };
}

const vitBase = vit({ imageSize: 224, ...vitSizes.base, positions: 'learned' }), convNeXtBase = convnext(convnextBase);

export const rows: Readonly<Record<string, Row>> = {
  'resnet18-mocov2': {
    label: 'ResNet-18 CIFAR, MoCo v2 step (queue 4096, SGD, EMA)', batch: 64, training: true,
    open: pretraining('pretraining: { method: mocov2, backbone: { name: resnet18 }, batch: 64, queue: 4096, optimizer: { name: sgd, learningRate: 0.03 } }'),
  },
  'resnet50-mocov3': {
    label: 'ResNet-50 224 px, MoCo v3 step (LARS)', batch: 8, training: true,
    open: pretraining('pretraining: { method: mocov3, backbone: { name: resnet50, stem: imagenet }, batch: 8, augmentation: { imageSize: 224 } }'),
  },
  'vits-mocov3': {
    label: 'ViT-S/16 224 px, MoCo v3 step (AdamW)', batch: 8, training: true,
    open: pretraining('pretraining: { method: mocov3, backbone: { name: vit-small }, batch: 8, augmentation: { imageSize: 224 } }'),
  },
  'vitb-inference': { label: 'ViT-B/16 inference, tokens out', batch: 16, training: false, open: forward(vitBase, 16, (x, w) => vitBase.tokens(x, w).patchTokens) },
  'convnextb-inference': { label: 'ConvNeXt-B inference, 7x7 map out', batch: 8, training: false, open: forward(convNeXtBase, 8, (x, w) => convNeXtBase.featureMap(x, w)) },
};
