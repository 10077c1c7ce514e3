import { expect, it } from 'vitest';
import { checkMd5 } from '../../src/storage/md5.ts';

const read = async (md5: string): Promise<string> => {
  let text = '';
  async function* chunks(): AsyncGenerator<Buffer> { yield Buffer.from('fo'); yield Buffer.from('ur'); }
  for await (const chunk of checkMd5(chunks(), md5, (found) => new Error(`is ${found}`))) text += Buffer.from(chunk).toString();
  return text;
};

it('lets through what has the MD5, and fails at the end of what has another', async () => {
  // From md5sum.
  expect(await read('8cbad96aced40b3838dd9f07f6ef5772')).toBe('four');
  expect(await read('8CBAD96ACED40B3838DD9F07F6EF5772')).toBe('four');
  await expect(read('8cbad96aced40b3838dd9f07f6ef5773')).rejects.toThrow('is 8cbad96aced40b3838dd9f07f6ef5772');
});
