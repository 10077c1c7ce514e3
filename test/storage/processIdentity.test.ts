import { spawn } from 'node:child_process';
import { once as event } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { isAlive, thisProcess } from '../../src/storage/processIdentity.ts';

it('a process is alive as long as it runs, under its own number and start', () => {
  expect(isAlive(thisProcess)).toBe(true);
  expect(isAlive({ ...thisProcess, machine: 'another' })).toBeUndefined();
  if (thisProcess.started !== '') expect(isAlive({ ...thisProcess, started: '1' })).toBe(false);
});

it('a process that has ended is not alive, collected by its parent or not', async ({ skip }) => {
  if (process.platform !== 'linux') return skip('the state of a process is told by /proc on Linux only');
  // What the shell becomes does not collect the child that it had as a shell.
  const parent = spawn('sh', ['-c', 'sleep 1 & echo $!; exec sleep 1000'], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const [text] = await event(parent.stdout.setEncoding('utf8'), 'data') as [string];
    const pid = Number(text);
    while (!/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) await sleep(10);
    expect(isAlive({ machine: thisProcess.machine, pid, started: '' })).toBe(false);
  } finally { parent.kill('SIGKILL'); }
  await event(parent, 'exit');
  expect(isAlive({ machine: thisProcess.machine, pid: parent.pid!, started: '' })).toBe(false);
});
