import { ExitCode, GenViewError } from '../errors.ts';

/** Codes of connections that failed on their way. */
export const connectionErrors: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EHOSTUNREACH', 'ENOTFOUND', 'ETIMEDOUT', 'EAI_AGAIN', 'EPIPE']);

/** Names of errors by which AWS refuses the credentials themselves, not what was asked for with them. */
export const credentialErrors: ReadonlySet<string> = new Set(['ExpiredTokenException', 'UnrecognizedClientException', 'InvalidSignatureException']);

/** What a person can do where a call has not come to a service of AWS, or not to AWS; undefined for all other errors. */
export function explainUnreachable(error: Error, service: string): GenViewError | undefined {
  const { name, message } = error, { code } = error as NodeJS.ErrnoException;
  const unreachable = (what: string, exitCode: number = ExitCode.UserError): GenViewError => new GenViewError('CloudUnreachable', what, { cause: error, exitCode });
  if (/Region is missing/.test(message)) return unreachable('no AWS region is known; set AWS_REGION to the region that GenView is deployed in');
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError') return unreachable(`no AWS credentials for ${service} (${message.split('\n')[0]}); configure them: environment, profile (AWS_PROFILE) or role`);
  // A web page where JSON was expected.
  if (name === 'SyntaxError') return unreachable(`what answers for ${service} does not speak its protocol; check AWS_ENDPOINT_URL`);
  if (code !== undefined && connectionErrors.has(code) || name === 'TimeoutError') return unreachable(`${service} cannot be reached (${code ?? name}); check network, AWS_REGION and AWS_ENDPOINT_URL`, ExitCode.TemporaryFailure);
  return undefined;
}
