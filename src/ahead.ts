/**
 * `work` of every item, in the order of the items, with at most `ahead` under way at once. A failure is thrown where its result
 * would come; what was begun behind it is left to end by itself.
 */
export async function* mapAhead<T, R>(items: Iterable<T> | AsyncIterable<T>, ahead: number, work: (item: T) => Promise<R>): AsyncGenerator<R> {
  const underWay: Promise<R>[] = [];
  for await (const item of items) {
    const result = work(item);
    // Whoever stops early leaves some behind: their failures concern nobody.
    result.catch(() => {});
    underWay.push(result);
    if (underWay.length >= ahead) yield await underWay.shift()!;
  }
  while (underWay.length > 0) yield await underWay.shift()!;
}
