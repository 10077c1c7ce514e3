/** Objects that exist by a formula only, in the order of their keys. */
export interface SimulatedObjects {
  readonly count: number;
  key(index: number): string;
  size(index: number): number;
  /** 32 hexadecimal digits, as of a plain upload. */
  etag(index: number): string;
}

/** Of 26 images one validates, about as in ImageNet-1K. */
const validationShare = 1 / 26;

/**
 * Names as in ImageNet-1K: `train/n<class>/n<class>_<number>.JPEG`, and `val/`, the images spread evenly over the classes.
 * @param classes 2 gives folders of half the images each, which only guesses can cut up. @default 1000
 */
export function imagenetLike(count: number, classes = 1000): SimulatedObjects {
  const validation = Math.floor(count * validationShare), training = count - validation;
  const digits = String(count).length;
  const name = (split: string, index: number, total: number): string => {
    const label = Math.floor(index * classes / total), first = Math.ceil(label * total / classes);
    const wordnet = `n${String(1_440_764 + 14_197 * label).padStart(8, '0')}`;
    return `${split}/${wordnet}/${wordnet}_${String(index - first).padStart(digits, '0')}.JPEG`;
  };
  return {
    count,
    key: (index) => index < training ? name('train', index, training) : name('val', index - training, validation),
    size: (index) => 80_000 + (index * 7919) % 60_000,
    etag: (index) => (index * 2_654_435_761 % 4_294_967_296).toString(16).padStart(8, '0').repeat(4),
  };
}
