import { createHash } from 'node:crypto';
import type { ObjectInfo, ObjectStore } from '../../storage/objectStore.ts';

/** An etag that a copy of the file has too. Large files of a folder have one of their own making only. */
export async function contentTag(images: ObjectStore, info: ObjectInfo): Promise<string> {
  if (!images.root.startsWith('file:') || !info.etag.includes('-')) return info.etag;
  const hash = createHash('md5');
  for await (const chunk of await images.getStream(info.key) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex');
}
