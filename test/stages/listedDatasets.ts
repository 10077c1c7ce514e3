import { oddImages } from '../storage/objectStoreContract.ts';

const numbered = (folder: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${folder}/${String(i).padStart(4, '0')}.jpg`);
const odd = oddImages.map((key) => key.replaceAll('/', '_'));

/** Paths of datasets whose listings were recorded with version 0.1.0: `golden/listings.json`. A file's content is `content of <path>`. */
export const recordedDatasets: Readonly<Record<string, readonly string[]>> = {
  splits: [...numbered('train/ant', 1203), ...numbered('train/bee/deep', 811), ...numbered('val/ant', 120), ...numbered('val/bee', 77), 'train/loose.jpg', 'notes.txt', 'masks/train/ant/0000.png', ...odd.map((name) => `train/cat/${name}`)],
  classes: [...numbered('ant', 640), ...numbered('ant-2', 333), ...numbered('ant/below', 40), ...odd.flatMap((name) => ['__proto__', "class #3 'ü'%", 'z～', 'z🙂'].map((folder) => `${folder}/${name}`)), 'loose.png'],
};
