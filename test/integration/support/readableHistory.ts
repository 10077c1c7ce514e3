import type { HistoryEvent as ServerEvent } from '@aws-sdk/client-sfn';
import type { HistoryEvent } from '../../../src/workflow/asl/history.ts';

/** An event of a server's history or of our own interpreter's. */
export interface Readable {
  readonly id: number;
  readonly previous: number;
  readonly type: string;
  readonly details: Readonly<Record<string, string>>;
}

export function readable(events: readonly (HistoryEvent | ServerEvent)[]): Readable[] {
  return events.map((event) => ({
    id: Number(event.id), previous: Number(event.previousEventId), type: event.type!,
    details: (Object.entries(event).find(([key]) => key.endsWith('EventDetails'))?.[1] ?? {}) as Record<string, string>,
  }));
}
