import { describe, expect, it } from 'vitest';
import { decodeSafetensors, encodeSafetensors, fromHalf } from '../../src/nn/safetensors.ts';
import { float32, int32 } from '../../src/tensor.ts';

describe('safetensors', () => {
  const tensors = { 'b.weight': float32([1.5, -2, 0.1, 3e-5], [2, 2]), 'a.count': int32([7, -9], [2]) };

  it('comes back as written, whatever the order of the names', () => {
    const bytes = encodeSafetensors(tensors, { step: '12' });
    const { tensors: read, metadata } = decodeSafetensors(bytes);
    expect(metadata).toEqual({ step: '12' });
    expect(read).toEqual(tensors);
    expect(encodeSafetensors({ 'a.count': tensors['a.count'], 'b.weight': tensors['b.weight'] }, { step: '12' })).toEqual(bytes);
  });

  it('has the layout of the published format', () => {
    // Written byte by byte after the format description.
    const header = '{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  ';
    const bytes = new Uint8Array([header.length, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from(header), 0, 0, 0x80, 0x3f]);
    expect(decodeSafetensors(bytes).tensors).toEqual({ x: float32([1], [1]) });
    expect(Buffer.from(encodeSafetensors({ x: float32([1], [1]) }))).toEqual(Buffer.from(bytes));
  });

  it('reads 64-bit counters, as PyTorch stores them', () => {
    const header = '{"n":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}} ';
    const bytes = new Uint8Array([header.length, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from(header), 7, 1, 0, 0, 0, 0, 0, 0, ...Array<number>(8).fill(255)]);
    expect(decodeSafetensors(bytes).tensors).toEqual({ n: int32([263, -1], [2]) });
  });

  it('stores halves rounded to nearest even', () => {
    const values = [0, -0, 1, -1.5, 65504, 65519, 65520, 6.103515625e-5, 5.960464477539063e-8, 2.98e-8, 1 / 3, 2049, 2051, 1e-9];
    const expected = [0, -0, 1, -1.5, 65504, 65504, Infinity, 6.103515625e-5, 5.960464477539063e-8, 0, 0.333251953125, 2048, 2052, 0];
    const { tensors: read } = decodeSafetensors(encodeSafetensors({ x: float32(values, [values.length]) }, {}, { half: true }));
    expect([...read['x']!.data]).toEqual(expected);
  });

  it('writes every half back to the bits it came from', () => {
    const all = Array.from({ length: 0x7c00 }, (_, bits) => fromHalf(bits));
    const bytes = encodeSafetensors({ x: float32(all, [all.length]) }, {}, { half: true });
    expect([...new Uint16Array(new Uint8Array(bytes.subarray(bytes.length - 2 * all.length)).buffer)]).toEqual(all.map((_, bits) => bits));
  });

  it.each([
    [new Uint8Array(3), 'shorter'],
    [new Uint8Array([255, 255, 0, 0, 0, 0, 0, 0, 1]), 'header of 65535 bytes'],
    [new Uint8Array([4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]), 'no JSON'],
    [encodeSafetensors(tensors).slice(0, -1), 'does not fit'],
  ])('refuses a damaged file and names it (%#)', (bytes, message) => {
    expect(() => decodeSafetensors(bytes, 'model.safetensors')).toThrow(message);
    expect(() => decodeSafetensors(bytes, 'model.safetensors')).toThrow('model.safetensors');
  });
});
