import { setTimeout as sleep } from 'node:timers/promises';
import { type CloudRunStatus, describeJob } from '../cloud/status.ts';
import { formatSeconds } from '../log.ts';
import type { Target } from './cloudOptions.ts';
import { statusesOf } from './cloudRuns.ts';
import { interruptible } from './interruption.ts';
import { formatTable } from './options.ts';

/** A run's state and a line for each of its stages. */
export function formatStatus({ runId, state, execution, failure, stages }: CloudRunStatus, now = Date.now()): string {
  const took = execution && formatSeconds(((execution.stoppedAt === undefined ? now : Date.parse(execution.stoppedAt)) - Date.parse(execution.startedAt)) / 1000);
  const lines = [`${runId}: ${state}${execution ? ` ${state === 'running' ? 'for' : 'after'} ${took} (execution ${execution.name})` : ''}`];
  if (failure) lines.push(`  failed: ${failure.error}: ${failure.message.split('\n')[0]}`);
  if (stages.length === 0) lines.push('  nothing in the store yet');
  else lines.push(formatTable(stages.map(({ stage, variant, done, of, job }) => [`  ${stage}${variant ? ` ${variant}` : ''}`, done === of ? 'done' : `${done}/${of}`, ...job ? [describeJob(job)] : []])));
  return lines.join('\n');
}

/** Whether there is nothing to wait for. A run without an execution (of this machine, or started elsewhere) ends when it is done or has failed. */
function hasEnded({ state }: CloudRunStatus): boolean {
  return state !== 'running' && state !== 'unfinished';
}

/**
 * Shows a run until it has ended: rewritten in place on a terminal, elsewhere only the lines that changed; with `json` a line of
 * JSON for each change. Ctrl-C ends the watching and leaves the run alone.
 * @returns the run's last state
 */
export async function watchRun(target: Target, runId: string, { json, interval }: { readonly json?: boolean; readonly interval: number }): Promise<CloudRunStatus['state']> {
  const terminal = process.stdout.isTTY === true && json !== true;
  const goesOn = target.deployment === undefined ? 'stopped watching; the run itself is not touched' : `stopped watching; the run goes on in the cloud (\`genview cancel ${runId}\` would stop it)`;
  return interruptible(async ({ signal }) => {
    let drawn = 0, last = '', seen = new Set<string>();
    for (;;) {
      const [status] = await statusesOf(target, [runId]);
      if (status !== undefined) {
        const text = json === true ? `${JSON.stringify({ ...status, execution: status.execution && { ...status.execution, input: undefined } })}\n` : `${formatStatus(status)}\n`;
        if (json === true) { if (text !== last) process.stdout.write(text); } else if (terminal) {
          // Lines that the terminal wrapped would take more rows than they count.
          const rows = text.trimEnd().split('\n').map((line) => line.slice(0, (process.stdout.columns || 100) - 1));
          process.stdout.write(`${drawn > 0 ? `\x1b[${drawn}A\r\x1b[J` : ''}${rows.join('\n')}\n`);
          drawn = rows.length;
        } else {
          const lines = text.trimEnd().split('\n').filter((line, i) => i > 0 || last === '' || hasEnded(status));
          for (const line of lines) if (!seen.has(line)) process.stdout.write(`${line}\n`);
          seen = new Set(lines);
        }
        last = text;
        if (hasEnded(status)) return status.state;
      }
      await sleep(interval * 1000, undefined, { signal }).catch(() => {});
      signal.throwIfAborted();
    }
  }, () => goesOn);
}
