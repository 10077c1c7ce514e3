/**
 * What the embedded data set shows. Each class is several pictures: every code point is drawn in two styles (Fluent
 * Emoji 3D and Noto), so a class is never one shape or one colour. Cat and dog, pig and cow, car and bus, apple and
 * ball are near each other on purpose.
 */
export const demoClasses = {
  airplane: ['2708-fe0f', '1f6e9-fe0f'],
  apple: ['1f34e', '1f34f'],
  ball: ['26bd', '1f3c0', '1f3d0'],
  bear: ['1f43b', '1f43c', '1f43b-200d-2744-fe0f'],
  bird: ['1f426', '1f99c', '1f424'],
  boat: ['26f5', '1f6a4', '1f6e5-fe0f'],
  bus: ['1f68c', '1f68d', '1f68e'],
  car: ['1f697', '1f698', '1f699'],
  cat: ['1f431', '1f408'],
  clock: ['23f0', '1f570-fe0f', '23f1-fe0f'],
  cow: ['1f42e', '1f404', '1f402'],
  cup: ['2615', '1f375', '1f37a'],
  dog: ['1f436', '1f415', '1f9ae'],
  fish: ['1f41f', '1f420', '1f421'],
  flower: ['1f33a', '1f33b', '1f338'],
  guitar: ['1f3b8', '1fa95'],
  horse: ['1f434', '1f40e'],
  house: ['1f3e0', '1f3e1', '1f3da-fe0f'],
  pig: ['1f437', '1f416'],
  rabbit: ['1f430', '1f407'],
  shoe: ['1f45e', '1f45f', '1f97e'],
  train: ['1f686', '1f68a', '1f682'],
  tree: ['1f332', '1f333', '1f334'],
  umbrella: ['2602-fe0f', '1f302'],
} as const satisfies Record<string, readonly string[]>;

/** Names of the classes; the index in this list is the label. */
export const demoClassNames: readonly string[] = Object.keys(demoClasses);

/** Things of no class, scattered over the backgrounds: food, buildings, plants, weather, tools, plain shapes. */
export const distractors: readonly string[] = [
  '1f355', '1f354', '1f382', '1f9c0', '1f966', '1f33d', '1f369', '1f363', '1f366', '1f36c', '1f347', '1f349', '1f951', '1f950',
  '1f3e2', '1f3f0', '1f5fc', '1f3ed', '1f3db-fe0f', '1f5ff', '1f9f1', '1faa8', '1fab5', '1f6aa',
  '1f340', '1f341', '1f343', '1f33f', '1f335', '1f33e', '1f331',
  '2601-fe0f', '2b50', '1f319', '1f308', '2744-fe0f', '1f525', '1f4a7', '26a1', '1f30a',
  '1f511', '2699-fe0f', '1f9f2', '1f4a1', '1f381', '1f388', '2693', '1f528', '2702-fe0f', '1f4e6', '1f4bb', '1f4da', '1f6d1', '1fa91',
  '1f536', '1f537', '1f534', '1f7e6', '1f7e9', '1f7e3', '2764-fe0f', '1f53a',
];
