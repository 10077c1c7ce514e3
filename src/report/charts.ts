import * as echarts from 'echarts';

type Option = echarts.EChartsCoreOption;

/** Colours that people with colour-blindness tell apart (Okabe and Ito), and dashes for when there are more lines. */
const palette = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#444444'];
const dashes = [undefined, [6, 3], [2, 2]] as const;

/** Size in which a chart is drawn; the page scales it. */
const width = 480, height = 270;
const ink = '#333', faint = '#e4e4e4';

/**
 * Draws on the server, without a DOM, to an <svg> element.
 * @param id begins the names of the drawing's parts; unique on the page
 * @param label what is said instead of it
 */
function draw(option: Option, id: string, label: string): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, textStyle: { fontFamily: 'inherit', color: ink }, ...option });
    return chart.renderToSVGString()
      // Drawings are counted over the whole process, but the same data is to give the same bytes.
      .replace(/\bzr\d+-/g, `${id}-`)
      // What would serve a script in the browser: there is none.
      .replace(/<style[^>]*>.*?<\/style>\s*/gs, '').replace(/ (?:class|ecmeta_\w+)="[^"]*"/g, '')
      .replace('<svg ', `<svg class="chart" role="img" aria-label="${label}" `);
  } finally { chart.dispose(); }
}

const axis = (name: string, gap: number): Record<string, unknown> => ({
  name, nameLocation: 'middle', nameGap: gap, nameTextStyle: { color: ink, fontSize: 12 },
  axisLine: { show: true, lineStyle: { color: ink } }, axisTick: { show: true, lineStyle: { color: ink } }, axisLabel: { color: ink, fontSize: 12 },
});
const counts = { type: 'value', ...axis('images', 42), minInterval: 1, splitLine: { lineStyle: { color: faint } } } as const;
const grid = { left: 60, right: 14, top: 18, bottom: 46 };

/** Bars: how many images fall into each of the equal bins of [0, 1]. */
export function histogram(bins: readonly number[], id: string, label: string, unit: string): string {
  return draw({
    color: palette, grid,
    xAxis: { type: 'value', min: 0, max: 1, interval: 0.2, containShape: false, ...axis(unit, 28), splitLine: { show: false } },
    yAxis: counts,
    series: [{ type: 'bar', silent: true, barWidth: 0.92 * (width - grid.left - grid.right) / bins.length, data: bins.map((count, i) => [(i + 0.5) / bins.length, count]) }],
  }, id, label);
}

/** Bars of named groups, each with its number. */
export function bars(groups: readonly (readonly [name: string, count: number])[], id: string, label: string, unit: string): string {
  return draw({
    color: palette, grid,
    xAxis: { type: 'category', data: groups.map(([name]) => name), ...axis(unit, 28), axisTick: { show: false } },
    yAxis: counts,
    series: [{ type: 'bar', silent: true, barCategoryGap: '25%', barMaxWidth: 70, data: groups.map(([, count]) => count), label: { show: true, position: 'top', color: ink, fontSize: 12 } }],
  }, id, label);
}

export interface Curve {
  readonly name: string;
  /** Decides colour and dash: the same for a variant in all charts. */
  readonly style: number;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Lines of several variants; `lineSample` draws their legend. */
export function curves(lines: readonly Curve[], id: string, label: string, xName: string, yName: string): string {
  return draw({
    grid,
    xAxis: { type: 'value', min: 0, max: Math.ceil(Math.max(...lines.flatMap(({ points }) => points.map(([x]) => x)))), ...axis(xName, 28), splitLine: { show: false } },
    yAxis: { type: 'value', scale: true, ...axis(yName, 42), splitLine: { lineStyle: { color: faint } } },
    series: lines.map(({ name, style, points }) => ({
      type: 'line', silent: true, name, data: points.map((point) => [...point]), showSymbol: points.length < 3, symbol: 'circle', symbolSize: 5,
      ...lineStyle(style),
    })),
  }, id, label);
}

function lineStyle(style: number): { itemStyle: { color: string }; lineStyle: { color: string; width: number; type?: number[] } } {
  const { color, dash } = strokeOf(style);
  return { itemStyle: { color }, lineStyle: { color, width: 1.6, ...(dash && { type: [...dash] }) } };
}

function strokeOf(style: number): { color: string; dash: readonly number[] | undefined } {
  return { color: palette[style % palette.length]!, dash: dashes[Math.floor(style / palette.length) % dashes.length] };
}

/** A short piece of a line, for the legend. */
export function lineSample(style: number): string {
  const { color, dash } = strokeOf(style);
  return `<svg class="sample" width="26" height="8" aria-hidden="true"><path d="M0 4H26" stroke="${color}" stroke-width="2"${dash ? ` stroke-dasharray="${dash.join(' ')}"` : ''}/></svg>`;
}
