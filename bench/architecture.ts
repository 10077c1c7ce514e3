import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { ParallelState, State, StateGraph, TaskState } from '../src/workflow/asl/definition.ts';
import { buildWorkflow } from '../src/workflow/definition.ts';
import { localRefs } from '../src/workflow/local.ts';

/** `npm run bench -- architecture`: draws docs/images/aws.svg from the definition of the workflow. */
export async function run(): Promise<void> {
  await writeFile(fileURLToPath(new URL('../docs/images/aws.svg', import.meta.url)), drawArchitecture());
}

/** Where a state's work is done. */
type Place = 'lambda' | 'gpu' | 'training' | 'cpu';

const places: Readonly<Record<Place, { readonly title: string; readonly lines: readonly string[]; readonly colour: string }>> = {
  lambda: { title: 'Lambda', lines: ['functions: listing, planning,', 'report; Node 22, at most 15 min'], colour: '#d97706' },
  gpu: { title: 'Batch, queue gpu', lines: ['g5, g6, g6e, g4dn: spot first,', 'then on demand; to zero when idle'], colour: '#2563eb' },
  training: { title: 'Batch, queue training', lines: ['several nodes of one type,', 'on demand, in a placement group'], colour: '#7c3aed' },
  cpu: { title: 'Batch, queue cpu', lines: ['Fargate, without a GPU'], colour: '#0d9488' },
};

const box = { width: 168, height: 36, gap: 14, pad: 12, title: 22 } as const;

/** A drawn part with its size; drawn at a place. */
interface Part {
  readonly width: number;
  readonly height: number;
  draw(x: number, y: number): string;
}

/** The whole picture; the same definition gives the same bytes. */
export function drawArchitecture(): string {
  const definition = buildWorkflow(localRefs);
  const used = new Set<Place>();
  const main = chain(definition, used);
  const failure = Object.entries(definition.States).filter(([name]) => !reachable(definition).has(name)).map(([name, state]) => node(name, state, used));
  const failures = row(failure);

  const machine = { x: 292, y: 20, width: Math.max(main.width, failures.width) + 2 * box.pad };
  const mainY = machine.y + 40, failureY = mainY + main.height + 46;
  const machineHeight = failureY + failures.height + box.pad - machine.y;
  const side = machine.x + machine.width + 40, sideWidth = 262;
  const width = side + sideWidth + 20, height = machine.y + machineHeight + 20;

  const parts: string[] = [];
  parts.push(frame(machine.x, machine.y, machine.width, machineHeight, 'Step Functions: the workflow', '#475569'));
  parts.push(main.draw(machine.x + (machine.width - main.width) / 2, mainY));
  parts.push(label(machine.x + machine.width / 2, failureY - 14, 'after any failure', { anchor: 'middle', size: 12, colour: '#64748b' }));
  parts.push(failures.draw(machine.x + (machine.width - failures.width) / 2, failureY));

  // What the work is done by, with the colours of the states.
  let y = machine.y;
  for (const [place, { title, lines, colour }] of Object.entries(places) as [Place, (typeof places)[Place]][]) {
    if (!used.has(place)) continue;
    parts.push(card(side, y, sideWidth, title, lines, colour));
    y += 40 + lines.length * 16 + 14;
  }
  parts.push(card(side, y, sideWidth, 'Network', ['private subnets; S3 by a gateway', 'endpoint, the rest by NAT or others'], '#64748b'));
  y += 40 + 32 + 14;
  parts.push(card(side, y, sideWidth, 'CloudWatch', ['a log group a stage, metrics,', 'alarms to SNS, a dashboard'], '#64748b'));

  // What people touch.
  const left = 20, leftWidth = 238;
  const cards: readonly (readonly [string, readonly string[]])[] = [
    ['genview submit', ['checks, estimates, uploads,', 'starts; then status, logs, cancel']],
    ['EventBridge', ['recipes/*.yaml, and', 'datasets/<name>/_READY: a run']],
    ['S3: what people put there', ['recipes/', 'datasets/<name>/', 'models/']],
    ['S3: the store', ['runs/  datasets/  foreground/', 'analysis/  views/  pretrain/', 'evaluate/  similarity/']],
  ];
  y = machine.y;
  for (const [title, lines] of cards) {
    const tall = 40 + lines.length * 16;
    parts.push(card(left, y, leftWidth, title, lines, title.startsWith('S3') ? '#16a34a' : '#475569'));
    if (!title.startsWith('S3')) parts.push(arrow(left + leftWidth, y + tall / 2, machine.x - 2, y + tall / 2));
    y += tall + 14;
  }
  parts.push(label(left, y + 6, 'Every stage reads and writes', { size: 12, colour: '#64748b' }), label(left, y + 22, 'its own prefixes of the store.', { size: 12, colour: '#64748b' }));

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" role="img" aria-label="Architecture of GenView on AWS">
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#475569"/></marker></defs>
<rect width="${width}" height="${height}" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`;
}

/** States from the first one on, in order; what only failures lead to is left out. */
function order(graph: StateGraph): string[] {
  const names: string[] = [];
  for (let name: string | undefined = graph.StartAt; name !== undefined && !names.includes(name);) {
    names.push(name);
    const state: State = graph.States[name]!;
    name = state.Type === 'Choice' ? state.Default : 'Next' in state ? state.Next : undefined;
  }
  return names;
}

function reachable(graph: StateGraph): Set<string> {
  return new Set(order(graph));
}

/** A graph from top to bottom. A choice's other way stands beside its default. */
function chain(graph: StateGraph, used: Set<Place>): Part {
  const names = order(graph);
  const rows: Part[] = [];
  const placed = new Set<string>();
  for (const name of names) {
    if (placed.has(name)) continue;
    const state = graph.States[name]!;
    if (state.Type === 'Choice') {
      const ways = [state.Default, ...state.Choices.map(({ Next }) => Next)].filter((next): next is string => next !== undefined && !placed.has(next) && asTask(graph.States[next]) !== undefined);
      const back = state.Choices.find(({ Next }) => placed.has(Next));
      if (back !== undefined) { rows.push(note(`again until the listing is complete`)); placed.add(name); continue; }
      const nextOf = (way: string): string | undefined => (graph.States[way] as TaskState | ParallelState).Next;
      const together = ways.filter((way) => nextOf(way) === nextOf(ways[0]!));
      rows.push(row(together.map((way) => node(way, graph.States[way]!, used))));
      for (const way of together) placed.add(way);
    } else rows.push(node(name, state, used));
    placed.add(name);
  }
  return column(rows);
}

function node(name: string, state: State, used: Set<Place>): Part {
  const task = asTask(state);
  if (state.Type === 'Parallel' && task === undefined) return framed('in parallel', row(state.Branches.map((branch) => chain(branch, used))));
  if (state.Type === 'Map') return framed('each variant', chain(state.ItemProcessor, used));
  const place = task && placeOf(task);
  if (place) used.add(place);
  const colour = place === undefined ? '#94a3b8' : places[place].colour;
  const kind = task ? kindOf(task) : state.Type === 'Fail' ? 'the execution fails' : state.Type.toLowerCase();
  return {
    width: box.width, height: box.height,
    draw: (x, y) => `<g><rect x="${x}" y="${y}" width="${box.width}" height="${box.height}" rx="5" fill="#f8fafc" stroke="${colour}"/><rect x="${x}" y="${y}" width="5" height="${box.height}" rx="2" fill="${colour}"/>`
      + `${label(x + 14, y + 15, name, { size: 13, weight: 600 })}${label(x + 14, y + 29, kind, { size: 11, colour: '#64748b' })}</g>`,
  };
}

/** The task that a state is, or stands for: a job that is submitted and looked at until it ends is one for who looks at the whole. */
function asTask(state: State | undefined): TaskState | undefined {
  if (state?.Type === 'Task') return state;
  if (state?.Type !== 'Parallel' || state.Branches.length !== 1) return undefined;
  const first = state.Branches[0]!.States[state.Branches[0]!.StartAt]!;
  return first.Type === 'Task' ? first : undefined;
}

function placeOf({ Resource, Arguments }: TaskState): Place {
  if (Resource.includes(':lambda:')) return 'lambda';
  return (Arguments as unknown as { JobQueue: Place }).JobQueue;
}

function kindOf({ Resource, Arguments }: TaskState): string {
  if (Resource.includes(':lambda:')) return 'function';
  const job = Arguments as { ArrayProperties?: unknown; NodeOverrides?: unknown };
  return job.ArrayProperties !== undefined ? 'one job a shard' : job.NodeOverrides !== undefined ? 'a job of several nodes' : 'job';
}

function note(text: string): Part {
  return { width: box.width, height: 14, draw: (x, y) => label(x + box.width / 2, y + 10, text, { anchor: 'middle', size: 11, colour: '#64748b' }) };
}

function column(parts: readonly Part[]): Part {
  const width = Math.max(...parts.map((part) => part.width));
  const height = parts.reduce((sum, part) => sum + part.height, 0) + (parts.length - 1) * (box.gap + 4);
  return {
    width, height,
    draw(x, y) {
      const drawn: string[] = [];
      for (const [i, part] of parts.entries()) {
        if (i > 0) drawn.push(arrow(x + width / 2, y - box.gap - 4 + 1, x + width / 2, y - 1));
        drawn.push(part.draw(x + (width - part.width) / 2, y));
        y += part.height + box.gap + 4;
      }
      return drawn.join('\n');
    },
  };
}

function row(parts: readonly Part[]): Part {
  const width = parts.reduce((sum, part) => sum + part.width, 0) + (parts.length - 1) * box.gap;
  return {
    width, height: Math.max(...parts.map((part) => part.height)),
    draw(x, y) {
      return parts.map((part) => { const drawn = part.draw(x, y); x += part.width + box.gap; return drawn; }).join('\n');
    },
  };
}

function framed(title: string, inner: Part): Part {
  const width = inner.width + 2 * box.pad, height = inner.height + box.title + box.pad;
  return { width, height, draw: (x, y) => `${frame(x, y, width, height, title, '#cbd5e1')}\n${inner.draw(x + box.pad, y + box.title)}` };
}

function frame(x: number, y: number, width: number, height: number, title: string, colour: string): string {
  return `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="7" fill="none" stroke="${colour}" stroke-width="1.2"/>${label(x + 10, y + 16, title, { size: 12, colour: '#475569', weight: 600 })}`;
}

function card(x: number, y: number, width: number, title: string, lines: readonly string[], colour: string): string {
  const height = 34 + lines.length * 16;
  return `<g><rect x="${x}" y="${y}" width="${width}" height="${height}" rx="7" fill="#f8fafc" stroke="${colour}"/><rect x="${x}" y="${y}" width="5" height="${height}" rx="2" fill="${colour}"/>`
    + `${label(x + 14, y + 20, title, { size: 13, weight: 600 })}${lines.map((line, i) => label(x + 14, y + 38 + i * 16, line, { size: 12, colour: '#475569' })).join('')}</g>`;
}

function arrow(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#475569" marker-end="url(#head)"/>`;
}

function label(x: number, y: number, text: string, { anchor = 'start', size, colour = '#0f172a', weight = 400 }: { anchor?: string; size: number; colour?: string; weight?: number }): string {
  return `<text x="${x}" y="${y}" font-size="${size}" fill="${colour}"${weight === 400 ? '' : ` font-weight="${weight}"`}${anchor === 'start' ? '' : ` text-anchor="${anchor}"`}>${text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;
}
