import type { Estimate } from '../estimate/estimate.ts';
import { duration } from '../estimate/notes.ts';
import { formatTable } from './options.ts';

/** A table of the stages, and below it what a person decides by. */
export function formatEstimate({ images, models, stages, gpuHours, hours, dollars, prices, unpriced, notes }: Estimate): string {
  const hoursCell = (value: number): string => value === 0 ? '-' : value < 0.1 ? '<0.1' : value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString('en');
  const rows = stages.map(({ stage, variant, images: count, gpuHours: own, machine, instances, gpusPerInstance, spot, limit, dollars: cost, priced }) => [
    `${stage}${variant === undefined ? '' : ` ${variant}`}`, count.toLocaleString('en'), hoursCell(own), limit,
    `${instances > 1 ? `${Math.ceil(instances)} x ` : ''}${machine}${gpusPerInstance > 1 ? ` (${gpusPerInstance} GPUs)` : ''}${spot ? ' spot' : ''}`, priced ? money(cost) : '?',
  ]);
  const names = {
    encoder: models.encoder === 'demo' ? 'the embedded encoder' : 'an encoder as large as CLIP ViT-H/14',
    generator: models.generator === 'demo' ? 'the embedded generator' : 'Stable unCLIP 2.1',
  };
  const shards = stages.filter(({ stage }) => stage === 'analyze-foreground' || stage === 'generate-views');
  const starting = shards.reduce((total, { startHours }) => total + startHours, 0), working = shards.reduce((total, { gpuHours: own }) => total + own, 0);
  return [
    `estimate for ${images.train.toLocaleString('en')} training and ${images.val.toLocaleString('en')} validation images, ${names.encoder}, ${names.generator}:`,
    formatTable([['stage', 'images', 'GPU hours', 'limit', 'instance', 'cost'], ...rows], 'right'),
    `in all ${hoursCell(gpuHours)} GPU hours, about ${duration(hours)} when instances are to be had, ${money(dollars.total)}${unpriced.length > 0 ? ` without ${unpriced.join(' and ')}` : ''}; then ${money(dollars.storageMonth)} a month for what is kept`,
    ...starting > 5 && starting > working / 2 ? [`${hoursCell(starting)} of the GPU hours of analyze-foreground and generate-views are machines and models starting: fewer shards (a larger dataset.shardSize) take longer and cost less`] : [],
    ...notes,
    `by a model, not a measurement, and for a run that finds nothing in its store (docs/aws.md); prices of ${prices.date}, ${prices.region}`,
  ].join('\n');
}

/** `$0.07`, `$12.34`, `$1,234` */
export function money(dollars: number): string {
  return `$${dollars < 1000 ? dollars.toFixed(2) : Math.round(dollars).toLocaleString('en')}`;
}
