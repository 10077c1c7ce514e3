import { InvalidArgumentError, Option } from 'commander';
import { fileURLToPath } from 'node:url';

/** Paragraphs of a help text: line breaks of the source go, since commander breaks lines where the terminal ends. */
export function prose(text: string): string {
  return text.replace(/(?<!\n)\n(?!\n)/g, ' ');
}

/** Everything a run makes lies under here. */
export const storeOption = (): Option => new Option('--store <folder or URL>', 'where the data, views, encoders and reports go: a folder, or s3://bucket/prefix').default('.genview');

export const jsonOption = (): Option => new Option('--json', 'print the result as JSON on standard output');

/** For `--option <n>`. */
export function wholeNumber(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < minimum) throw new InvalidArgumentError(`It must be a whole number, at least ${minimum}.`);
    return value;
  };
}

/** A `file:` URL as a path, which a person can open and copy; other URLs as they are. */
export function readable(url: string): string {
  return url.startsWith('file:') ? fileURLToPath(url) : url;
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** Columns as wide as their widest cell; the first aligned left, the others as asked. */
export function formatTable(rows: readonly (readonly string[])[], align: 'left' | 'right' = 'left'): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => row.map((cell, column) => column === 0 || align === 'left' ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join('  ').trimEnd()).join('\n');
}
