import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Call {
  readonly action: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** The part of Step Functions' protocol (AWS JSON 1.0 over HTTP) that a worker speaks. */
export interface ActivityServer {
  readonly url: string;
  /** What was asked, in order. */
  readonly calls: Call[];
  of(action: string): Call[];
  /** Puts a task into the queue of an activity. */
  add(activity: string, token: string, input: unknown): void;
  /** Answers the next calls of an action with errors, by HTTP status and name. */
  refuse(action: string, ...errors: readonly (readonly [number, string])[]): void;
  /** Answers the polls of a worker that is to stop, those under way and later ones at once: there is no task. */
  endPolls(): void;
  stop(): Promise<void>;
}

/** @param pollSeconds how long a poll without a task lasts, as AWS has it: longer than any test waits for one */
export async function startActivityServer(activities: readonly string[], pollSeconds = 60): Promise<ActivityServer> {
  let polls = true;
  const calls: Call[] = [], refusals = new Map<string, (readonly [number, string])[]>();
  const queues = new Map(activities.map((name) => [name, { tasks: [] as object[], polls: [] as ((task: object) => void)[] }]));
  const arn = (name: string): string => `arn:aws:states:us-east-1:000000000000:activity:${name}`;
  const server = createServer((request, response: ServerResponse) => {
    let text = '';
    request.setEncoding('utf8').on('data', (part: string) => { text += part; }).on('end', () => {
      const action = String(request.headers['x-amz-target']).split('.')[1]!, body = JSON.parse(text) as Record<string, string>;
      calls.push({ action, body });
      const answer = (value: object, status = 200): void => { response.writeHead(status, { 'content-type': 'application/x-amz-json-1.0' }).end(JSON.stringify(value)); };
      const refusal = refusals.get(action)?.shift();
      if (refusal) { answer({ __type: refusal[1], message: 'refused' }, refusal[0]); return; }
      if (action === 'ListActivities') answer({ activities: activities.map((name) => ({ name, activityArn: arn(name), creationDate: 0 })) });
      else if (action === 'GetActivityTask') {
        const queue = queues.get(body['activityArn']!.split(':').at(-1)!)!;
        const task = queue.tasks.shift();
        if (task || !polls) { answer(task ?? {}); return; }
        const give = (given: object): void => { clearTimeout(timer); queue.polls = queue.polls.filter((poll) => poll !== give); answer(given); };
        const timer = setTimeout(() => give({}), 1000 * pollSeconds);
        queue.polls.push(give);
      } else answer({});
    });
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    of: (action) => calls.filter((call) => call.action === action),
    add(activity, taskToken, input) {
      const queue = queues.get(activity)!, task = { taskToken, input: JSON.stringify(input) };
      const poll = queue.polls.shift();
      if (poll) poll(task); else queue.tasks.push(task);
    },
    refuse: (action, ...errors) => { refusals.set(action, [...errors]); },
    endPolls() { polls = false; for (const { polls: open } of queues.values()) for (const give of open) give({}); },
    stop: () => new Promise((resolve) => { server.close(() => resolve()); server.closeAllConnections(); }),
  };
}
