import { longestRunSeconds } from '../workflow/definition.ts';
import type { DeployedMachines } from '../workflow/deployedMachines.ts';
import { batchStages } from '../workflow/stages.ts';
import type { Estimate, StageEstimate } from './estimate.ts';
import { machineOf } from './instanceTypes.ts';
import { instanceTypeField, type Prices, pricesFile } from './prices.ts';

/** What a person should know of an estimate, or do about it. */
export function notesOn({ stages, hours, unpriced }: Pick<Estimate, 'stages' | 'hours' | 'unpriced'>, { training }: DeployedMachines, prices: Prices): string[] {
  const own = prices.file !== undefined;
  const missing = unpriced.map((type) => `${type} has no price, and what it costs is left out: add ${instanceTypeField(type)} to ${own ? prices.file : `a copy of ${pricesFile}, and give that with --prices`}`);
  const unknown = [...new Set(stages.filter(({ machine }) => machine !== 'Fargate' && !machineOf(machine).known).map(({ machine }) => machine))]
    .map((type) => `the GPUs of ${type} are not known, and counted as A10Gs: src/estimate/instanceTypes.ts has those that are`);

  const nodes = Math.max(0, ...stages.filter(({ processes }) => processes > 1).map(({ instances }) => instances));
  const tooMany = nodes > training.nodes ? [`pretraining takes ${nodes} machines at a time, and the deployment must have been given as many: its option training.nodes is ${training.nodes}`] : [];

  const long = stages.flatMap(({ stage, variant, jobHours }) => {
    const { timeoutSeconds } = batchStages[stage];
    return jobHours * 3600 <= timeoutSeconds ? [] : [`${stage}${variant === undefined ? '' : ` ${variant}`} takes ${duration(jobHours)} a job, and Batch ends a job of this stage after ${duration(timeoutSeconds / 3600)}: ${remedy[stage] ?? 'take fewer images'}`];
  });
  const endless = hours * 3600 > longestRunSeconds && long.length === 0 ? [`an execution ends after ${duration(longestRunSeconds / 3600)}, and this one takes ${duration(hours)}: take fewer variants at a time, or more machines`] : [];
  return [...missing, ...unknown, ...tooMany, ...long, ...endless];
}

/**
 * What a person should know of the deployment that an estimate is for.
 * @param told whether it says what machines it has
 * @param stateMachine ARN; undefined for an estimate without a deployment
 */
export function notesOnDeployment(told: boolean, stateMachine: string | undefined, prices: Prices): string[] {
  if (stateMachine === undefined) return ['for a deployment without options of its own; --cloud or --stack takes those of one that there is'];
  const region = stateMachine.split(':')[3];
  return [
    ...told ? [] : ['this deployment does not say which machines it has, being of another version: those of one without options are taken; deployed again from this clone, it says so'],
    ...region === prices.region ? [] : [`the deployment is in ${region}, and the prices are those of ${prices.region}: give its own by --prices, in a copy of ${pricesFile}`],
  ];
}

const remedy: Partial<Record<StageEstimate['stage'], string>> = {
  'fit-foreground': 'a smaller foreground.sampleImages',
  'analyze-foreground': 'a smaller dataset.shardSize',
  'generate-views': 'a smaller dataset.shardSize',
  'pair-similarity': 'a smaller evaluation.similarityImages',
  'pretrain': 'more pretraining.nodes, or fewer epochs',
};

/** No more digits than a model deserves: `36 min`, `12 h`, `5 days`. */
export function duration(hours: number): string {
  return hours < 1 ? `${Math.ceil(hours * 60)} min` : hours < 48 ? `${Math.round(hours)} h` : `${Math.round(hours / 24).toLocaleString('en')} days`;
}
