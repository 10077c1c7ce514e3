/** When a call has to come to an end by itself, early enough to leave what the next one goes on with. */
export interface Deadline {
  /** Milliseconds, negative once it has passed. */
  left(): number;
  passed(): boolean;
}

export function deadlineIn(milliseconds: number): Deadline {
  const end = performance.now() + milliseconds;
  const left = (): number => end - performance.now();
  return { left, passed: () => left() <= 0 };
}
