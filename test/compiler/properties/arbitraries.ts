import fc from 'fast-check';

/** Sizes of an axis: small, one often, zero sometimes. */
export const size = (min = 0, max = 5): fc.Arbitrary<number> =>
  fc.oneof({ weight: min === 0 ? 1 : 0, arbitrary: fc.constant(0) }, { weight: min > 1 ? 0 : 2, arbitrary: fc.constant(1) }, { weight: 7, arbitrary: fc.integer({ min: Math.max(min, 1), max }) });

/** Shapes of `minRank` to `maxRank` axes. */
export const shape = (minRank: number, maxRank: number, min = 0, max = 5): fc.Arbitrary<number[]> => fc.array(size(min, max), { minLength: minRank, maxLength: maxRank });

/** An axis of a tensor, counted from the front or (negative) from the back. */
export const axisOf = (rank: number): fc.Arbitrary<number> => fc.integer({ min: -rank, max: rank - 1 });

/** Some distinct axes, at least one, in any order, each counted from either end. */
export const axesOf = (rank: number): fc.Arbitrary<number[]> =>
  fc.tuple(fc.shuffledSubarray(Array.from({ length: rank }, (_, i) => i), { minLength: 1 }), fc.array(fc.boolean(), { minLength: rank, maxLength: rank }))
    .map(([axes, negative]) => axes.map((axis, i) => (negative[i] ? axis - rank : axis)));

/** Shapes that broadcast together: each axis kept or of size 1, leading axes dropped. */
export const broadcasting = (count: number, maxRank: number, min = 0): fc.Arbitrary<number[][]> =>
  shape(0, maxRank, min, 4).chain((full) => fc.array(fc.record({
    single: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: full.length, maxLength: full.length }),
    dropped: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: full.length })),
  }), { minLength: count, maxLength: count }).map((parts) => parts.map(({ single, dropped }, i) => (i === 0 ? full : full.map((n, axis) => (single[axis] === 0 ? 1 : n)).slice(dropped)))))
    .chain((shapes) => fc.shuffledSubarray(shapes, { minLength: count }));

/** GENVIEW_PROPERTY_RUNS multiplies the cases of every property, GENVIEW_PROPERTY_SEED chooses others: for a long search after changes. */
const factor = Number(process.env['GENVIEW_PROPERTY_RUNS'] ?? 1), seed = Number(process.env['GENVIEW_PROPERTY_SEED'] ?? 20241001);

/** Checks a property over `runs` random cases, the same ones in every run; a failure prints the smallest case that fails. */
export async function check<T>(cases: fc.Arbitrary<T>, runs: number, holds: (value: T) => Promise<void>): Promise<void> {
  await fc.assert(fc.asyncProperty(cases, holds), { numRuns: Math.ceil(runs * factor), seed });
}
