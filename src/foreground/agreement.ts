/** How well maps and proportions agree with ground truth; used by the benchmark. */

/**
 * Area under the ROC curve of `scores` as a detector of `positives`: the chance that a positive scores above a negative, ties
 * counted half. NaN without both kinds.
 */
export function areaUnderCurve(scores: ArrayLike<number>, positives: ArrayLike<boolean | number>): number {
  const ranks = averageRanks(scores);
  let count = 0, sum = 0;
  for (let i = 0; i < ranks.length; i++) if (positives[i]) { count++; sum += ranks[i]!; }
  const negatives = ranks.length - count;
  return (sum - count * (count + 1) / 2) / (count * negatives);
}

/** Spearman's rank correlation, ties by average rank. NaN when one side is constant. */
export function rankCorrelation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`${a.length} values against ${b.length}`);
  const x = averageRanks(a), y = averageRanks(b);
  const mean = (x.length + 1) / 2;
  let product = 0, xx = 0, yy = 0;
  for (let i = 0; i < x.length; i++) {
    product += (x[i]! - mean) * (y[i]! - mean);
    xx += (x[i]! - mean) ** 2; yy += (y[i]! - mean) ** 2;
  }
  return product / Math.sqrt(xx * yy);
}

/** 1-based ranks; equal values share their average rank. */
function averageRanks(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, i) => i).toSorted((i, j) => values[i]! - values[j]!);
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let i = start; i < end; i++) ranks[order[i]!] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}
