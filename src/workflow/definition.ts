import { activityRetry, blocks, childrenAtATime, defaultHeartbeatSeconds, type ActivityRefs } from './activities.ts';
import type { Catcher, MapState, ParallelState, Retrier, StateGraph, StateMachineDefinition, TaskState, Template } from './asl/definition.ts';
import { readMachines, writeMachines, type DeployedMachines } from './deployedMachines.ts';
import { endedWithExecution, executionTag, executionTagValue } from './executionTag.ts';
import { batchStages, lambdaStages, programOf, type JobDefinitionName, type LambdaName } from './stages.ts';

/** Names or ARNs of what the workflow calls: CloudFormation tokens in the CDK app, plain names in a local run. */
export interface WorkflowRefs {
  /** `aws`, `aws-cn`, … */
  readonly partition: string;
  readonly functions: Readonly<Record<LambdaName, string>>;
  readonly jobDefinitions: Readonly<Record<JobDefinitionName, string>>;
  /** The queue that jobs of each definition go to. */
  readonly queues: Readonly<Record<JobDefinitionName, string>>;
  /** Pretraining processes on each machine of a multi-node job, one for each of its GPUs. @default 1 */
  readonly processesPerNode?: number;
  /** Seconds until a multi-node job is looked at for the first time. @default 30 */
  readonly firstLookSeconds?: number;
  /** Most seconds between two looks, for each variant of the run. @default 3600 */
  readonly longestLookSeconds?: number;
  /** Root URL of the deployment's store, for those who find the deployment and not its tag: see `storeOfDefinition`. @default not told */
  readonly store?: string;
  /** What the deployment has for machines: a recipe that needs more is refused, and `genview submit` estimates by it, see `machinesOfDefinition`. @default not told, and no limit */
  readonly machines?: DeployedMachines;
  /** What workers do in place of Batch and Lambda (`genview worker`). The names above then stand for themselves. @default nothing */
  readonly activities?: ActivityRefs;
}

/** Input of an execution. */
export interface WorkflowInput {
  /** URL of the recipe file. */
  readonly recipe: string;
  /** Root URL of the store. */
  readonly store: string;
}

/** Output of an execution. */
export interface WorkflowOutput {
  /** `<store>/runs/<runId>/` */
  readonly run: string;
  /** URL of report.html */
  readonly report: string;
}

/** The state that runs a multi-node job, and the tasks that it is made of. */
export const multiNodeStates: { readonly whole: string; readonly parts: readonly string[] } = { whole: 'PretrainNodes', parts: ['SubmitNodes', 'DescribeNodes'] };

const purpose = 'GenView: from a folder of images to an evaluated encoder.', machinesMark = ' Its machines: ', storeMark = ' Its store: ';

/** 60 days: five attempts of the longest pretraining would take longer, but whatever waits so long waits in vain. */
export const longestRunSeconds = 60 * 86_400;

/** Refusals that pass: AWS asks for a repetition with jitter. */
const lambdaRetry: readonly Retrier[] = [{
  // A function that nobody called for weeks is asleep: the first call is refused and wakes it, which takes a minute or two. After an update it may be the same.
  ErrorEquals: ['Lambda.CodeArtifactUserPendingException', 'Lambda.ResourceConflictException', 'Lambda.ResourceNotReadyException'],
  IntervalSeconds: 5, MaxAttempts: 8, BackoffRate: 2, MaxDelaySeconds: 60,
}, {
  ErrorEquals: ['Lambda.ServiceException', 'Lambda.AWSLambdaException', 'Lambda.SdkClientException', 'Lambda.TooManyRequestsException'],
  IntervalSeconds: 2, MaxAttempts: 6, BackoffRate: 2, JitterStrategy: 'FULL',
}, {
  // Ended by Lambda, or by themselves just before: functions repeat a call without doing anything twice, and go on where they can.
  ErrorEquals: ['FunctionTimedOut', 'Sandbox.Timedout', 'Lambda.Unknown'],
  IntervalSeconds: 5, MaxAttempts: 3, BackoffRate: 2, JitterStrategy: 'FULL',
}];
/** Of the submission only: what goes wrong inside a job is Batch's retry strategy. */
const batchRetry: readonly Retrier[] = [{
  ErrorEquals: ['Batch.AWSBatchException', 'Batch.ServerException', 'Batch.TooManyRequestsException'],
  IntervalSeconds: 5, MaxAttempts: 8, BackoffRate: 2, MaxDelaySeconds: 300, JitterStrategy: 'FULL',
}];
/** The same for the SDK integration, whose errors have other names. */
const sdkRetry: readonly Retrier[] = [{ ...batchRetry[0]!, ErrorEquals: ['Batch.BatchException', 'Batch.ServerException', 'Batch.SdkClientException'] }];
/**
 * Looking at a job again does no harm, whatever went wrong: the job must not end because nobody could look for an hour. That Batch
 * does not know the job is a failed evaluation, and lasts.
 */
const lookRetry: readonly Retrier[] = [
  { ...batchRetry[0]!, ErrorEquals: ['States.QueryEvaluationError'] },
  { ...batchRetry[0]!, ErrorEquals: ['States.TaskFailed'], MaxAttempts: 30, MaxDelaySeconds: 600 },
];
/**
 * Each look waits so much longer than the one before: a job's end is learnt within 5 % of its time late, and at most an hour for each
 * variant of the run. They share the 25,000 events of an execution, a look takes nine: the more variants beyond ten, the faster it grows, and 60 may take two weeks each.
 */
const lookGrowth = '(1 + 0.05 * $max([1, $count($variants) / 10]))';
/** Not everywhere known. */
const redriveCount = '($exists($states.context.Execution.RedriveCount) ? $states.context.Execution.RedriveCount : 0)';

/**
 * The workflow: recipe in, report out. Pure; JSONata only. Between states travel URLs, numbers and the short list of
 * variants, never lists of images. Any failure is recorded by RecordFailure, and the execution then fails with the
 * original error and cause.
 */
export function buildWorkflow(refs: WorkflowRefs): StateMachineDefinition {
  const { activities, machines, processesPerNode = 1, firstLookSeconds = 30, longestLookSeconds = 3600 } = refs;
  const heartbeatSeconds = activities?.heartbeatSeconds ?? defaultHeartbeatSeconds;
  const activity = (arn: string, task: { readonly [key: string]: Template }, timeoutSeconds: number | string, flow: Flow): TaskState => {
    // The worker is told how often it must be heard: GetActivityTask hands it nothing but these arguments.
    return { Type: 'Task', Resource: arn, Arguments: { HeartbeatSeconds: heartbeatSeconds, ...task }, TimeoutSeconds: timeoutSeconds, HeartbeatSeconds: heartbeatSeconds, Retry: activityRetry, ...flow };
  };

  const lambda = (name: LambdaName, payload: Template, flow: Flow): TaskState => {
    const invocation = { FunctionName: refs.functions[name], Payload: payload };
    const arn = activities?.functions[name];
    // A worker sets a function no limit; some servers count the time that it waits for a worker.
    if (arn !== undefined) return activity(arn, { Invoke: invocation }, Math.max(4 * lambdaStages[name].timeoutSeconds, 2 * heartbeatSeconds), flow);
    return { Type: 'Task', Resource: `arn:${refs.partition}:states:::lambda:invoke`, Arguments: invocation, Retry: lambdaRetry, ...flow };
  };

  const batch = (definition: JobDefinitionName, options: BatchOptions, flow: Flow): TaskState | MapState | ParallelState => {
    const stage = programOf(definition);
    const command = { Command: [stage, '--run', '{% $run %}', ...(options.variant === undefined ? [] : ['--variant', options.variant])] };
    const name = options.variant === undefined ? `$runId & '-${stage}'` : `$runId & '-${stage}-' & $states.input.name`;
    const job = {
      JobName: `{% $substring(${name}, 0, 128) %}`,
      JobDefinition: refs.jobDefinitions[definition],
      JobQueue: refs.queues[definition],
      ...(options.arraySize !== undefined && { ArrayProperties: { Size: options.arraySize } }),
      ...(options.nodes === undefined
        ? { ContainerOverrides: command }
        : { NodeOverrides: multiNode(options.nodes, command) }),
    };
    if (activities === undefined) {
      if (options.nodes !== undefined) return multiNodeJob(job, flow);
      return { Type: 'Task', Resource: `arn:${refs.partition}:states:::batch:submitJob.sync`, Arguments: job, Retry: batchRetry, ...flow };
    }

    const arn = activities.jobs[definition];
    const { retry, timeoutSeconds } = batchStages[stage];
    // The worker ends an attempt that takes too long and repeats what asks for it, as Batch does: this is for a worker that does neither.
    const patience = retry.attempts * timeoutSeconds;
    if (options.arraySize === undefined) return activity(arn, { SubmitJob: job }, patience, flow);
    const block = `${stage.replace(/(^|-)([a-z])/g, (_match, _dash, letter: string) => letter.toUpperCase())}Block`;
    return {
      Type: 'Map',
      Comment: 'An array job in blocks of children: workers share them, and a lost worker costs one block.',
      Items: blocks('$shards'),
      MaxConcurrency: childrenAtATime,
      ItemProcessor: {
        ProcessorConfig: { Mode: 'INLINE' },
        StartAt: block,
        States: { [block]: activity(arn, { SubmitJob: job, Children: '{% $states.input %}' }, `{% ${patience} * $states.input.count %}`, { Output: {}, End: true }) },
      },
      ...flow,
    };
  };

  /** Machines for so many processes; the last one may have fewer than it could. */
  const multiNode = (processes: string, command: { readonly Command: Template }): Template => ({
    NumNodes: processesPerNode === 1 ? `{% ${processes} %}` : `{% $ceil(${processes} / ${processesPerNode}) %}`,
    NodePropertyOverrides: [{
      TargetNodes: '0:',
      ContainerOverrides: { ...command, ...(processesPerNode > 1 && { Environment: [{ Name: 'GENVIEW_PROCESSES', Value: `{% $string(${processes}) %}` }] }) },
    }],
  });

  const multiNodeJob = (job: { readonly [key: string]: Template }, flow: Flow): ParallelState => ({
    Type: 'Parallel',
    Comment: 'submitJob.sync takes no NodeOverrides and adds ContainerOverrides, which Batch refuses for several nodes: the job is submitted by the SDK integration and looked at until it has ended.',
    Branches: [{
      StartAt: 'SubmitNodes',
      States: {
        SubmitNodes: {
          Type: 'Task',
          Resource: `arn:${refs.partition}:states:::aws-sdk:batch:submitJob`,
          // By this the job is found when the execution is stopped: Step Functions stops only the jobs of `.sync`.
          Arguments: { ...job, Tags: { [executionTag]: `{% ${executionTagValue} %}` } },
          Retry: sdkRetry,
          Assign: { nodesJob: '{% $states.result.JobId %}', looks: 0, redrives: `{% ${redriveCount} %}` },
          Output: '{% $states.input %}',
          Next: 'AwaitNodes',
        },
        AwaitNodes: {
          Type: 'Wait',
          Comment: 'An execution that is redriven begins here, and its job has most likely ended.',
          Seconds: `{% $redrives = ${redriveCount} ? $min([${longestLookSeconds} * $count($variants), $ceil(${firstLookSeconds} * $power(${lookGrowth}, $looks))]) : ${firstLookSeconds} %}`,
          Next: 'DescribeNodes',
        },
        DescribeNodes: {
          Type: 'Task',
          Resource: `arn:${refs.partition}:states:::aws-sdk:batch:describeJobs`,
          Arguments: { Jobs: ['{% $nodesJob %}'] },
          Retry: lookRetry,
          // Without the job's properties, which do not change.
          Assign: { looks: '{% $looks + 1 %}', redrives: `{% ${redriveCount} %}`, nodes: "{% $states.result.Jobs[0].{ 'JobId': JobId, 'JobName': JobName, 'JobQueue': JobQueue, 'Status': Status, 'StatusReason': StatusReason, 'Container': Container, 'Attempts': Attempts } %}" },
          Output: '{% $states.input %}',
          Next: 'NodesEnded',
        },
        NodesEnded: {
          Type: 'Choice',
          Choices: [
            { Condition: "{% $nodes.Status = 'SUCCEEDED' %}", Next: 'NodesSucceeded' },
            // An execution that goes on after it was stopped (RedriveExecution) finds the job ended that went with it.
            { Condition: `{% $nodes.Status = 'FAILED' and $contains($string($nodes), '${endedWithExecution}') %}`, Next: 'SubmitNodes' },
            { Condition: "{% $nodes.Status = 'FAILED' %}", Next: 'NodesFailed' },
          ],
          Default: 'AwaitNodes',
        },
        NodesFailed: { Type: 'Fail', Error: 'JobFailed', Cause: '{% $string($nodes) %}' },
        NodesSucceeded: { Type: 'Succeed' },
      },
    }],
    ...flow,
  });

  const failed = (more: Record<string, Template> = {}): readonly Catcher[] => [{ ErrorEquals: ['States.ALL'], Assign: { failure: '{% $states.errorOutput %}', ...more }, Output: {}, Next: 'RecordFailure' }];
  const then = (next: string, more: Flow = {}): Flow => ({ Output: {}, Catch: failed(), Next: next, ...more });
  const variant = '{% $states.input.name %}';
  const probe = (program: 'linear-probe' | 'nearest-neighbours' | 'semi-supervised', name: string): StateGraph => ({
    StartAt: name,
    States: { [name]: batch(program, { variant }, { Output: {}, End: true }) },
  });

  return {
    Comment: `${purpose}${machines === undefined ? '' : `${machinesMark}${writeMachines(machines)}`}${refs.store === undefined ? '' : `${storeMark}${refs.store}`}`,
    QueryLanguage: 'JSONata',
    TimeoutSeconds: longestRunSeconds,
    StartAt: 'ResolveRecipe',
    States: {
      ResolveRecipe: lambda('resolve-recipe', {
        recipe: '{% $states.input.recipe %}', store: '{% $states.input.store %}',
        ...(machines && { training: { nodes: machines.training.nodes, gpus: machines.training.gpus } }),
      }, then('ShardDataset', {
        Assign: { run: '{% $states.result.Payload.run %}', runId: '{% $states.result.Payload.runId %}', variants: '{% $states.result.Payload.variants %}', continuation: null },
        // There is no run yet to record the failure in.
        Catch: failed({ run: null }),
      })),
      ShardDataset: lambda('shard-dataset', { run: '{% $run %}', continuation: '{% $continuation %}' }, then('DatasetComplete', {
        Assign: { continuation: '{% $states.result.Payload.continuation %}', shards: '{% $states.result.Payload.shards %}' },
      })),
      DatasetComplete: {
        Type: 'Choice',
        Comment: 'A function has 15 minutes; a large dataset takes several calls.',
        Choices: [{ Condition: '{% $continuation != null %}', Next: 'ShardDataset' }],
        Default: 'FitForeground',
      },
      FitForeground: batch('fit-foreground', {}, then('AnalyzeForeground')),
      AnalyzeForeground: batch('analyze-foreground', { arraySize: '{% $shards %}' }, then('PlanViews')),
      PlanViews: lambda('plan-views', { run: '{% $run %}' }, then('GenerateViews')),
      GenerateViews: batch('generate-views', { arraySize: '{% $shards %}' }, then('Train')),
      Train: {
        Type: 'Parallel',
        Branches: [
          {
            StartAt: 'Variants',
            States: {
              Variants: {
                Type: 'Map',
                Items: '{% $variants %}',
                ItemProcessor: {
                  ProcessorConfig: { Mode: 'INLINE' },
                  StartAt: 'OneNode',
                  States: {
                    OneNode: { Type: 'Choice', Choices: [{ Condition: '{% $states.input.nodes > 1 %}', Next: 'PretrainNodes' }], Default: 'Pretrain' },
                    Pretrain: batch('pretrain', { variant }, { Output: '{% $states.input %}', Next: 'Evaluate' }),
                    PretrainNodes: batch('pretrain-nodes', { variant, nodes: '$states.input.nodes' }, { Output: '{% $states.input %}', Next: 'Evaluate' }),
                    Evaluate: {
                      Type: 'Parallel',
                      Branches: [probe('linear-probe', 'LinearProbe'), probe('nearest-neighbours', 'NearestNeighbours'), probe('semi-supervised', 'SemiSupervised')],
                      Output: {},
                      End: true,
                    },
                  },
                },
                Output: {},
                End: true,
              },
            },
          },
          { StartAt: 'PairSimilarity', States: { PairSimilarity: batch('pair-similarity', {}, { Output: {}, End: true }) } },
        ],
        ...then('Report'),
      },
      Report: lambda('report', { run: '{% $run %}' }, {
        Output: { run: '{% $run %}', report: '{% $states.result.Payload.report %}' },
        Catch: failed(),
        End: true,
      }),
      RecordFailure: lambda('record-failure', { run: '{% $run %}', error: '{% $failure.Error %}', cause: '{% $failure.Cause %}' }, {
        Output: {},
        Catch: [{ ErrorEquals: ['States.ALL'], Output: {}, Next: 'Failed' }],
        Next: 'Failed',
      }),
      Failed: { Type: 'Fail', Error: '{% $failure.Error %}', Cause: '{% $failure.Cause %}' },
    },
  };
}

/** What a deployed definition says of the deployment's store; undefined where it is another's definition, or says nothing. */
export function storeOfDefinition(definition: { readonly Comment?: unknown }): string | undefined {
  return toldBy(definition)?.store;
}

/** What a deployed definition says of the deployment's machines; undefined where it says nothing, or what another version of GenView wrote. */
export function machinesOfDefinition(definition: { readonly Comment?: unknown }): DeployedMachines | undefined {
  const told = toldBy(definition)?.machines;
  return told === undefined ? undefined : readMachines(told);
}

function toldBy({ Comment }: { readonly Comment?: unknown }): { readonly machines?: string | undefined; readonly store?: string | undefined } | undefined {
  if (typeof Comment !== 'string' || !Comment.startsWith(purpose)) return undefined;
  return new RegExp(`^(?:${machinesMark}(?<machines>\\{.*?\\}))?(?:${storeMark}(?<store>.*))?$`).exec(Comment.slice(purpose.length))?.groups;
}

/** How a task ends: its fields beside Type, Resource, Arguments and Retry. */
type Flow = Partial<Pick<TaskState, 'Output' | 'Assign' | 'Catch' | 'Next' | 'End'>>;

interface BatchOptions {
  /** Expression for the variant's name. */
  readonly variant?: string;
  readonly arraySize?: string;
  /** JSONata for the processes of a multi-node job. */
  readonly nodes?: string;
}
