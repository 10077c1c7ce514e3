import { performance } from 'node:perf_hooks';
import { handler } from '../../lambdas/shard-dataset/handler.ts';

/** A process that stands for one Lambda execution environment: takes an event, answers with what the function returned. */
process.on('message', ({ event, limit, id }: { event: unknown; limit: number; id: string }) => {
  const start = performance.now();
  const context = { awsRequestId: id, getRemainingTimeInMillis: () => limit - (performance.now() - start) };
  const before = process.cpuUsage();
  const usage = (): object => {
    const { user, system } = process.cpuUsage(before);
    return { milliseconds: performance.now() - start, cpuSeconds: (user + system) / 1e6, peakRss: process.resourceUsage().maxRSS * 1024 };
  };
  void handler(event, context).then(
    (result) => process.send!({ result, ...usage() }),
    (error: Error) => process.send!({ error: { name: error.name, message: error.message, stack: error.stack }, ...usage() }),
  );
});
