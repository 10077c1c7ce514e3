import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3';
import { ExitCode, GenViewError } from '../errors.ts';
import { checkAwsEnvironment } from './awsEnvironment.ts';
import { checkKey, checkPrefix, isWellFormed } from './key.ts';
import type { ObjectInfo, ObjectStore, PutOptions } from './objectStore.ts';
import { uniqueToken } from './processIdentity.ts';
import { retryStrategy, waitBefore } from './s3Retry.ts';

/** Bodies above this many bytes, and streams, are sent in parts of this size. */
const partSize = 8 * 2 ** 20;
/** Connections in a row that may break without giving a byte of a body; each goes on where the last one stopped. */
const readAttempts = 5;
/** Metadata of an object that names the call that put it. */
const tokenName = 'genview-put';
/** Metadata of an object that tells the MD5 of its content, which its etag does not where KMS encrypts it or it was sent in parts. */
const md5Name = 'genview-md5';

type Sdk = typeof import('@aws-sdk/client-s3');

/**
 * Objects under a prefix of a bucket. Credentials and region come from where the AWS SDK finds them; with
 * `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` set, that server is used, with the bucket in the path.
 *
 * Failures that may pass are waited for (see `retryStrategy`), and a conditional put whose answer was lost is recognised
 * as this call's own when the server refuses its repetition.
 *
 * | variable | meaning |
 * | --- | --- |
 * | GENVIEW_S3_PATIENCE | seconds in which a failing request is tried again. @default 120; 8 while no server has answered, outside Batch jobs |
 * | GENVIEW_S3_TIMEOUT | seconds of silence after which a connection is given up and the request tried again. @default 60 |
 */
export class S3Store implements ObjectStore {
  readonly root: string;
  readonly #bucket: string;
  readonly #prefix: string;
  #clientPromise: Promise<{ sdk: Sdk; client: S3Client }> | undefined;

  /** @param url `s3://bucket` or `s3://bucket/prefix`. Throws `StoreUrlInvalid`. */
  constructor(url: string) {
    const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/s.exec(url);
    if (!match) throw new GenViewError('StoreUrlInvalid', `${url} is not a usable s3: URL; write s3://bucket/prefix with a valid bucket name`);
    this.#bucket = match[1]!;
    const prefix = (match[2] ?? '').replace(/\/+$/, '');
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.root = `s3://${this.#bucket}/${this.#prefix}`;
  }

  url(key: string): string {
    return this.root + key;
  }

  #client(): Promise<{ sdk: Sdk; client: S3Client }> {
    // Loaded on first use: half a second that programs without a bucket do not spend.
    return this.#clientPromise ??= openClient();
  }

  #key(key: string): string {
    checkKey(this.root, key);
    const whole = this.#prefix + key;
    if (!isWellFormed(key)) throw new GenViewError('KeyInvalid', `object key ${JSON.stringify(key)} under ${this.root} is not Unicode`);
    if (Buffer.byteLength(whole) > 1024) throw new GenViewError('KeyInvalid', `${this.url(key).slice(0, 300)}…: the key is longer than the 1,024 bytes that S3 allows`);
    return whole;
  }

  async get(key: string, range?: { start: number; end?: number }): Promise<Uint8Array> {
    const end = range?.end;
    if (range && end !== undefined && end < range.start) return new Uint8Array(0);
    for (let attempt = 1; ; attempt++) {
      try {
        const chunks: Buffer[] = [];
        for await (const chunk of await this.#read(key, range?.start ?? 0, end)) chunks.push(chunk);
        return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
      } catch (cause) {
        if (statusOf(cause) === 416) return new Uint8Array(0);
        const error = this.#error(cause, key);
        // Replaced while it was read, or garbled on its way.
        const passes = error instanceof GenViewError && (error.code === 'ObjectChanged' || error.code === 'ObjectDamaged');
        if (!passes || attempt === readAttempts) throw error;
        await sleep(waitBefore(attempt));
      }
    }
  }

  async getStream(key: string): Promise<Readable> {
    try {
      return Readable.from(await this.#read(key, 0), { objectMode: false });
    } catch (error) { throw this.#error(error, key); }
  }

  /** The first answer is awaited, so that an absent object is this call's error; a broken connection is continued. */
  async #read(key: string, start: number, end?: number): Promise<AsyncGenerator<Buffer>> {
    const { sdk, client } = await this.#client();
    const Key = this.#key(key);
    const request = (from: number, etag?: string): Promise<GetObjectCommandOutput> => client.send(new sdk.GetObjectCommand({
      Bucket: this.#bucket, Key,
      ...(from > 0 || end !== undefined ? { Range: `bytes=${from}-${end ?? ''}` } : {}),
      ...(etag === undefined ? {} : { IfMatch: etag }),
    }));
    let answer = await request(start);
    const error = (cause: unknown): unknown => this.#error(cause, key);
    async function* bytes(): AsyncGenerator<Buffer> {
      const length = answer.ContentLength;
      let position = 0, failures = 0;
      for (;;) {
        try {
          for await (const chunk of answer.Body as Readable as AsyncIterable<Buffer>) {
            position += chunk.length;
            // A long stream may break any number of times, as when its reader pauses for longer than the server waits.
            failures = 0;
            yield chunk;
          }
          if (length === undefined || position >= length) return;
          throw Object.assign(new Error('connection closed early'), { code: 'ECONNRESET' });
        } catch (cause) {
          if (!isConnectionError(cause)) throw error(cause);
          // Broken behind the last byte.
          if (length !== undefined && position >= length) return;
          if (++failures === readAttempts) throw error(cause);
          await sleep(waitBefore(failures));
          try { answer = await request(start + position, answer.ETag); } catch (again) { throw error(again); }
        }
      }
    }
    return bytes();
  }

  async put(key: string, body: Uint8Array | string | Readable, options: PutOptions = {}): Promise<boolean> {
    const Key = this.#key(key);
    const conditions = {
      ...(options.ifNoneMatch ? { IfNoneMatch: options.ifNoneMatch } : {}),
      ...(options.ifMatch === undefined ? {} : { IfMatch: `"${options.ifMatch}"` }),
    };
    const conditional = Object.keys(conditions).length > 0;
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    const whole = !(bytes instanceof Readable) && bytes.length <= partSize;
    const token = uniqueToken();
    const parameters = {
      Bucket: this.#bucket, Key, ...(options.contentType ? { ContentType: options.contentType } : {}), ...conditions,
      Metadata: { ...(conditional || !whole ? { [tokenName]: token } : {}), ...(options.md5 === undefined ? {} : { [md5Name]: options.md5 }) },
    };
    try {
      if (conditional && !whole) {
        // Saves sending a large body for nothing. The condition still holds at the end.
        const present = await this.head(key);
        if (options.ifNoneMatch ? present : present?.etag !== options.ifMatch) { discard(bytes); return false; }
      }
      const { sdk, client } = await this.#client();
      for (let attempt = 1; ; attempt++) {
        try {
          if (whole) {
            await client.send(new sdk.PutObjectCommand({ ...parameters, Body: bytes, ContentLength: (bytes as Uint8Array).length }));
          } else {
            const { Upload } = await import('@aws-sdk/lib-storage');
            await new Upload({ client, params: { ...parameters, Body: bytes }, partSize, queueSize: 4 }).done();
          }
          return true;
        } catch (error) {
          const status = statusOf(error), name = nameOf(error);
          // Servers differ in what they say to the completion of an upload that an attempt before, whose answer was lost, has completed.
          if (!whole && await this.#isOurs(Key, token).catch(() => false)) return true;
          if (conditional && (status === 412 || (options.ifMatch !== undefined && status === 404 && name !== 'NoSuchBucket' && name !== 'NoSuchUpload'))) return whole && await this.#isOurs(Key, token);
          // Two conditional writes at once: S3 refuses one and asks to look again.
          if (status !== 409 || !conditional || bytes instanceof Readable || attempt === 8) throw error;
          await sleep(50 * 2 ** attempt * Math.random());
        }
      }
    } catch (error) {
      discard(bytes);
      throw this.#error(error, key);
    }
  }

  /**
   * Whether the object is the one that this call of `put` sent: a server that did what an attempt asked, and whose answer
   * was lost, refuses the repetition because of it.
   */
  async #isOurs(Key: string, token: string): Promise<boolean> {
    const { sdk, client } = await this.#client();
    try {
      return (await client.send(new sdk.HeadObjectCommand({ Bucket: this.#bucket, Key }))).Metadata?.[tokenName] === token;
    } catch (error) {
      if (statusOf(error) === 404) return false;
      throw error;
    }
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const Key = this.#key(key);
    try {
      const { sdk, client } = await this.#client();
      const answer = await client.send(new sdk.HeadObjectCommand({ Bucket: this.#bucket, Key }));
      const md5 = answer.Metadata?.[md5Name];
      return { key, size: answer.ContentLength ?? 0, etag: unquote(answer.ETag), ...(md5 === undefined ? {} : { md5 }) };
    } catch (error) {
      // An answer to HEAD has no body: an absent bucket is not told from an absent object.
      if (statusOf(error) === 404) return undefined;
      throw this.#error(error, key);
    }
  }

  async *list(prefix: string, options: { startAfter?: string } = {}): AsyncIterable<ObjectInfo> {
    for await (const { objects } of this.#pages(prefix, options.startAfter === undefined ? {} : { StartAfter: this.#prefix + options.startAfter })) {
      // Consoles make empty objects `folder/` to show a folder.
      yield* objects.filter(({ key }) => key !== '' && !key.endsWith('/'));
    }
  }

  async *folders(prefix: string): AsyncIterable<string[]> {
    for await (const { folders } of this.#pages(prefix, { Delimiter: '/' })) yield folders;
  }

  /** A listing, page by page; keys relative to the store. */
  async *#pages(prefix: string, parameters: { readonly StartAfter?: string; readonly Delimiter?: string }): AsyncIterable<{ objects: ObjectInfo[]; folders: string[] }> {
    checkPrefix(this.root, prefix);
    const { sdk, client } = await this.#client();
    const { StartAfter, ...always } = parameters;
    let token: string | undefined;
    do {
      let page;
      try {
        page = await client.send(new sdk.ListObjectsV2Command({
          Bucket: this.#bucket, Prefix: this.#prefix + prefix, EncodingType: 'url', ...always,
          ...(token !== undefined ? { ContinuationToken: token } : StartAfter !== undefined && { StartAfter }),
        }));
      } catch (error) { throw this.#error(error, prefix); }
      // XML cannot carry every character, so keys come percent-encoded, from servers that say so: some do not know how.
      const encoded = page.EncodingType === 'url';
      const keyOf = (name = ''): string => (encoded ? decodeURIComponent(name.replaceAll('+', ' ')) : name).slice(this.#prefix.length);
      yield {
        objects: (page.Contents ?? []).map(({ Key, Size, ETag }) => ({ key: keyOf(Key), size: Size ?? 0, etag: unquote(ETag) })),
        folders: (page.CommonPrefixes ?? []).map(({ Prefix }) => keyOf(Prefix)),
      };
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
      if (page.IsTruncated && token === undefined) throw new GenViewError('StoreFailure', `${this.url(prefix)}: the server says that its listing goes on, and not where; it does not speak the protocol of S3`);
    } while (token !== undefined);
  }

  async delete(key: string): Promise<void> {
    const Key = this.#key(key);
    try {
      const { sdk, client } = await this.#client();
      await client.send(new sdk.DeleteObjectCommand({ Bucket: this.#bucket, Key }));
    } catch (error) { throw this.#error(error, key); }
  }

  #error(error: unknown, key: string): unknown {
    if (error instanceof GenViewError) return error;
    const url = this.url(key);
    const name = nameOf(error);
    const status = statusOf(error);
    if (name === 'NoSuchBucket') return new GenViewError('BucketNotFound', `bucket ${this.#bucket} of ${url} does not exist; create it, or mend the URL`, { cause: error });
    if (name === 'NoSuchUpload') return new GenViewError('StoreFailure', `${url} was not written: the server has ended its upload; run the same command again`, { cause: error, exitCode: ExitCode.TemporaryFailure });
    if (name === 'NoSuchKey' || status === 404) return new GenViewError('ObjectNotFound', `${url} does not exist`, { cause: error });
    if (name === 'CredentialsProviderError') return new GenViewError('StoreUnreachable', `no AWS credentials to open ${url}; configure them (environment, profile or role)`, { cause: error });
    if (name === 'ExpiredToken' || name === 'TokenRefreshRequired') return new GenViewError('AccessDenied', `the AWS credentials for ${url} have expired (${name}); renew them`, { cause: error });
    if (status === 403 || status === 401) return new GenViewError('AccessDenied', `access to ${url} was denied (${name}); check credentials and the bucket's policy`, { cause: error });
    if (status === 301) return new GenViewError('StoreUnreachable', `bucket ${this.#bucket} of ${url} is in another region; set AWS_REGION to it`, { cause: error });
    if (name === 'PreconditionFailed') return new GenViewError('ObjectChanged', `${url} was replaced while it was read; run the same command again`, { cause: error, exitCode: ExitCode.TemporaryFailure });
    if (isConnectionError(error)) return new GenViewError('StoreUnreachable', `${url} cannot be reached (${(error as NodeJS.ErrnoException).code ?? name}); check network and AWS_ENDPOINT_URL`, { cause: error, exitCode: ExitCode.TemporaryFailure });
    if ((error as Error).message?.startsWith('Checksum mismatch')) return new GenViewError('ObjectDamaged', `${url} did not arrive as it is stored (${(error as Error).message}); run the same command again`, { cause: error, exitCode: ExitCode.TemporaryFailure });
    if (status !== undefined) return new GenViewError('StoreFailure', `${url}: the server answered ${status} ${name}`, { cause: error, exitCode: status >= 500 || status === 409 ? ExitCode.TemporaryFailure : ExitCode.UserError });
    return error;
  }
}

let shared: Promise<{ sdk: Sdk; client: S3Client }> | undefined;
let sharedFor = '';

/** One client, so one pool of connections, for all stores of a process. */
function openClient(): Promise<{ sdk: Sdk; client: S3Client }> {
  const endpoint = process.env['AWS_ENDPOINT_URL_S3'] ?? process.env['AWS_ENDPOINT_URL'] ?? '';
  if (shared && sharedFor === endpoint) return shared;
  checkAwsEnvironment();
  sharedFor = endpoint;
  return shared = (async () => {
    process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
    const sdk = await import('@aws-sdk/client-s3');
    const client = new sdk.S3Client({
      retryStrategy: retryStrategy({
        ...(process.env['GENVIEW_S3_PATIENCE'] ? { patience: seconds('GENVIEW_S3_PATIENCE', 120) } : {}),
        // A job is started by a workflow that has reached the store before.
        ...(process.env['AWS_BATCH_JOB_ID'] ? { firstPatience: Infinity } : {}),
      }),
      requestHandler: { connectionTimeout: 5000, socketTimeout: 1000 * seconds('GENVIEW_S3_TIMEOUT', 60) },
      ...(endpoint === '' ? {} : { endpoint, forcePathStyle: true }),
      // A server of one's own has no regions.
      ...(endpoint !== '' && !process.env['AWS_REGION'] && !process.env['AWS_DEFAULT_REGION'] ? { region: 'us-east-1' }
        : process.env['AWS_DEFAULT_REGION'] && !process.env['AWS_REGION'] ? { region: process.env['AWS_DEFAULT_REGION'] } : {}),
    });
    try { await client.config.region(); } catch (cause) {
      shared = undefined;
      throw new GenViewError('StoreUnreachable', 'no AWS region is known; set AWS_REGION to the region of the bucket', { cause });
    }
    return { sdk, client };
  })();
}

function seconds(name: string, fallback: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return fallback;
  const value = Number(text);
  if (!(value > 0 && value <= 86_400)) throw new GenViewError('EnvironmentInvalid', `${name} is "${text}": it must be a number of seconds, more than 0 and at most 86400`);
  return value;
}

function discard(body: Uint8Array | Readable): void {
  if (body instanceof Readable && !body.destroyed) { body.on('error', () => {}); body.destroy(); }
}

function unquote(etag: string | undefined): string {
  return (etag ?? '').replace(/^"|"$/g, '');
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

function nameOf(error: unknown): string {
  return (error as Error).name;
}

function isConnectionError(error: unknown): boolean {
  const { code, name } = error as NodeJS.ErrnoException;
  return name === 'TimeoutError' || name === 'NetworkingError'
    || ['ECONNRESET', 'ECONNREFUSED', 'ENOTFOUND', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN', 'ERR_STREAM_PREMATURE_CLOSE', 'ECONNABORTED'].includes(code ?? '');
}
