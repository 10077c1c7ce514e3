import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { installMoto, startMoto } from './moto.ts';
import { installVersitygw, startVersitygw } from './versitygw.ts';

export interface S3Server {
  /** For this process and those it starts: where S3 is, and who we are there. */
  readonly env: Readonly<Record<'AWS_ENDPOINT_URL_S3' | 'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY', string>>;
  stop(): Promise<void>;
  /** Kills the server and starts it again on the same data after so many seconds; absent where data are in memory only. */
  restart?(seconds: number): Promise<void>;
}

/** Independent implementations of S3's protocol that install from public registries. `install` says why not when one cannot be had. */
export const s3Servers: readonly { readonly name: string; readonly install: () => string | undefined; readonly start: (bucket: string) => Promise<S3Server> }[] = [
  {
    name: 'moto',
    install: installMoto,
    async start(bucket) {
      const moto = await startMoto(bucket);
      return { env: moto.env as S3Server['env'], async stop() { moto.stop(); } };
    },
  },
  {
    name: 'versitygw',
    install: installVersitygw,
    async start(bucket) {
      const server = await startVersitygw();
      const client = clientOf(server);
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      client.destroy();
      return server;
    },
  },
];

/** A plain client of the SDK, to look at what our store has left on a server. */
export function clientOf({ env }: Pick<S3Server, 'env'>): S3Client {
  return new S3Client({
    endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true, region: 'us-east-1', maxAttempts: 10,
    credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
  });
}
