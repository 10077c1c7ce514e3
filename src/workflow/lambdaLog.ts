import { LogFormatter, Logger, LogItem } from '@aws-lambda-powertools/logger';
import type { LogAttributes, UnformattedAttributes } from '@aws-lambda-powertools/logger/types';
import type { Log } from '../log.ts';
import type { InvocationContext } from './lambda.ts';

const levels: Readonly<Record<string, string>> = { INFO: 'info', WARN: 'warning', ERROR: 'error' };

/** The lines that every program of ours writes with GENVIEW_LOG=json, and what Lambda knows about the call. */
class OurFormat extends LogFormatter {
  override formatAttributes({ timestamp, logLevel, message, lambdaContext, xRayTraceId }: UnformattedAttributes, more: LogAttributes): LogItem {
    return new LogItem({ attributes: {
      time: timestamp.toISOString(), level: levels[logLevel] ?? logLevel, message,
      request: lambdaContext?.awsRequestId, function: lambdaContext?.functionName, coldStart: lambdaContext?.coldStart, trace: xRayTraceId,
    } }).addAttributes(more);
  }
}

/** Milliseconds between two lines of a progress display. */
const progressEvery = 5000;

/**
 * The log of a Lambda function, by Powertools: one JSON object a line, with stage, run, request, cold start and X-Ray trace. Powertools' own
 * variables apply (POWERTOOLS_LOG_LEVEL; Lambda's advanced logging controls).
 */
export function createLambdaLog(stage: string): { of(context: InvocationContext, fields: Record<string, string>): Log } {
  const logger = new Logger({ persistentKeys: { stage }, logFormatter: new OurFormat() });
  const write = (level: 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>): void => logger[level](message, (fields ?? {}) as LogAttributes);
  return {
    of(context, fields) {
      logger.resetKeys();
      logger.addContext({ functionName: process.env['AWS_LAMBDA_FUNCTION_NAME'], ...context } as unknown as Parameters<typeof logger.addContext>[0]);
      logger.appendKeys(fields);
      return {
        info: (message, more) => write('info', message, more),
        warn: (message, more) => write('warn', message, more),
        error: (message, more) => write('error', message, more),
        progress(label, total, unit, from = 0) {
          let count = from, last = Date.now();
          const say = (note = ''): void => write('info', `${label} ${count}/${total} ${unit}${note && `, ${note}`}`, { progress: count, total });
          return {
            advance(units = 1, note) {
              count += units;
              if (Date.now() - last < progressEvery) return;
              last = Date.now();
              say(note);
            },
            done: () => say(),
          };
        },
      };
    },
  };
}
