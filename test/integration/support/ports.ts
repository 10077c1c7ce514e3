import type { ChildProcess } from 'node:child_process';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A port of this machine that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until the server listens, at most five minutes. Throws when it ends before. */
export async function waitForPort(port: number, server: ChildProcess): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (server.exitCode !== null || server.signalCode !== null) break;
    const open = await new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
      socket.on('error', () => resolve(false));
    });
    if (open) return;
    await sleep(100);
  }
  throw new Error(`${server.spawnfile} does not listen on port ${port}${server.exitCode === null ? '' : `; it ended with ${server.exitCode}`}`);
}
