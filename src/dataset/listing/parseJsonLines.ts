/** Values of whole JSON lines at once, which takes half the time of line by line. */
export function parseJsonLines<T>(lines: Uint8Array): T[] {
  return JSON.parse(`[${new TextDecoder().decode(lines).trimEnd().replaceAll('\n', ',')}]`) as T[];
}
