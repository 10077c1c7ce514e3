import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { GenViewError } from '../src/errors.ts';
import { instanceTypeName } from '../src/estimate/instanceTypes.ts';
import { defaultMachines } from '../src/workflow/deployedMachines.ts';
import { batchStages, cpuResources, programNames } from '../src/workflow/stages.ts';
import { pascal } from './constructs/images.ts';
import { gpusOf, holds, vcpusOf, whyUnfit } from './constructs/instance-size.ts';

/** Days that CloudWatch Logs accepts. */
const logDays = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653] as const;

/** The sizes whose vCPUs follow from their name: four for each x. */
const instanceType = z.string().regex(instanceTypeName, 'expected an instance type such as g5.2xlarge');
const positive = z.int().positive();
const keyArn = z.string().regex(/^arn:[\w-]+:kms:[\w-]+:\d{12}:key\/[\w-]+$/, 'expected the ARN of a KMS key, arn:…:key/…');
const image = z.string().regex(/^[a-z0-9][\w./:-]*(:[\w.-]+|@sha256:[0-9a-f]{64})$/, 'expected an image with a tag or a digest, such as name:22.23.2 or name@sha256:…');

/**
 * What a deployment can choose. Read from a file (`genview.config.json`, or the one that `-c config=<file>` names) and from
 * the CDK's context: `-c spot=false`, `-c training='{"nodes":8}'`. Context wins, option by option.
 */
const optionsSchema = z.strictObject({
  /** Of the deployment, in the names of stacks, job definitions and log groups. A second deployment in an account and region needs another. @default genview */
  name: z.string().regex(/^[a-z][a-z0-9-]{0,19}$/, 'expected up to 20 lower-case letters, digits and dashes').default('genview'),
  /** GPU instances (NVIDIA, x86) of single and array jobs, one of which holds the largest stage; the estimate counts on the first that fits. More types find spot capacity sooner. @default g5, g6, g6e and g4dn, each .xlarge and .2xlarge */
  gpuInstanceTypes: z.array(instanceType).min(1)
    .default([...defaultMachines.gpuInstanceTypes]),
  /** Spot machines first, on demand when there are none; false: on demand only. @default true */
  spot: z.boolean().default(defaultMachines.spot),
  /** vCPUs in use at a time: in each GPU environment, and on Fargate; enough for the largest stage there. Training has its own limit, by nodes. @default gpu 256, cpu 64 */
  maxVcpus: z.strictObject({ gpu: positive.default(defaultMachines.maxVcpus.gpu), cpu: positive.min(cpuResources.vcpus).default(defaultMachines.maxVcpus.cpu) }).prefault({}),
  /** Stages that run on Fargate without a GPU, beside those that always do. For small datasets, and for accounts without a GPU quota. @default none */
  cpuStages: z.array(z.enum(programNames)).default([]),
  training: z.strictObject({
    /** Of multi-node pretraining: one type, on demand, close together. @default g5.2xlarge */
    instanceType: instanceType.default(defaultMachines.training.instanceType),
    /** Most machines at a time, of all multi-node jobs together; a recipe says how many processes a variant has, and is refused when it needs more. 0: none. @default 4, or 0 where pretraining is one of cpuStages */
    nodes: z.int().nonnegative().max(1000).optional(),
    /** GPUs of a machine, and pretraining processes on it: each uses one. A recipe's `nodes: 8` takes two machines of four GPUs. @default those of the type, where it is a g4dn, g5, g6, g6e, p4d, p4de, p5, p5e or p5en; else 1 */
    gpus: positive.max(16).optional(),
    /** Which of the network's zones has the machines, from 0: try another where the type is scarce. @default 0 */
    zone: z.int().nonnegative().default(0),
  }).prefault({}),
  network: z.strictObject({
    /** How machines reach AWS: `nat`, a NAT gateway; `endpoints`, interface endpoints and no way to the internet. S3 has a gateway endpoint in both. @default nat */
    egress: z.enum(['nat', 'endpoints']).default('nat'),
    /** Availability zones; few regions have fewer than three. @default 3 */
    zones: positive.max(6).default(3),
    /** An existing VPC instead of a new one. Its subnets must reach S3, ECR, ECS and CloudWatch Logs. @default a new VPC */
    vpc: z.strictObject({
      id: z.string().regex(/^vpc-[0-9a-f]+$/, 'expected vpc-…'),
      /** One for each subnet. */
      availabilityZones: z.array(z.string().min(1)).min(1),
      privateSubnets: z.array(z.string().regex(/^subnet-[0-9a-f]+$/, 'expected subnet-…')).min(1),
    }).optional(),
  }).prefault({}),
  /** Of bucket, logs, topic and queue: `s3`, keys of AWS; `kms`, a key of this deployment; or the ARN of an existing key, whose policy must let CloudWatch Logs, EventBridge and CloudWatch use it, and AWS Budgets with monthlyBudget (docs/aws.md has it). @default s3 */
  encryption: z.string().regex(/^(s3|kms|arn:[\w-]+:kms:[\w-]+:\d{12}:key\/[\w-]+)$/, 'expected "s3", "kms" or the ARN of a KMS key').default('s3'),
  /** Places outside the deployment's bucket that recipes may name for datasets and models, as s3://bucket/prefix. @default none */
  inputs: z.array(z.string().regex(/^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[^*?]*)?$/, 'expected s3://bucket or s3://bucket/prefix')).default([]),
  /** ARNs of other KMS keys that objects are encrypted with: those of `inputs`, or the bucket's own from before `encryption` was changed. Stages may decrypt with them. @default none */
  decryptionKeys: z.array(keyArn).default([]),
  retention: z.strictObject({
    /** Days that logs are kept. @default 30 */
    logDays: z.literal(logDays, `expected one of the days that CloudWatch Logs knows: ${logDays.join(', ')}`).default(30),
    /** Days that replaced or deleted recipes, runs and accuracies can be brought back. @default 30 */
    versionDays: positive.default(30),
    /**
     * Days after which analyses and views are deleted, to be made again when a recipe wants them. A run must not take
     * longer, nor begin with ones that expire before it ends: it would fail, and go on when repeated two days later. @default kept; those not used move to cheaper storage by themselves
     */
    intermediateDays: positive.min(60).optional(),
  }).prefault({}),
  /** Who is told of failures and of the budget; AWS asks the address to confirm. @default nobody: subscribe to the topic yourself */
  alarmEmail: z.email('expected an e-mail address').optional(),
  /** US dollars a month at which to warn (50, 80 and 100 % of it). The tag `application` must be active as a cost allocation tag. @default no budget */
  monthlyBudget: z.number().positive().optional(),
  /** Arguments of `containers/Dockerfile` that replace its own, such as bases from another registry or with their digests. docs/containers.md has each. @default the Dockerfile's */
  buildArguments: z.strictObject({
    BASE: image.optional(),
    BUILD_BASE: image.optional(),
    CUDA_BASE: image.optional(),
    TENSORFLOW_CUDA_BASE: image.optional(),
    LAMBDA_BASE: image.optional(),
    ONNXRUNTIME_CUDA_URL: z.url('expected a URL').optional(),
    ONNXRUNTIME_CUDA_SHA256: z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 of 64 hexadecimal digits').optional(),
    TFJS_NODE_BASE_URI: z.url('expected a URL').optional(),
    npm_config_tfjs_binding_binary_host_mirror: z.url('expected a URL').optional(),
  }).default({}),
});

type Checked = z.output<typeof optionsSchema>;
export type Options = Omit<Checked, 'training'> & { readonly training: Checked['training'] & { readonly nodes: number; readonly gpus: number } };
export type OptionsInput = z.input<typeof optionsSchema>;

export const configFile = 'genview.config.json';
export const optionNames: readonly string[] = Object.keys(optionsSchema.shape);

/**
 * Options of a deployment. Throws `OptionsInvalid`, naming the file or context key, the field, and what is expected.
 * @param context a value of the CDK's context by key
 * @param folder where the file lies. @default the current folder
 */
export function readOptions(context: (key: string) => unknown, folder: string = process.cwd()): Options {
  const named = context('config');
  const file = path.resolve(folder, typeof named === 'string' ? named : configFile);
  if (named !== undefined && !existsSync(file)) throw invalid(`-c config=${JSON.stringify(named)}`, `there is no file ${file}`);
  const fromFile = existsSync(file) ? readFile(file) : {};
  const fromContext = Object.fromEntries(optionNames.flatMap((name) => {
    const value = context(name);
    return value === undefined ? [] : [[name, plain(value)]];
  }));
  // The file first, so that its mistakes are not hidden by what overrides them. What belongs together may be half in the file.
  parse(fromFile, file);
  return check({ ...fromFile, ...fromContext }, Object.keys(fromFile).length === 0 ? 'context' : Object.keys(fromContext).length === 0 ? file : `${file} with the context`);
}

/** Options given by a program; what is left out has its default. Throws `OptionsInvalid`. */
export function checkOptions(options: OptionsInput = {}): Options {
  return check(options, 'options');
}

/** Each option by itself. */
function parse(value: unknown, where: string): Checked {
  const parsed = optionsSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path: field, message } = parsed.error.issues[0]!;
  throw invalid(where, `${field.length > 0 ? `${field.join('.')}: ` : ''}${message}`);
}

function check(value: unknown, where: string): Options {
  const checked = parse(value, where);
  const { name, network: { vpc, zones }, training, cpuStages, gpuInstanceTypes, maxVcpus, buildArguments } = checked;
  if (name !== 'genview' && pascal(name) === 'GenView') throw invalid(where, `name: the stacks of "${name}" would be those of "genview"; choose another`);
  const subnets = vpc?.privateSubnets.length ?? zones;
  if (vpc && vpc.availabilityZones.length !== subnets) throw invalid(where, `network.vpc: ${subnets} subnets need as many availabilityZones, not ${vpc.availabilityZones.length}`);
  if (training.zone >= subnets) throw invalid(where, `training.zone: ${training.zone} is not one of the network's zones, 0 to ${subnets - 1}`);
  const ofType = gpusOf(training.instanceType), gpus = training.gpus ?? ofType ?? 1;
  // Batch would take the job, and find no machine for it.
  if (ofType !== undefined && gpus > ofType) throw invalid(where, `training.gpus: a ${training.instanceType} has ${ofType}, not ${gpus}; name another training.instanceType`);
  for (const [field, types] of [['gpuInstanceTypes', gpuInstanceTypes], ['training.instanceType', [training.instanceType]]] as const) {
    const type = types.find((each) => whyUnfit(each) !== undefined);
    if (type !== undefined) throw invalid(where, `${field}: ${type} ${whyUnfit(type)}; name types of g4dn, g5, g6, g6e, p4d or p5, or newer ones`);
  }
  for (const stage of programNames.filter((name) => batchStages[name].queue === 'gpu' && !cpuStages.includes(name))) {
    const { vcpus, memoryMiB } = batchStages[stage], fitting = gpuInstanceTypes.filter((type) => holds(type, batchStages[stage]));
    const needs = `${stage} needs ${vcpus} vCPUs and ${memoryMiB} MiB of one machine`;
    if (fitting.length === 0) throw invalid(where, `gpuInstanceTypes: ${needs}, and none of ${gpuInstanceTypes.join(', ')} has so much: its jobs would never start; add one, such as g5.2xlarge, or name the stage in cpuStages`);
    const least = Math.min(...fitting.map(vcpusOf));
    if (least > maxVcpus.gpu) throw invalid(where, `maxVcpus.gpu: ${needs}, the smallest of gpuInstanceTypes that has so much has ${least} vCPUs, and at most ${maxVcpus.gpu} may be in use: its jobs would never start; give ${least} or more`);
  }
  if (new Set(cpuStages).size !== cpuStages.length) throw invalid(where, 'cpuStages: a stage is named twice');
  const { ONNXRUNTIME_CUDA_URL, ONNXRUNTIME_CUDA_SHA256 } = buildArguments;
  if ((ONNXRUNTIME_CUDA_URL === undefined) !== (ONNXRUNTIME_CUDA_SHA256 === undefined)) throw invalid(where, 'buildArguments: ONNXRUNTIME_CUDA_URL and ONNXRUNTIME_CUDA_SHA256 belong together');
  return { ...checked, training: { ...training, nodes: training.nodes ?? (cpuStages.includes('pretrain') ? 0 : defaultMachines.training.nodes), gpus } };
}

function readFile(file: string): Record<string, unknown> {
  let value: unknown;
  try { value = JSON.parse(readFileSync(file, 'utf8')); } catch (cause) {
    throw new GenViewError('OptionsInvalid', `${file}: is not valid JSON: ${(cause as Error).message}`, { cause });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw invalid(file, 'expected an object of options');
  return value as Record<string, unknown>;
}

/** `-c` gives text: numbers, booleans, lists and objects are written as JSON. */
function plain(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try { return JSON.parse(value); } catch { return value; }
}

function invalid(where: string, what: string): GenViewError {
  return new GenViewError('OptionsInvalid', `${where}: ${what}; infra/options.ts lists the options`);
}
