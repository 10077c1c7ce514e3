import { InvalidArgumentError, Option, type Command } from 'commander';
import { fileURLToPath } from 'node:url';

/** Paragraphs of a help text: line breaks of the source go, since commander breaks lines where the terminal ends. */
export function prose(text: string): string {
  return text.replace(/(?<!\n)\n(?!\n)/g, ' ');
}

/** Everything a run makes lies under here. */
export const storeOption = (): Option => new Option('--store <folder or URL>', 'where the data, views, encoders and reports go: a folder, or s3://bucket/prefix').default('.genview').env('GENVIEW_STORE');

export const jsonOption = (): Option => new Option('--json', 'print the result as JSON on standard output');

/**
 * `--device` and `--executor` of a command that runs programs. They travel in the environment, which the processes that the
 * command starts inherit.
 */
export function withEngineOptions(command: Command): Command {
  return command
    .option('--device <device>', 'cpu, cuda or cuda:<n> (default: $GENVIEW_DEVICE, else a GPU that can be used, else cpu)')
    .addOption(new Option('--executor <name>', 'what runs the networks (default: $GENVIEW_EXECUTOR, else onnxruntime)').choices(['onnxruntime', 'tensorflow']))
    .hook('preAction', async (_parent, called) => {
      const { device, executor } = called.opts<{ device?: string; executor?: string }>();
      if (device !== undefined) {
        const { parseDevice } = await import('../runtime/device.ts');
        parseDevice(device, '--device');
        process.env['GENVIEW_DEVICE'] = device;
      }
      if (executor !== undefined) process.env['GENVIEW_EXECUTOR'] = executor;
    });
}

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
