/** In the order of the workflow. */
export const stageNames = [
  'resolve-recipe', 'shard-dataset', 'fit-foreground', 'analyze-foreground', 'plan-views', 'generate-views', 'pair-similarity',
  'pretrain', 'linear-probe', 'nearest-neighbours', 'semi-supervised', 'report',
] as const;

export type StageName = (typeof stageNames)[number];
