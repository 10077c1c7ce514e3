import { existsSync } from 'node:fs';
import path from 'node:path';

/** The folder of node_api.h: beside this Node, in the folder npm is told of, or where a distribution puts it. */
export function nodeHeaders(): string | undefined {
  const configured = process.env['npm_config_nodedir'];
  return [path.dirname(path.dirname(process.execPath)), ...(configured ? [configured] : []), '/usr/local', '/usr']
    .map((prefix) => path.join(prefix, 'include', 'node')).find((place) => existsSync(path.join(place, 'node_api.h')));
}
