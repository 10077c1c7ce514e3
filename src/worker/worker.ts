import type { SFNClient } from '@aws-sdk/client-sfn';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';
import { activityInput, defaultHeartbeatSeconds, taskReturned } from '../workflow/activities.ts';
import { StatesError } from '../workflow/asl/errors.ts';
import type { Activity } from './activities.ts';
import { explainCall, isGone, isPassing, type Sdk } from './client.ts';
import { toFailure } from './failure.ts';
import { Hands } from './hands.ts';
import { startHeartbeat, type Heartbeat } from './heartbeat.ts';
import type { RunTask } from './task.ts';

export interface WorkerOptions {
  readonly sdk: Sdk;
  readonly client: SFNClient;
  readonly activities: readonly Activity[];
  readonly runTask: RunTask;
  /** Tasks at a time. */
  readonly concurrency: number;
  /** Shown in the history of executions, beside the tasks that this worker took. At most 80 characters. */
  readonly name: string;
  readonly log: Log;
  /** Stops the worker: it takes no more, ends what it runs, and gives it back. */
  readonly signal: AbortSignal;
  /** Milliseconds that a task which comes while all hands are full is kept for a hand to become free. @default 10000 */
  readonly hold?: number;
  /** Milliseconds to wait for polls that are under way when the worker is stopped; a poll lasts a minute. @default 65000 */
  readonly patience?: number;
  /** Milliseconds between attempts to reach the server: the first pause and the longest. @default [1000, 30000] */
  readonly pauses?: readonly [number, number];
}

/** Milliseconds after which the report of a result is given up: by then the server has missed many heartbeats. Less for a worker that is to stop. */
const reportFor = 600_000, reportForStopping = 15_000;
/** Milliseconds after which an answer is not waited for any longer: of a report, and of a poll, which the server holds open for a minute. */
const reportTimeout = 30_000, pollTimeout = 90_000;

interface Task {
  readonly token: string;
  readonly input: string;
}

/**
 * Works off the tasks of Activities: long-polls each of them while it has a hand free, runs the task, sends heartbeats,
 * reports. A task that comes while all hands are full and stay so, or once the worker is stopped, is given back unharmed
 * (`TaskReturned`), and whoever is next takes it. A task that the workflow no longer waits for is ended without a report.
 *
 * Resolves once the signal has aborted and everything is given back; rejects when an Activity no longer exists or the
 * server refuses the calls.
 */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const { sdk, client, activities, runTask, concurrency, log } = options;
  const [shortest, longest] = options.pauses ?? [1000, 30_000];
  /** Aborts by the caller's signal, or when a poll shows that there is no use in going on. */
  const broken = new AbortController();
  const stop = AbortSignal.any([options.signal, broken.signal]);
  /** Ends polls that outlast the worker's patience. */
  const hangUp = new AbortController();
  const working = new Set<Promise<void>>();
  const hands = new Hands(concurrency);

  /** Repeats a call that fails for a reason that passes. */
  const persist = async <T>(what: string, call: () => Promise<T>, giveUp: (since: number) => boolean): Promise<T> => {
    const since = performance.now();
    for (let pause = shortest; ; pause = Math.min(2 * pause, longest)) {
      try { return await call(); } catch (error) {
        if (!isPassing(error) || giveUp(since)) throw error;
        if (pause === shortest) log.warn(`${what}: ${(explainCall(error) as Error).message}; trying again`);
        await sleep(pause, undefined, { signal: hangUp.signal }).catch(() => undefined);
      }
    }
  };
  const report = async (what: string, send: (options: { abortSignal: AbortSignal }) => Promise<unknown>): Promise<void> => {
    try { await persist(what, () => send({ abortSignal: AbortSignal.timeout(reportTimeout) }), (since) => performance.now() - since > (stop.aborted ? reportForStopping : reportFor)); } catch (error) {
      // Nobody waits for it: another worker has the task, or its execution has ended.
      log.warn(`${what} ${isGone(error) ? 'was not wanted any more' : `could not be reported: ${(error as Error).message}`}`);
    }
  };
  const giveBack = (activity: Activity, { token }: Task, why: string): Promise<void> =>
    report(`giving ${activity.name} back`, (call) => client.send(new sdk.SendTaskFailureCommand({ taskToken: token, error: taskReturned, cause: `worker ${options.name}: ${why}` }), call));

  const beat = (activity: Activity, { token }: Task, input: unknown): Heartbeat =>
    startHeartbeat(activityInput.safeParse(input).data?.HeartbeatSeconds ?? defaultHeartbeatSeconds,
      (abortSignal) => client.send(new sdk.SendTaskHeartbeatCommand({ taskToken: token }), { abortSignal }), isGone,
      (error) => log.warn(`the heartbeat of ${activity.name} does not arrive: ${(error as Error).message}`));

  const work = async (activity: Activity, task: Task, input: unknown, heartbeat: Heartbeat): Promise<void> => {
    try {
      const output = JSON.stringify(await runTask(input, AbortSignal.any([stop, heartbeat.gone])));
      await report(`the result of ${activity.name}`, (call) => client.send(new sdk.SendTaskSuccessCommand({ taskToken: task.token, output }), call));
    } catch (error) {
      if (heartbeat.gone.aborted) log.warn(`${activity.name} was ended: the workflow does not wait for it any more`);
      else if (stop.aborted) await giveBack(activity, task, 'stopped');
      else {
        const failure = error instanceof StatesError ? error : new StatesError('InternalError', error instanceof Error ? error.stack ?? error.message : String(error));
        await report(`the failure of ${activity.name}`, (call) => client.send(new sdk.SendTaskFailureCommand({ taskToken: task.token, ...toFailure(failure) }), call));
      }
    } finally {
      heartbeat.stop();
    }
  };

  const take = async (activity: Activity): Promise<Task | undefined> => {
    const { taskToken, input } = await persist(`waiting for ${activity.name}`,
      () => client.send(new sdk.GetActivityTaskCommand({ activityArn: activity.arn, workerName: options.name }), { abortSignal: AbortSignal.any([hangUp.signal, AbortSignal.timeout(pollTimeout)]) }), () => stop.aborted);
    return taskToken ? { token: taskToken, input: input ?? 'null' } : undefined;
  };

  const serve = async (activity: Activity): Promise<void> => {
    while (!stop.aborted) {
      await hands.available(stop);
      if (stop.aborted) return;
      let task: Task | undefined;
      try { task = await take(activity); } catch (error) {
        if (stop.aborted) return;
        // The execution that a task belonged to has ended meanwhile: that is what some servers answer to the poll that was to get it.
        if (isGone(error)) continue;
        throw explainCall(error);
      }
      if (task === undefined) continue;
      const input = parse(task.input);
      const heartbeat = beat(activity, task, input);
      if (!await hands.take(options.hold ?? 10_000, stop)) {
        heartbeat.stop();
        await giveBack(activity, task, stop.aborted ? 'stopped' : 'has its hands full');
        continue;
      }
      const job = work(activity, task, input, heartbeat).finally(() => { working.delete(job); hands.giveBack(); });
      working.add(job);
    }
  };

  const servers = activities.map((activity) => serve(activity).catch((error: unknown) => { broken.abort(error); throw error; }));
  const ended = Promise.allSettled(servers);
  await Promise.race([ended, once(stop)]);
  const timer = setTimeout(() => hangUp.abort(), options.patience ?? 65_000);
  await ended;
  clearTimeout(timer);
  await Promise.all(working);
  if (broken.signal.aborted) throw broken.signal.reason;
}

function once(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => { if (signal.aborted) resolve(); else signal.addEventListener('abort', () => resolve(), { once: true }); });
}

/** Text that is no JSON is refused where the task is checked. */
function parse(text: string): unknown {
  try { return JSON.parse(text) as unknown; } catch { return text; }
}
