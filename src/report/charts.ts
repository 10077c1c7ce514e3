import * as echarts from 'echarts';

type Option = echarts.EChartsCoreOption;

/** Colours that people with colour-blindness tell apart (Okabe and Ito). */
const palette = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#444444'];

/** Draws on the server, without a DOM, to an <svg> element. */
function draw(option: Option, label: string, width = 560, height = 300): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, color: palette, textStyle: { fontFamily: 'system-ui, sans-serif' }, ...option });
    return chart.renderToSVGString().replace('<svg ', `<svg role="img" aria-label="${label}" `);
  } finally { chart.dispose(); }
}

const axis = (name: string): Record<string, unknown> => ({ name, nameLocation: 'middle', nameGap: 28, nameTextStyle: { color: '#555' } });

/** Bars: how many images fall into each bin. */
export function histogram(counts: readonly number[], labels: readonly string[], title: string, unit: string): string {
  return draw({
    grid: { left: 56, right: 16, top: 16, bottom: 48 },
    xAxis: { type: 'category', data: labels, ...axis(unit) },
    yAxis: { type: 'value', ...axis('images'), nameGap: 40 },
    series: [{ type: 'bar', data: [...counts], barCategoryGap: '10%' }],
  }, title);
}

export interface Curve { readonly name: string; readonly points: readonly (readonly [x: number, y: number])[] }

/** Lines of several variants. */
export function curves(lines: readonly Curve[], title: string, xName: string, yName: string): string {
  return draw({
    legend: { top: 0, type: 'scroll' },
    grid: { left: 56, right: 16, top: 36, bottom: 48 },
    xAxis: { type: 'value', ...axis(xName), min: 0 },
    yAxis: { type: 'value', ...axis(yName), nameGap: 40, scale: true },
    series: lines.map(({ name, points }) => ({ type: 'line', name, data: points.map((p) => [...p]), showSymbol: points.length < 3, lineStyle: { width: 2 } })),
  }, title);
}
