import { Command } from 'commander';
import { hostname } from 'node:os';
import { Interrupted, interruptible } from './interruption.ts';
import { prose, wholeNumber, withEngineOptions } from './options.ts';

export function workerCommand(): Command {
  return withEngineOptions(new Command('worker'))
    .summary('do the work of a deployment on this machine')
    .description(prose(`Takes tasks of a deployment that was made with \`cdk deploy -c target=localstack\` and does them on
this machine, with its GPU when it has one: the stages that AWS Batch runs otherwise, and the functions. Start as many
workers as there are machines, at any time; each takes what is next.

SIGTERM or Ctrl-C gives back what it works on, and another worker goes on from there. So it is when a worker or
its machine dies, after a minute. AWS_ENDPOINT_URL says which server to ask when it is not AWS itself.`))
    .option('--activities <names>', 'what to do, separated by commas: stages (generate-views, pretrain, …), functions, or the groups jobs and functions (default: all)')
    .option('--concurrency <n>', 'tasks at a time (default: the cores of this machine; 1 with a GPU)', wholeNumber(1))
    .option('--store <folder or URL>', 'refuse tasks of any other store (default: take all)')
    .option('--deployment <name>', 'which deployment to work for, by the name of its options', 'genview')
    .option('--name <name>', 'shown in the history of executions (default: host and process)')
    .addHelpText('after', `
Examples:
  genview worker
  genview worker --activities analyze-foreground,generate-views,pretrain,pretrain-nodes --device cuda
  AWS_ENDPOINT_URL=http://127.0.0.1:4566 genview worker --activities functions`)
    .action(runWorkerCommand);
}

interface Options {
  readonly activities?: string;
  readonly concurrency?: number;
  readonly store?: string;
  readonly deployment: string;
  readonly name?: string;
}

async function runWorkerCommand(options: Options): Promise<void> {
  const [{ findActivities, parseActivities }, { openStepFunctions }, { createTaskRunner }, { runWorker }, { currentDevice, announceEngine, gpuIndex }, { openStore }] = await Promise.all([
    import('../worker/activities.ts'), import('../worker/client.ts'), import('../worker/task.ts'), import('../worker/worker.ts'), import('../runtime/device.ts'), import('../storage/index.ts'),
  ]);
  const wanted = options.activities === undefined ? undefined : parseActivities(options.activities);
  const store = options.store === undefined ? undefined : openStore(options.store).root;
  let stopped = false;
  try {
    await interruptible(async ({ log, signal, threads: cores }) => {
      await announceEngine(log);
      const service = await openStepFunctions();
      const activities = await findActivities(service, options.deployment, wanted);
      const onGpu = process.env['GENVIEW_EXECUTOR'] !== 'tensorflow' && gpuIndex((await currentDevice()).device) !== undefined;
      const concurrency = options.concurrency ?? (onGpu ? 1 : cores);
      const name = (options.name ?? `${hostname()}-${process.pid}`).slice(0, 80);
      log.info(`worker ${name}: ${concurrency} at a time of ${activities.map((activity) => activity.name).join(', ')}`);
      const runTask = createTaskRunner({
        log, cores,
        ...(store !== undefined && { store }),
        // On a GPU the processor decodes for as many processes as there are tasks.
        ...(onGpu && { batch: { threads: () => Math.max(1, Math.floor(cores / concurrency)) } }),
      });
      await runWorker({ ...service, activities, runTask, concurrency, name, log, signal });
      stopped = true;
      log.info(`worker ${name} stopped; nothing is left on its hands`);
    });
  } catch (error) {
    // The ordinary end of a worker.
    if (!(stopped && error instanceof Interrupted)) throw error;
  }
}
