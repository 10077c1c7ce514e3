import { createHash, randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import os from 'node:os';

/** Who holds a lock or a lease, so that others can tell whether the holder still lives. */
export interface ProcessIdentity {
  /** Same value = same process table: host, boot and (on Linux) PID namespace. */
  readonly machine: string;
  readonly pid: number;
  /** Start time of the process where the system tells it, else ''. Tells a reused pid from the old one. */
  readonly started: string;
}

function readOr<T>(read: () => T, otherwise: T): T {
  try { return read(); } catch { return otherwise; }
}

/** State and start time: fields 3 and 22, where the system tells them. */
function statOf(pid: number): { readonly state: string | undefined; readonly started: string | undefined } {
  const stat = readOr(() => readFileSync(`/proc/${pid}/stat`, 'utf8'), '');
  // The second field is the program's name in parentheses and may hold anything.
  const fields = stat === '' ? [] : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0], started: fields[19] };
}

const machine = createHash('sha256').update(JSON.stringify([
  os.hostname(),
  readOr(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'), ''),
  readOr(() => readlinkSync('/proc/self/ns/pid'), ''),
])).digest('hex').slice(0, 16);

export const thisProcess: ProcessIdentity = { machine, pid: process.pid, started: statOf(process.pid).started ?? '' };

/** Unique in this process and over machines. */
export function uniqueToken(): string {
  return randomUUID().replaceAll('-', '');
}

/** undefined: on another machine, nothing can be said. */
export function isAlive(other: ProcessIdentity): boolean | undefined {
  if (other.machine !== machine) return undefined;
  try { process.kill(other.pid, 0); } catch (error) { if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false; }
  const { state, started } = statOf(other.pid);
  // Dead, and not yet collected by its parent: in a container whose first process collects none it stays so.
  if (state === 'Z' || state === 'X') return false;
  return other.started === '' || started === undefined || started === other.started;
}
