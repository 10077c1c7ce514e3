import { GenViewError } from '../errors.ts';

/** Throws `EnvironmentInvalid` where an endpoint or region in the environment is none: the SDKs would say so with a stack trace and no name. */
export function checkAwsEnvironment(): void {
  for (const [name, value = ''] of Object.entries(process.env)) {
    if (/^AWS_ENDPOINT_URL(_\w+)?$/.test(name) && value !== '' && !(/^https?:\/\/./i.test(value) && URL.canParse(value))) {
      throw new GenViewError('EnvironmentInvalid', `${name}=${value} is no URL; write http://host:port or https://host, or unset it for AWS itself`);
    }
    if ((name === 'AWS_REGION' || name === 'AWS_DEFAULT_REGION') && value !== '' && !/^[a-z0-9-]+$/i.test(value)) {
      throw new GenViewError('EnvironmentInvalid', `${name}=${value} is no region; write its name, for example us-east-1`);
    }
  }
}
