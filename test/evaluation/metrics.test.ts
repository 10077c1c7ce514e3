import { describe, expect, it } from 'vitest';
import { accuracyMeter, type Accuracy } from '../../src/evaluation/metrics.ts';
import { reference } from './reference.ts';

function accuracyOf(scores: Float32Array | Float64Array, labels: Int32Array, classes: number): Accuracy {
  const meter = accuracyMeter(classes);
  meter.add(scores, labels);
  return meter.accuracy();
}

describe('accuracy', () => {
  it('agrees with scikit-learn', () => {
    const { scores, labels, classes, top1, top5 } = reference.metrics;
    const accuracy = accuracyOf(Float32Array.from(scores), Int32Array.from(labels), classes);
    expect(accuracy.top1).toBeCloseTo(top1, 10);
    expect(accuracy.top5).toBeCloseTo(top5, 10);
  });

  it('gives a network that scores all classes alike the share of the first class', () => {
    const labels = Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7, 0, 6);
    expect(accuracyOf(new Float32Array(80), labels, 8)).toEqual({ top1: 20, top5: 60 });
  });

  it('never counts NaN and impossible classes as right', () => {
    expect(accuracyOf(Float32Array.of(NaN, NaN, -Infinity, -Infinity), Int32Array.of(0, 1), 2)).toEqual({ top1: 0, top5: 0 });
    expect(accuracyOf(Float32Array.of(NaN, 1), Int32Array.of(1), 2)).toEqual({ top1: 0, top5: 100 });
  });

  it('counts every class among the best five when there are fewer', () => {
    expect(accuracyOf(Float32Array.of(0.1, 0.9, 0.8, 0.2), Int32Array.of(0, 0), 2)).toEqual({ top1: 50, top5: 100 });
  });

  it('is that of all samples, in however many parts they come', () => {
    const { scores, labels, classes } = reference.metrics;
    const meter = accuracyMeter(classes);
    for (let from = 0; from < labels.length; from += 7) meter.add(Float32Array.from(scores.slice(from * classes, (from + 7) * classes)), Int32Array.from(labels.slice(from, from + 7)));
    expect(meter.accuracy()).toEqual(accuracyOf(Float32Array.from(scores), Int32Array.from(labels), classes));
    expect(() => meter.add(new Float32Array(classes + 1), Int32Array.of(0))).toThrow(RangeError);
  });

  it('is 0 without samples', () => {
    expect(accuracyOf(new Float32Array(0), new Int32Array(0), 3)).toEqual({ top1: 0, top5: 0 });
  });
});
