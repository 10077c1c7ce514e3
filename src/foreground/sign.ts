import { GenViewError } from '../errors.ts';

export interface SignDecision {
  /** Mean projection of the tokens of the central half (of each axis), before the flip. */
  readonly centre: number;
  /** Mean projection of the outermost ring of tokens, before the flip. */
  readonly border: number;
  /** The principal vector must be negated, so that larger is foreground. */
  readonly flipped: boolean;
}

/**
 * Which end of the principal component is the foreground: photographs hold their subject in the middle more often than at
 * the border, so the vector is flipped when the centre projects below the border (spec §2.2; on 16 x 16 tokens the centre is
 * the inner 8 x 8). The official code leaves this to a person who looks at the masks.
 * @param positionMeans mean projection at each grid position over many images, row-major
 * @param grid [rows, columns]
 */
export function decideSign(positionMeans: ArrayLike<number>, grid: readonly [number, number]): SignDecision {
  const [rows, columns] = grid;
  if (rows < 3 || columns < 3) {
    throw new GenViewError('EncoderInvalid', `foreground.encoder: its token grid is ${rows} x ${columns}; at least 3 x 3 is needed to tell the centre from the border (raise foreground.encoder.imageSize)`);
  }
  const top = Math.max(1, Math.floor(rows / 4)), left = Math.max(1, Math.floor(columns / 4));
  let centre = 0, centreCount = 0, border = 0, borderCount = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = positionMeans[row * columns + column]!;
      if (row === 0 || column === 0 || row === rows - 1 || column === columns - 1) { border += value; borderCount++; }
      if (row >= top && row < rows - top && column >= left && column < columns - left) { centre += value; centreCount++; }
    }
  }
  centre /= centreCount;
  border /= borderCount;
  return { centre, border, flipped: centre < border };
}
