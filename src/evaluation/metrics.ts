/** Percent of samples whose class is among the best one and the best five. */
export interface Accuracy {
  readonly top1: number;
  readonly top5: number;
}

/**
 * Top-1 and top-5 accuracy of `scores` [labels.length, classes], row-major, larger is better. Of equal scores the lower
 * class index comes first, as in an argmax, so that a network that scores all classes alike gets no more than the share
 * of one class. A score of NaN or -Infinity never counts as right.
 */
export function accuracyOf(scores: Float32Array | Float64Array, labels: Int32Array, classes: number): Accuracy {
  if (scores.length !== labels.length * classes) throw new RangeError(`${scores.length} scores are not ${labels.length} samples of ${classes} classes`);
  let first = 0, fifth = 0;
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
  const percent = (count: number): number => labels.length === 0 ? 0 : 100 * count / labels.length;
  return { top1: percent(first), top5: percent(fifth) };
}
