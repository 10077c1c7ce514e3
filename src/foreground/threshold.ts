/**
 * Smallest value with at least `quantile` of all values at or below it (the inverse of the empirical distribution function):
 * without ties exactly the share `1 - quantile`, rounded down to whole tokens, lies strictly above.
 * @param quantile in (0, 1)
 */
export function quantileThreshold(values: Float64Array, quantile: number): number {
  if (values.length === 0) throw new RangeError('a quantile of no values');
  const sorted = values.toSorted();
  // The tolerance takes back the rounding of products such as 0.55 * 100 = 55.00000000000001.
  const rank = Math.ceil(quantile * values.length - 1e-9);
  return sorted[Math.min(Math.max(rank, 1), values.length) - 1]!;
}

/**
 * The official tool's rule (spec §2.3), kept for comparison: left edge of the first of 200 equal bins at which the
 * cumulative share reaches `quantile`.
 */
export function histogramThreshold(values: Float64Array, quantile: number, bins = 200): number {
  if (values.length === 0) throw new RangeError('a quantile of no values');
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  if (high === low) return low;
  const counts = new Float64Array(bins);
  for (const value of values) counts[Math.min(Math.floor((value - low) / (high - low) * bins), bins - 1)]!++;
  let cumulative = 0, bin = 0;
  while (bin < bins - 1) {
    cumulative += counts[bin]!;
    if (cumulative / values.length >= quantile) break;
    bin++;
  }
  return low + bin / bins * (high - low);
}
