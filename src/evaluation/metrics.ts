/** Percent of the samples whose class is among the best one and the best five. */
export interface Accuracy {
  readonly top1: number;
  readonly top5: number;
}

/** Accuracy of samples that come in parts: scores of all of them, 50,000 of 1,000 classes, need not be there at once. */
export interface AccuracyMeter {
  /** @param scores [labels.length, classes], row-major, larger is better */
  add(scores: Float32Array | Float64Array, labels: Int32Array): void;
  /** Of all samples so far; 0 without any. */
  accuracy(): Accuracy;
}

/**
 * Counts top-1 and top-5 accuracy. Of equal scores the lower class index comes first, as in an argmax, so that a network that
 * scores all classes alike gets no more than the share of one class. A score of NaN or -Infinity never counts as right.
 */
export function accuracyMeter(classes: number): AccuracyMeter {
  let samples = 0, first = 0, fifth = 0;
  return {
    add(scores, labels) {
      if (scores.length !== labels.length * classes) throw new RangeError(`${scores.length} scores are not ${labels.length} samples of ${classes} classes`);
      samples += labels.length;
      for (let i = 0; i < labels.length; i++) {
        const start = i * classes, label = labels[i]!, own = scores[start + label]!;
        if (!(own > -Infinity)) continue;
        let rank = 0;
        for (let c = 0; c < classes; c++) {
          const other = scores[start + c]!;
          if (other > own || Number.isNaN(other) || (other === own && c < label)) rank++;
        }
        if (rank < 1) first++;
        if (rank < 5) fifth++;
      }
    },
    accuracy() {
      const percent = (count: number): number => samples === 0 ? 0 : 100 * count / samples;
      return { top1: percent(first), top5: percent(fifth) };
    },
  };
}
