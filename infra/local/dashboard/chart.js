// A line chart of one panel, by uPlot. Hidden from assistive technology: the table has the same data.

const { uPlot } = window;

export const WINDOW_SECONDS = 180;
const HEIGHT_PX = 160;
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3]];
const COLOURS = 6;

/** The style of a line. Lines differ in colour and dash pattern. */
export function line(number) {
  return { colour: `--line-${(number % COLOURS) + 1}`, dash: DASHES[number % DASHES.length] };
}

/** Draw a chart as wide as the element. `names` are the series, in the order of their lines. */
export function drawChart(element, names, unit) {
  const series = names.map((name, number) => {
    const { colour, dash } = line(number);
    return { label: name, stroke: () => colourOf(colour), dash, width: 2, spanGaps: false };
  });
  const options = {
    width: element.clientWidth,
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_, __, last) => [last - WINDOW_SECONDS, last] },
      y: { range: (_, __, highest) => [0, highest > 0 ? highest * 1.1 : 1] },
    },
    axes: [
      axis({ values: (_, ticks) => ticks.map(clockTime), space: 56, size: 32 }),
      axis({ values: (_, ticks) => ticks.map(unit), size: 62 }),
    ],
    series: [{}, ...series],
  };
  return new uPlot(options, [[], ...names.map(() => [])], element);
}

/** Resize the chart after its element was resized. */
export function fit(chart, element) {
  if (element.clientWidth && element.clientWidth !== chart.width) {
    chart.setSize({ width: element.clientWidth, height: HEIGHT_PX });
  }
}

function axis(own) {
  const grid = { stroke: () => colourOf("--rule"), width: 1 };
  return { stroke: () => colourOf("--text-muted"), grid, ticks: grid, font: "12px system-ui", ...own };
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toTimeString().slice(0, 8);
}

function colourOf(variable) {
  return getComputedStyle(document.documentElement).getPropertyValue(variable);
}
