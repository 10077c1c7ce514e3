import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { GenViewError } from '../../src/errors.ts';
import { parseRecipe } from '../../src/recipe/parse.ts';

const golden = (file: string): string => readFileSync(new URL(`golden/${file}`, import.meta.url), 'utf8');
const minimal = 'name: a\ndataset: { url: x }\n';

/** The lines of the error that a recipe is refused with. */
function faults(text: string): string[] {
  try { parseRecipe(text, 'r.yaml'); } catch (error) {
    expect(error).toBeInstanceOf(GenViewError);
    expect(error).toMatchObject({ code: 'RecipeInvalid', exitCode: 2 });
    return (error as GenViewError).message.split('\n');
  }
  return [];
}

describe('a recipe', () => {
  it.each(['mocov2', 'mocov3'])('with the settings of golden/%s.yaml resolves to the recorded one', (name) => {
    expect(parseRecipe(golden(`${name}.yaml`), name)).toEqual(JSON.parse(golden(`${name}.json`)));
  });

  it.each([
    ['{ name: resnet50 }', 32, { name: 'resnet50', stem: 'cifar', width: 64, norm: 'batch' }, 2048],
    ['{ name: resnet50, stem: imagenet, width: 32 }', 224, { name: 'resnet50', stem: 'imagenet', width: 32, norm: 'batch' }, 1024],
    ['{ name: vit-small }', 32, { name: 'vit-small', patch: 4 }, 384],
    ['{ name: vit-base }', 224, { name: 'vit-base', patch: 16 }, 768],
    ['{ name: vit-base, patch: 14 }', 224, { name: 'vit-base', patch: 14 }, 768],
  ])('completes backbone %s for %d pixels', (form, imageSize, backbone, features) => {
    const { pretraining } = parseRecipe(`${minimal}pretraining: { backbone: ${form}, augmentation: { imageSize: ${imageSize} } }`, 'r').variants[0]!;
    expect(pretraining.backbone).toEqual(backbone);
    expect(pretraining.head.hidden).toBe(features);
  });

  it('trains a Vision Transformer with the published settings of MoCo v3', () => {
    const { pretraining } = parseRecipe(`${minimal}pretraining: { method: mocov3, backbone: { name: vit-base }, batch: 4096, augmentation: { imageSize: 224 } }`, 'r').variants[0]!;
    expect(pretraining).toMatchObject({
      optimizer: { name: 'adamw', learningRate: 2.4e-3, weightDecay: 0.1 }, epochs: 300, schedule: { warmupEpochs: 40 }, temperature: 0.2,
      ema: { base: 0.99, schedule: 'cosine' }, head: { hidden: 4096, output: 256 }, augmentation: { minScale: 0.08, jitter: [0.4, 0.4, 0.2, 0.1] },
    });
  });

  it('forgets the settings of a backbone that a variant replaces by one of another family', () => {
    const text = `${minimal}pretraining: { backbone: { name: resnet18, width: 32 } }\nvariants:\n  - { name: a, pretraining: { backbone: { name: resnet50 } } }\n  - { name: b, pretraining: { backbone: { name: vit-small } } }`;
    expect(parseRecipe(text, 'r').variants.map(({ pretraining }) => pretraining.backbone)).toEqual([
      { name: 'resnet50', stem: 'cifar', width: 32, norm: 'batch' }, { name: 'vit-small', patch: 4 },
    ]);
  });

  it('resolves the same whatever the order of its fields', () => {
    const reversed = `variants:\n  - { pretraining: { views: { probability: 0 } }, name: only }\ndataset: { url: x }\nname: a\n`;
    const ordered = `name: a\ndataset: { url: x }\nvariants:\n  - { name: only, pretraining: { views: { probability: 0 } } }\n`;
    expect(JSON.stringify(parseRecipe(reversed, 'r'))).toBe(JSON.stringify(parseRecipe(ordered, 'r')));
  });

  it('takes every form of the noise strategy', () => {
    const noise = (form: string): unknown => parseRecipe(`${minimal}generation: { noise: ${form} }`, 'r').generation.noise;
    expect(noise('adaptive')).toEqual({ strategy: 'adaptive' });
    expect(noise('random')).toEqual({ strategy: 'random' });
    expect(noise('{ constant: 0 }')).toEqual({ strategy: 'constant', level: 0 });
    expect(noise('{ strategy: constant, level: 999 }')).toEqual({ strategy: 'constant', level: 999 });
    expect(noise('{ strategy: random }')).toEqual({ strategy: 'random' });
  });

  it('treats a group without fields as left out', () => {
    expect(parseRecipe(`${minimal}evaluation:\n  #linear:\npretraining:\n`, 'r')).toEqual(parseRecipe(minimal, 'r'));
  });

  it('shares settings through YAML anchors', () => {
    const recipe = parseRecipe(`${minimal}variants:\n  - name: a\n    pretraining: &p { epochs: 3 }\n  - name: b\n    pretraining: *p\n`, 'r');
    expect(recipe.variants.map(({ pretraining }) => pretraining.epochs)).toEqual([3, 3]);
  });

  it("lays a variant's settings over the common ones, field by field", () => {
    const [variant] = parseRecipe(`${minimal}pretraining: { ema: { base: 0.9 }, optimizer: { learningRate: 3 } }
variants: [{ name: v, pretraining: { ema: { schedule: cosine }, optimizer: { momentum: 0.5 } } }]`, 'r').variants;
    expect(variant!.pretraining.ema).toEqual({ base: 0.9, schedule: 'cosine' });
    expect(variant!.pretraining.optimizer).toEqual({ name: 'sgd', learningRate: 3, momentum: 0.5, weightDecay: 1e-4 });
  });

  it("does not keep the common optimizer's figures for an optimizer of another name", () => {
    const [variant] = parseRecipe(`${minimal}pretraining: { optimizer: { learningRate: 3 } }
variants: [{ name: v, pretraining: { optimizer: { name: lars } } }]`, 'r').variants;
    expect(variant!.pretraining.optimizer).toEqual({ name: 'lars', learningRate: 0.6, momentum: 0.9, weightDecay: 1e-6, trust: 0.001, form: 'mmpretrain' });
  });

  it("nor for the default optimizer of a variant's own method or backbone", () => {
    const variants = parseRecipe(`${minimal}pretraining: { method: mocov3, optimizer: { learningRate: 0.6 } }
variants:
  - { name: same, pretraining: { epochs: 3 } }
  - { name: transformer, pretraining: { backbone: { name: vit-small } } }
  - { name: second, pretraining: { method: mocov2, queue: 1024 } }
  - { name: own, pretraining: { method: mocov2, queue: 1024, optimizer: { learningRate: 0.1 } } }`, 'r.yaml').variants.map(({ pretraining }) => pretraining.optimizer);
    expect(variants.map(({ name, learningRate }) => [name, learningRate])).toEqual([['lars', 0.6], ['adamw', 1.5e-4], ['sgd', 0.03], ['sgd', 0.1]]);
  });

  it('of the recipes folder is valid', () => {
    const folder = new URL('../../recipes/', import.meta.url);
    const files = readdirSync(folder).filter((file) => file.endsWith('.yaml'));
    expect(files).toContain('demo.yaml');
    for (const file of files) expect(parseRecipe(readFileSync(new URL(file, folder), 'utf8'), file).variants.length).toBeGreaterThan(0);
  });

  it("has the paper's CIFAR-10 settings in recipes/cifar10.yaml", () => {
    const { variants, generation } = parseRecipe(readFileSync(new URL('../../recipes/cifar10.yaml', import.meta.url), 'utf8'), 'cifar10.yaml');
    expect(generation).toMatchObject({ noise: { strategy: 'adaptive' }, steps: 20, guidance: 10 });
    expect(variants.at(-1)!.pretraining).toMatchObject({
      method: 'mocov2', batch: 512, epochs: 500, queue: 4096, temperature: 0.2,
      optimizer: { name: 'sgd', learningRate: 0.5, weightDecay: 5e-4, momentum: 0.9 },
      schedule: { warmupEpochs: 10 }, ema: { base: 0.99 }, head: { output: 128 },
      views: { probability: 1 }, qualityLoss: { enabled: true },
    });
  });
});

describe('a faulty recipe is refused with file, line and field', () => {
  const cases: readonly (readonly [what: string, text: string, ...lines: string[]])[] = [
    ['an unknown field, with the nearest known one', `${minimal}pretraining:\n  bacth: 64`, 'r.yaml:4: pretraining.bacth: is not a field of a recipe; did you mean pretraining.batch?'],
    ['a field in the wrong place', `${minimal}epochs: 3`, 'r.yaml:3: epochs: is not a field of a recipe; did you mean pretraining.epochs?'],
    ['a field in the wrong place of a variant', `${minimal}variants:\n  - name: v\n    epochs: 3`, 'r.yaml:5: variants[0].epochs: is not a field of a recipe; did you mean variants[0].pretraining.epochs?'],
    ['an unknown field that resembles none', `${minimal}evaluation:\n  knn: { zzzzzz: 1 }`, 'r.yaml:4: evaluation.knn.zzzzzz: is not a field of a recipe; evaluation.knn takes k or temperature'],
    ['an unknown field of the noise strategy', `${minimal}generation:\n  noise: { levle: 3 }`, 'r.yaml:4: generation.noise.levle: is not a field of a recipe; did you mean generation.noise.level?'],
    ['text for a number', `${minimal}pretraining: { batch: "256" }`, 'r.yaml:3: pretraining.batch: must be a number, not the text "256"'],
    ['a fraction for a whole number', `${minimal}seed: 1.5`, 'r.yaml:3: seed: must be a whole number, not 1.5'],
    ['a number for text', 'name: 5\ndataset: { url: x }', 'r.yaml:1: name: must be text, not 5'],
    ['text for a truth value', `${minimal}pretraining: { qualityLoss: { enabled: maybe } }`, 'r.yaml:3: pretraining.qualityLoss.enabled: must be true or false, not the text "maybe"'],
    ['a value for a group', `${minimal}pretraining:\n  backbone: resnet18`, 'r.yaml:4: pretraining.backbone: must be a group of fields, not the text "resnet18"'],
    ['a list for a group', `${minimal}foreground: [1, 2]`, 'r.yaml:3: foreground: must be a group of fields, not a list of 2'],
    ['a short list', `${minimal}pretraining: { augmentation: { jitter: [0.4, 0.4] } }`, 'r.yaml:3: pretraining.augmentation.jitter: needs at least 4 entries, not 2'],
    ['a long list', `${minimal}pretraining: { augmentation: { mean: [1, 1, 1, 1] } }`, 'r.yaml:3: pretraining.augmentation.mean: takes 3 entries, not 4'],
    ['a value that is no choice', `${minimal}pretraining: { method: mocov4 }`, 'r.yaml:3: pretraining.method: must be mocov2 or mocov3, not the text "mocov4"; did you mean mocov2?'],
    ['a missing field', 'name: a\ndataset:\n  shardSize: 3', 'r.yaml:2: dataset.url: is missing'],
    ['a missing dataset', 'name: a', 'r.yaml:1: dataset: is missing'],
    ['a name that is no name', 'name: my experiment\ndataset: { url: x }', 'r.yaml:1: name: must be 1 to 48 letters, digits and dashes, and begin with a letter or a digit; it is the text "my experiment"'],
    ['a list of no known kind', 'name: a\ndataset:\n  url: x\n  list: files.csv', 'r.yaml:4: dataset.list: is files.csv, but must end in .json (manifest.json of an S3 Inventory), .jsonl or .jsonl.gz'],
    ['a list of the embedded dataset', 'name: a\ndataset: { url: "builtin:demo", list: a.jsonl }', 'r.yaml:2: dataset.list: has no meaning with the embedded dataset builtin:demo; remove it'],
    ['no variant', `${minimal}variants: []`, 'r.yaml:3: variants: needs at least 1 entry, not 0'],
    ['a number out of range', `${minimal}foreground: { quantile: 1 }`, 'r.yaml:3: foreground.quantile: must be less than 1, not 1'],
    ['a negative number', `${minimal}pretraining: { optimizer: { learningRate: -1 } }`, 'r.yaml:3: pretraining.optimizer.learningRate: must be greater than 0, not -1'],
    ['a noise level above 999', `${minimal}generation:\n  noise:\n    constant: 1000`, 'r.yaml:5: generation.noise.constant: must be at most 999, not 1000'],
    ['an unknown noise strategy', `${minimal}generation: { noise: adaptve }`, 'r.yaml:3: generation.noise: must be adaptive, random, or { constant: <level from 0 to 999> }, not the text "adaptve"; did you mean adaptive?'],
    ['a constant strategy without level', `${minimal}generation: { noise: { strategy: constant } }`, 'r.yaml:3: generation.noise: strategy constant needs a level from 0 to 999'],
    ['a level for another strategy', `${minimal}generation: { noise: { strategy: random, level: 3 } }`, 'r.yaml:3: generation.noise.level: has no meaning with strategy random; remove it, or use strategy constant'],
    ['as many steps as the network was trained on', `${minimal}generation: { steps: 1000 }`, 'r.yaml:3: generation.steps: must be at most 999, not 1000'],
    ['one PNDM step', `${minimal}generation: { steps: 1 }`, 'r.yaml:3: generation.steps: must be at least 2 with scheduler pndm'],
    ['a queue that is no multiple of the batch', `${minimal}pretraining:\n  queue: 1000\n  batch: 128`, 'r.yaml:4: pretraining.queue: queue 1000 is not a multiple of batch 128; for example queue: 1024'],
    ['a default queue that is no multiple of the batch', `${minimal}pretraining:\n  batch: 100`, 'r.yaml:4: pretraining.batch: queue 65536 (the default) is not a multiple of batch 100; for example queue: 65500'],
    ['a warm-up longer than the training', `${minimal}pretraining:\n  epochs: 5\n  schedule: { warmupEpochs: 6 }`, 'r.yaml:5: pretraining.schedule.warmupEpochs: warmupEpochs 6 is longer than the 5 epochs of pretraining'],
    ['a batch that the nodes cannot share', `${minimal}pretraining: { batch: 256, nodes: 3 }`, 'r.yaml:3: pretraining.nodes: batch 256 cannot be divided evenly among 3 nodes'],
    ['a node with one image for batch normalisation', `${minimal}pretraining: { batch: 4, nodes: 4 }`, 'r.yaml:3: pretraining.nodes: batch 4 leaves 4 nodes fewer than two images each, too few for batch normalisation'],
    ['a setting of another optimizer', `${minimal}pretraining: { optimizer: { trust: 0.1 } }`, 'r.yaml:3: pretraining.optimizer.trust: trust is a setting of lars; the optimizer is sgd'],
    ['a momentum for AdamW', `${minimal}pretraining: { optimizer: { name: adamw, momentum: 0.9 } }`, 'r.yaml:3: pretraining.optimizer.momentum: momentum is a setting of sgd and lars; the optimizer is adamw'],
    ['small images for the ImageNet stem', `${minimal}pretraining: { backbone: { stem: imagenet } }`, 'r.yaml:3: pretraining.backbone.stem: imageSize 32 is too small for stem imagenet, which shrinks it 32 times; use stem cifar, or at least 64 pixels'],
    ['a setting of ResNets for a Vision Transformer', `${minimal}pretraining:\n  backbone:\n    name: vit-small\n    stem: imagenet`, 'r.yaml:6: pretraining.backbone.stem: stem is a setting of ResNets; the backbone is vit-small'],
    ['a setting of Vision Transformers for a ResNet', `${minimal}pretraining: { backbone: { name: resnet50, patch: 4 } }`, 'r.yaml:3: pretraining.backbone.patch: patch is a setting of Vision Transformers; the backbone is resnet50'],
    ['images that patches do not fill', `${minimal}pretraining:\n  augmentation: { imageSize: 100 }\n  backbone: { name: vit-base }`, 'r.yaml:4: pretraining.augmentation.imageSize: imageSize 100 does not divide into patches of 16 pixels'],
    ['two variants of one name', `${minimal}variants:\n  - name: v\n  - name: v`, 'r.yaml:5: variants[1].name: is "v", as that of variants[0]; names must differ'],
    ["an impossible combination where the variant's field made it so", `${minimal}pretraining: { queue: 1024, batch: 128 }\nvariants:\n  - name: v\n  - name: w\n    pretraining: { batch: 100 }`, 'r.yaml:7: variants[1].pretraining.batch: queue 1024 is not a multiple of batch 100; for example queue: 1000'],
    ['an empty file', '# nothing\n', 'r.yaml:1: the file is empty; `genview init` writes a recipe to start from'],
    ['a list', '- a', 'r.yaml:1: a recipe is a list of `field: value` lines; this is a list of 1'],
    ['a field twice', 'name: a\nname: b\ndataset: { url: x }', 'r.yaml:2: not valid YAML: Map keys must be unique'],
    ['broken YAML', 'name: a\ndataset: {url: x', 'r.yaml:2: not valid YAML: Flow map in block collection must be sufficiently indented and end with a }'],
    ['every problem at once, in the order of the lines', `name: a\nfoo: 1\nseed: -1\n`, 'r.yaml:1: dataset: is missing', 'r.yaml:2: foo: is not a field of a recipe; the recipe takes name, seed, dataset, foreground, generation, pretraining, variants or evaluation', 'r.yaml:3: seed: must be at least 0, not -1'],
  ];
  it.each(cases)('%s', (_what, text, ...lines) => expect(faults(text)).toEqual(lines));

  it('an entity bomb, without expanding it', () => {
    const levels = Array.from({ length: 12 }, (_, i) => `${String.fromCharCode(97 + i)}: &x${i} [${Array.from({ length: 9 }, () => i === 0 ? 'lol' : `*x${i - 1}`).join(', ')}]`);
    expect(faults(levels.join('\n'))[0]).toMatch(/^r\.yaml:1: not valid YAML: Excessive alias count/);
  });

  it('says a mistake in the common settings once, not for every variant', () => {
    expect(faults(`${minimal}pretraining: { queue: 1000 }\nvariants: [{ name: a }, { name: b }, { name: c }]`)).toHaveLength(1);
  });
});
