/**
 * A recipe file that shows every field. Active lines are what a newcomer changes first; `#field:` lines, without a space
 * behind the `#`, are the other fields at their defaults: taking away the `#` changes nothing.
 */
export function recipeTemplate(name: string, dataset: string): string {
  return `# A GenView experiment. Check it:  genview validate <this file>      Run it:  genview run <this file>
# Lines that begin with # and no space are fields at their defaults; remove the # to change one.

# Letters, digits and dashes.
name: ${JSON.stringify(name)}
# Everything random derives from it: the same recipe gives the same results.
#seed: 0

dataset:
  # Folder or prefix of images: train/<class>/... and val/<class>/..., or <class>/...; builtin:demo is the embedded one.
  # A path is relative to this file; file: and s3: URLs work too.
  url: ${JSON.stringify(dataset)}
  # Names the images instead of a listing of the url: manifest.json of an S3 Inventory (CSV), or a list in JSON lines (.jsonl,
  # .jsonl.gz) of paths or { path, split, label }.
  #list:
  # Share of the images that validates where there is no val folder, chosen by a hash of the path.
  #validationFraction: 0.1
  # Images in a shard, the unit of parallel work.
  #shardSize: 512
  # The run stops when a larger share of the images than this is unreadable.
  #quarantineLimit: 0.05

# How the object is told from its surroundings: first principal component of an image network's tokens.
foreground:
  encoder:
    # An .onnx file: pixels [n, 3, h, w] RGB in [0, 1] -> tokens [n, c, h', w'] and embedding [n, d]; or the embedded one.
    model: builtin:demo-encoder
    # Side of its input in pixels.
    imageSize: 32
  # Images whose tokens give the component.
  #sampleImages: 10000
  # This share of all tokens is background.
  #quantile: 0.6
  # Divide every token by its length first: better for convolutional encoders; not for CLIP.
  #normalizeTokens: false
  # Images in one forward pass.
  #batch: 32

# One generated view of every training image, by an image-conditioned diffusion model (unCLIP).
generation:
  # The only one in this version.
  #generator: builtin:demo-unclip
  # How far the view may leave its image: adaptive (by the share of foreground), random, or for all the same: { constant: 200 }
  noise: adaptive
  # Denoising steps, classifier-free guidance (1 is none), sampler: pndm or ddim.
  #steps: 20
  #guidance: 10
  #scheduler: pndm
  #viewsPerImage: 1
  #batch: 16

# What every variant starts from. Defaults here are those of mocov2; mocov3 has its own where the comment says so.
pretraining:
  # mocov2 or mocov3
  method: mocov2
  backbone:
    # resnet18, resnet50, or resnet-small (three stages of one block, width 32). vit-small or vit-base, which take patch
    # (side of a patch: 16, and 4 for images up to 64 pixels) instead of the fields below; mocov3 with them: epochs 300, adamw,
    # 40 epochs of warm-up (fewer in proportion), temperature 0.2, minScale 0.08
    name: resnet18
    # cifar (3x3, no pooling; stride 2 in resnet-small) for images up to 64 pixels, imagenet above
    #stem: cifar
    #width: 64
    # none exists for exact comparisons of distributed runs.
    #norm: batch
  # Widths of the projector; mocov3: 4096 and 256.
  #head:
    #hidden: 512
    #output: 128
  # 0 evaluates the random initialisation; mocov3: 100.
  epochs: 200
  # Images in a step, over all processes; not more than the training images.
  batch: 256
  # sgd: { learningRate, momentum, weightDecay }; lars (the default of mocov3): trust and form (mmpretrain, moco-v3) too;
  # adamw (that of mocov3 with a Vision Transformer): { learningRate, weightDecay }.
  # The default rate is 0.03 x batch / 256; mocov3: 0.6 x batch / 256, 0.3 from 300 epochs; adamw: 0.00015 x batch / 256.
  #optimizer:
    #name: sgd
    #learningRate: 0.03
    #momentum: 0.9
    #weightDecay: 0.0001
  # Linear warm-up, then half a cosine to 0; mocov3: 10 epochs, at most a tenth of all.
  #schedule:
    #warmupEpochs: 0
  # Of the momentum encoder; cosine rises to 1. mocov3: 0.99, cosine.
  #ema:
    #base: 0.999
    #schedule: constant
  # mocov3: 1
  #temperature: 0.2
  # Negatives kept (mocov2): a multiple of the batch.
  #queue: 65536
  #augmentation:
    # Side of the crops in pixels.
    #imageSize: 32
    # Smallest crop, as a share of the image's area.
    #minScale: 0.2
    # Brightness, contrast, saturation, hue; mocov3: [0.4, 0.4, 0.2, 0.1].
    #jitter: [0.4, 0.4, 0.4, 0.1]
    #jitterProbability: 0.8
    #grayscaleProbability: 0.2
    # Of the first and the second view; mocov3: [1, 0.1] and [0, 0.2].
    #blurProbability: [0.5, 0.5]
    #solarizeProbability: [0, 0]
    #flipProbability: 0.5
    # Channel statistics of the input: CLIP's.
    #mean: [0.48145466, 0.4578275, 0.40821073]
    #std: [0.26862954, 0.26130258, 0.27577711]
  #views:
    # Probability that a pair uses a generated view; 0 is ordinary pretraining.
    #probability: 1
    # Which of the two it replaces: random, or fixed (the second).
    #order: random
  #qualityLoss:
    # Weighs each pair by how well it agrees on the foreground and differs in the background.
    #enabled: false
    #gamma: 1
  # Processes that train together; on AWS each has a GPU of its own.
  #nodes: 1
  # A run that is stopped loses at most so many steps.
  #checkpointSteps: 100

# Each is pretrained and evaluated; its settings are laid over those above. These two are the default. Variants that differ
# only in the seed of pretraining and evaluation show the spread.
variants:
  - name: baseline
    #seed: 0
    pretraining:
      views: { probability: 0 }
      qualityLoss: { enabled: false }
  - name: genview
    pretraining:
      views: { probability: 1 }
      qualityLoss: { enabled: true }

evaluation:
  # Linear classifier on frozen features.
  #linear:
    #epochs: 100
    #batch: 256
    #learningRate: 0.2
    #momentum: 0.9
    #weightDecay: 0
  # Weighted nearest neighbours.
  #knn:
    #k: 20
    #temperature: 0.07
  # The whole network, fine-tuned on this share of the labels; rates below a share of 0.05: 1 and 0.00001.
  #semiSupervised:
    #fraction: 0.1
    #epochs: 20
    #batch: 256
    #headLearningRate: 0.2
    #backboneLearningRate: 0.02
  # Pairs whose cosine similarity is averaged.
  #similarityImages: 50000
`;
}
