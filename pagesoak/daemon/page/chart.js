// The two charts: memory over the soak's clock, windows shaded. Drawn by uPlot on a canvas, in the
// colours of the style sheet, so that light and dark are decided in one place.

import { PAGES_PER_MIB, at, clock } from "./show.js";

const HEIGHT = 260;
const LOWEST_MIB = 0.25; // the logarithmic axis goes no lower: 64 pages; less is drawn there

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// 1, 2 and 5 times powers of ten: a logarithmic axis of less than a decade has labels, too.
function logSplits(min, max) {
  const found = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power += 1) {
    for (const times of [1, 2, 5]) {
      const value = times * 10 ** power;
      if (value >= min * 0.999 && value <= max * 1.001) found.push(value);
    }
  }
  return found.length > 1 ? found : [min, max];
}

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800,
  21600, 43200, 86400, 172800, 604800, 1209600, 2592000];

function timeSplits(min, max, room) {
  const step = STEPS.find((each) => (max - min) / each <= room) ?? STEPS[STEPS.length - 1];
  const found = [];
  for (let value = Math.ceil(min / step) * step; value <= max; value += step) found.push(value);
  return [found, step];
}

export class Chart {
  // `zoomed` is called with two times when somebody has marked a part.
  constructor(holder, series, options, zoomed) {
    this.holder = holder;
    this.series = series;
    this.options = options;
    this.zoomed = zoomed;
    this.windows = [];
    this.marks = [];
    this.data = [[], ...series.map(() => [])];
    this.range = [0, 1];
    new ResizeObserver(() => this.resize()).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.make());
    this.make();
  }

  make() {
    this.plot?.destroy();
    const chart = this;
    const axis = { stroke: colour("--pale"), grid: { stroke: colour("--line"), width: 0.5 }, ticks: { stroke: colour("--line") } };
    const width = Math.max(200, this.holder.clientWidth);
    const room = Math.max(2, Math.floor(width / 90));
    let step = 1;
    this.plot = new uPlot({
      width,
      height: HEIGHT,
      cursor: { drag: { x: true, y: false, setScale: false } },
      legend: { live: width > 480 },
      scales: {
        x: { time: false, range: () => chart.range },
        y: this.options.log
          ? { distr: 3, range: (_u, min, max) => (min === null ? [1, 100] : [Math.max(LOWEST_MIB, min / 1.4), Math.max(1, max * 1.3)]) }
          : { range: (_u, _min, max) => [0, Math.max(1, (max ?? 1) * 1.12)] },
      },
      axes: [
        {
          ...axis,
          size: 34,
          label: "time on the soak's clock",
          labelSize: 22,
          splits: (_u, _axis, min, max) => {
            const [found, chosen] = timeSplits(min, max, room);
            step = chosen;
            return found;
          },
          values: (_u, values) => values.map((value) => clock(value, step)),
        },
        {
          ...axis,
          size: 50,
          label: this.options.label,
          labelSize: 22,
          ...(this.options.log ? { splits: (_u, _axis, min, max) => logSplits(min, max), filter: (_u, values) => values } : {}),
          values: (_u, values) => values.map((value) => value.toLocaleString("en", { maximumFractionDigits: 2 })),
        },
      ],
      series: [
        { label: "at", value: (_u, value) => (value === null || value === undefined ? "-" : at(value)) },
        ...this.series.map((each) => ({
          label: each.label,
          stroke: colour(each.colour),
          width: each.dashed ? 1 : 1.5,
          dash: each.dashed ? [6, 4] : undefined,
          fill: each.filled ? colour("--window") : undefined,
          paths: each.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: false },
          value: (_u, value) => (value === null || value === undefined ? "-" : `${value.toLocaleString("en", { maximumFractionDigits: 1 })} MiB`),
        })),
      ],
      hooks: {
        drawClear: [(plot) => chart.shade(plot)],
        draw: [(plot) => chart.mark(plot)],
        setSelect: [(plot) => {
          if (plot.select.width < 5) return;
          const from = plot.posToVal(plot.select.left, "x");
          const to = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          chart.zoomed(Math.max(0, from), to);
        }],
      },
    }, this.data, this.holder);
    this.plot.root.querySelector("canvas").setAttribute("aria-hidden", "true");
  }

  // Windows: at least a pixel wide, so that none is lost. Several that are drawn as one are paler by
  // the share of the time in which one was open.
  shade(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = colour("--window");
    for (const [from, to, share] of this.windows) {
      ctx.globalAlpha = Math.max(0.15, share);
      const left = Math.max(bbox.left, plot.valToPos(from, "x", true));
      const right = Math.min(bbox.left + bbox.width, plot.valToPos(to, "x", true));
      if (right >= bbox.left && left <= bbox.left + bbox.width) {
        ctx.fillRect(left, bbox.top, Math.max(1, right - left), bbox.height);
      }
    }
    ctx.restore();
  }

  // Failures: a cross at the top for each; the list below says what they were.
  mark(plot) {
    const { ctx, bbox } = plot;
    const size = 4 * devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("--bad");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([]);
    ctx.beginPath();
    for (const [seconds] of this.marks) {
      const x = plot.valToPos(seconds, "x", true);
      const y = bbox.top + 2 * size;
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.moveTo(x - size, y - size);
      ctx.lineTo(x + size, y + size);
      ctx.moveTo(x + size, y - size);
      ctx.lineTo(x - size, y + size);
    }
    ctx.stroke();
    ctx.restore();
  }

  resize() {
    const width = Math.max(200, this.holder.clientWidth);
    if (this.plot && Math.abs(width - this.plot.width) > 1) this.make();
  }

  // Takes the place of all that was shown; `columns` are pages, one list to a series.
  show(seconds, columns, range, windows, marks) {
    this.windows = windows;
    this.marks = marks;
    this.range = range;
    const lowest = this.options.log ? LOWEST_MIB : 0;
    const sizes = columns.map((column) => column.map((count) => (count === null ? null : Math.max(lowest, count / PAGES_PER_MIB))));
    this.data = [seconds, ...sizes];
    this.plot.setData(this.data);
  }
}
