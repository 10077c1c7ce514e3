import { lambdaNames, programNames, type LambdaName, type ProgramName } from '../src/workflow/stages.ts';

/**
 * Where things lie in the bucket. What people put there and what the stages make are kept apart, so that no stage may write
 * to a dataset.
 */
export const bucketLayout = {
  /** A `*.yaml` put here is run. */
  recipes: 'recipes/',
  /** `datasets/<name>/`: images, and `recipe.yaml`, which is run when `_READY` is put beside it. */
  datasets: 'datasets/',
  models: 'models/',
  /** Root of the store, see docs/workflow.md. */
  store: 'store/',
} as const;

export type StageName = LambdaName | ProgramName;
export const stageNames: readonly StageName[] = [...lambdaNames, ...programNames];

/** What a stage reads that people gave: the recipe, the images, the models. `imageNames`: the listing of the images, or a file that lists them, not the images. */
type Input = 'recipes' | 'images' | 'imageNames' | 'models';

/** Names of files that list the images of a dataset: JSON lines; an inventory's manifest and data. */
export const listFiles = ['*.json', '*.jsonl', '*.ndjson', '*.gz'] as const;

/** What one stage does in the bucket. Keys are relative to the store, `*` stands for any characters. */
export interface StageAccess {
  readonly inputs: readonly Input[];
  /** Read, or looked for: a stage is told that an object is absent only where it may read it. */
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  readonly deletes: readonly string[];
  /** Prefixes that are listed. */
  readonly lists: readonly string[];
}

type Given = Partial<Record<'inputs', readonly Input[]> & Record<Exclude<keyof StageAccess, 'inputs'>, readonly string[]>> & {
  /** Marker of a stage that runs once: with its lease it is read and written, and the lease deleted. */
  readonly marker?: string;
};

function access({ marker, inputs = [], reads = [], writes = [], deletes = [], lists = [] }: Given): StageAccess {
  const once = marker === undefined ? [] : [marker, `${marker}.lease`];
  return { inputs, reads: [...reads, ...once], writes: [...writes, ...once], deletes: [...deletes, ...once.slice(1)], lists };
}

const resolved = ['runs/*/recipe.json'];
const planned = [...resolved, 'runs/*/plan.json'];
const samples = ['views/*/plan.json', 'views/*/shard-*.tar'];

function probeAccess(file: 'linear' | 'knn' | 'semi'): StageAccess {
  const result = `evaluate/*/${file}.json`;
  return access({
    reads: [...planned, 'datasets/*/dataset.json', ...samples, 'views/*/manifest-*.jsonl', 'pretrain/*/encoder.json', 'pretrain/*/encoder.safetensors', result],
    writes: [result],
    marker: `evaluate/*/${file}.done`,
  });
}

/** Every stage's access, no more and no less: an integration test runs each stage with these rights alone, and checks which of them it uses. */
export const stageAccess: Readonly<Record<StageName, StageAccess>> = {
  'resolve-recipe': access({
    inputs: ['recipes', 'imageNames', 'models'],
    // The embedded dataset is rendered into the store.
    reads: ['demo-dataset/demo-dataset.json'],
    writes: [...resolved, 'demo-dataset/*'],
    deletes: ['runs/*/failure.json'],
    lists: ['demo-dataset/'],
    marker: 'demo-dataset/demo-dataset.done',
  }),
  'shard-dataset': access({
    inputs: ['imageNames'],
    reads: [...planned, 'runs/*/listing/*', 'datasets/*/dataset.json', 'datasets/*/shard-*.jsonl', 'datasets/*/progress.json'],
    writes: ['runs/*/listing/*', 'runs/*/plan.json', 'datasets/*/shard-*.jsonl', 'datasets/*/sample.jsonl', 'datasets/*/dataset.json', 'datasets/*/progress.json'],
    deletes: ['runs/*/listing/*', 'datasets/*/progress.json'],
    lists: ['runs/*/listing/'],
    marker: 'datasets/*/dataset.done',
  }),
  'fit-foreground': access({
    inputs: ['images', 'models'],
    reads: [...planned, 'datasets/*/sample.jsonl'],
    writes: ['foreground/*/foreground.json'],
    marker: 'foreground/*/foreground.done',
  }),
  'analyze-foreground': access({
    inputs: ['images', 'models'],
    reads: [...planned, 'datasets/*/shard-*.jsonl', 'foreground/*/foreground.json'],
    writes: ['analysis/*/shard-*.jsonl'],
    marker: 'analysis/*/shard-*.done',
  }),
  'plan-views': access({
    reads: [...planned, 'datasets/*/shard-*.jsonl', 'analysis/*/shard-*.jsonl', 'views/*/plan.json'],
    writes: ['views/*/manifest-*.jsonl', 'views/*/plan.json'],
    marker: 'views/*/plan.done',
  }),
  'generate-views': access({
    inputs: ['images', 'models'],
    reads: [...planned, 'views/*/manifest-*.jsonl'],
    writes: ['views/*/shard-*.tar'],
    marker: 'views/*/shard-*.done',
  }),
  'pair-similarity': access({
    inputs: ['models'],
    reads: [...planned, ...samples, 'similarity/*/similarity.json'],
    writes: ['similarity/*/similarity.json'],
    marker: 'similarity/*/similarity.done',
  }),
  'pretrain': access({
    inputs: ['models'],
    reads: [...planned, ...samples, 'foreground/*/foreground.json', 'pretrain/*/checkpoint.safetensors', 'pretrain/*/metrics.jsonl'],
    writes: ['checkpoint.safetensors', 'metrics.jsonl', 'encoder.safetensors', 'encoder.json'].map((name) => `pretrain/*/${name}`),
    marker: 'pretrain/*/.done',
  }),
  'linear-probe': probeAccess('linear'),
  'nearest-neighbours': probeAccess('knn'),
  'semi-supervised': probeAccess('semi'),
  'report': access({
    inputs: ['models'],
    reads: [
      ...planned, 'runs/*/history.jsonl', 'datasets/*/dataset.json', 'foreground/*/foreground.json', 'analysis/*/shard-*.jsonl', ...samples, 'views/*/manifest-*.jsonl',
      'similarity/*/similarity.json', 'pretrain/*/encoder.json', 'pretrain/*/metrics.jsonl', 'evaluate/*/linear.json', 'evaluate/*/knn.json', 'evaluate/*/semi.json',
    ],
    writes: ['runs/*/report.json', 'runs/*/report.html'],
  }),
  'record-failure': access({ writes: ['runs/*/failure.json'] }),
};

/**
 * Folders of the store: what can be made again from the others and the inputs; encoders, with checkpoints that are replaced
 * every few minutes; all other results.
 */
export const folders = {
  intermediates: ['analysis', 'demo-dataset', 'views'],
  encoders: ['pretrain'],
  results: ['datasets', 'evaluate', 'foreground', 'runs', 'similarity'],
} as const;
