import { describe, expect, it } from 'vitest';
import { jsonLinesList } from '../../../src/dataset/list/jsonLines.ts';

const parse = jsonLinesList('s3://pictures/set/');

describe('a line of a JSON-lines list', () => {
  it('is a path, a URL, or an object with one of them', () => {
    expect(parse('"train/a/1.jpg"')).toEqual({ path: 'train/a/1.jpg' });
    expect(parse('"s3://pictures/set/a b/ü#1.PNG"')).toEqual({ path: 'a b/ü#1.PNG' });
    expect(parse('{"url":"s3://pictures/set/1.jpg","split":"val","label":"cat"}')).toEqual({ path: '1.jpg', split: 'val', label: 'cat' });
    expect(parse('{"path":"1.jpg","label":7,"bytes":3,"etag":"x"}')).toEqual({ path: '1.jpg', label: '7', bytes: 3, etag: 'x' });
    expect(jsonLinesList('file:///data/my%20set/')('"file:///data/my%20set/%C3%BC.jpg"')).toEqual({ path: 'ü.jpg' });
    expect(parse('  ')).toBeUndefined();
  });

  it.each([
    ['{"path":', /^is not valid JSON: /],
    ['7', /^must be the path of an image as text, or an object with its path$/],
    ['{"label":"cat"}', /^must have a path or a url, and not both$/],
    ['{"path":"a.jpg","url":"s3://pictures/set/a.jpg"}', /^must have a path or a url, and not both$/],
    ['{"path":"a.jpg","Split":"val"}', /^Split: not a field; there are path, url, split, label, bytes and etag$/],
    ['{"path":"a.jpg","split":"test"}', /^split: /],
    ['{"path":"a.jpg","label":1.5}', /^label: must be text of 1 to 200 characters, or a whole number$/],
    ['{"path":"a.jpg","bytes":-1}', /^bytes: /],
    ['"s3://elsewhere/a.jpg"', /^s3:\/\/elsewhere\/a\.jpg does not lie under dataset\.url s3:\/\/pictures\/set\/$/],
    ['"https://example.org/a.jpg"', /does not lie under dataset\.url/],
    ['"/data/a.jpg"', /^\/data\/a\.jpg is an absolute path; write it relative to dataset\.url s3:\/\/pictures\/set\/$/],
    ['"../a.jpg"', /holds an empty, "\." or "\.\." part/],
    ['"train/a/notes.txt"', /^train\/a\/notes\.txt is no image by its name/],
    ['"masks/a.png"', /is no image by its name .*or a mask$/],
  ])('%s is refused', (line, message) => {
    expect(() => parse(line)).toThrow(message);
  });
});
