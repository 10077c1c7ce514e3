import type { Collective } from '../distributed/collective.ts';
import { qualityWeights } from '../foreground/quality.ts';
import type { PretrainingRecipe } from '../recipe/recipe.ts';
import { compile, createState } from '../runtime/compile.ts';
import type { Program, State } from '../runtime/program.ts';
import { float32, int32, scalar, type HostTensor, type NamedTensors } from '../tensor.ts';
import { methodOf } from './methods/method.ts';
import { trainingSteps } from './steps.ts';

/** What one process brings to a step. */
export interface StepInputs {
  /** Both views of this process's samples, [n, 3, s, s] in [0, 1]. */
  readonly views: readonly [HostTensor<'float32'>, HostTensor<'float32'>];
  /** Quality of this process's pairs, [n]; absent without the quality loss. */
  readonly quality?: Float32Array | undefined;
  readonly learningRate: number;
  readonly ema: number;
}

/** Means over the global batch. */
export interface StepResult {
  readonly loss: number;
  readonly accuracy: number;
  readonly quality?: number;
}

/** The state of a training run and the step that advances it. */
export interface Engine {
  readonly state: State;
  step(inputs: StepInputs): Promise<StepResult>;
  dispose(): Promise<void>;
}

/**
 * Compiles the recipe's method. One process runs the whole step as one program; of several, each runs three programs
 * with an exchange between them (keys; gradients and metrics), and process r holds the samples r, r + size, … of the
 * global batch. Quality weights are a softmax over the global batch (Eq. 13), so that the number of processes changes
 * nothing; the official code normalises over each GPU's part.
 */
export async function openEngine(recipe: PretrainingRecipe, seed: number, collective: Collective, threads: number): Promise<Engine> {
  const { rank, size } = collective;
  const n = recipe.batch / size;
  const steps = trainingSteps(methodOf(recipe), recipe, size);
  const state = createState(steps.initialState(seed), { owned: true });
  const program = (step: (typeof steps)['whole'], name: string): Promise<Program> =>
    compile(step.run, step.inputs, { state, threads, name: `${recipe.method} ${name}` });

  const weigh = async (quality: Float32Array | undefined): Promise<{ weights: HostTensor<'float32'>; mean?: number }> => {
    if (!quality) return { weights: float32(new Float32Array(n).fill(1), [n]) };
    const all = inSampleOrder(await collective.allGather(quality), 1, size);
    const weights = qualityWeights(all, recipe.qualityLoss.gamma);
    return { weights: float32(weights.filter((_, i) => i % size === rank), [n]), mean: all.reduce((sum, q) => sum + q, 0) / all.length };
  };

  if (size === 1) {
    const whole = await program(steps.whole, 'step');
    return {
      state,
      async step({ views, quality, learningRate, ema }) {
        const { weights, mean } = await weigh(quality);
        const { loss, accuracy } = await whole.run({ view1: views[0], view2: views[1], weights, learningRate: scalar(learningRate), ema: scalar(ema) });
        return { loss: loss!.data[0]!, accuracy: accuracy!.data[0]!, ...(mean !== undefined && { quality: mean }) };
      },
      dispose: () => whole.dispose(),
    };
  }

  const keys = await program(steps.keys, 'keys'), gradients = await program(steps.gradients, 'gradients'), update = await program(steps.update, 'update');
  const labels = int32(Int32Array.from({ length: n }, (_, i) => i * size + rank), [n]);
  return {
    state,
    async step({ views: [view1, view2], quality, learningRate, ema }) {
      const { weights, mean } = await weigh(quality);
      const ownKeys = await keys.run({ view1, view2, ema: scalar(ema) });
      const own: NamedTensors = {}, all: NamedTensors = {};
      for (let i = 0; i < steps.keyCount; i++) {
        const key = ownKeys[`key${i}`] as HostTensor<'float32'>;
        own[`own${i}`] = key;
        all[`all${i}`] = float32(inSampleOrder(await collective.allGather(key.data), steps.keySize, size), [recipe.batch, steps.keySize]);
      }
      const { sums } = await gradients.run({ view1, view2, weights, labels, ...own, ...all });
      const totals = sums!.data as Float32Array;
      await collective.allReduceSum(totals);
      await update.run({ sums: sums!, learningRate: scalar(learningRate), ...all });
      const [loss, accuracy] = totals.subarray(totals.length - 2) as unknown as [number, number];
      return { loss: loss / size, accuracy: accuracy / size, ...(mean !== undefined && { quality: mean }) };
    },
    async dispose() {
      await Promise.all([keys, gradients, update].map((p) => p.dispose()));
    },
  };
}

/** Rows gathered rank by rank, put into the order of the global batch: row i of rank r is sample i·ranks + r. */
function inSampleOrder(gathered: Float32Array, width: number, ranks: number): Float32Array {
  const rows = gathered.length / width / ranks, result = new Float32Array(gathered.length);
  for (let rank = 0; rank < ranks; rank++) {
    for (let row = 0; row < rows; row++) {
      const from = (rank * rows + row) * width;
      result.set(gathered.subarray(from, from + width), (row * ranks + rank) * width);
    }
  }
  return result;
}
