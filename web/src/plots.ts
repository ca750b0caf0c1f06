// The plots: one column of panels that share a time axis, and the loss against samples below it.

import uPlot from "uplot";
import { axisTime, bytesText, nearest, trimNumber } from "./data";
import type { Line, PageData, RunData, RunEvent } from "./data";
import { currentTheme, dashOf, lineSample } from "./theme";
import type { Theme } from "./theme";

interface PanelKind {
  key: string;
  title: string;
  unit: string;
  scale: number; // data are multiplied by this to come to the unit
  summary: "median" | "peak" | "last";
  absent: string; // said where neither run has data
  floor?: number; // the axis reaches down to this
  ceiling?: number;
  height: number;
}

const kGi = 1 / 2 ** 30;
const kPanels: PanelKind[] = [
  { key: "step_time", title: "Step time", unit: "s", scale: 1, summary: "median", absent: "no step numbers in the log", floor: 0, height: 132 },
  { key: "loss", title: "Loss", unit: "", scale: 1, summary: "last", absent: "no loss in the log", height: 104 },
  { key: "gpu_util", title: "GPU utilisation", unit: "%", scale: 1, summary: "median", absent: "no GPU answered", floor: 0, ceiling: 100, height: 92 },
  { key: "gpu_temp", title: "GPU temperature", unit: "°C", scale: 1, summary: "peak", absent: "no GPU answered", height: 92 },
  { key: "gpu_power", title: "GPU power", unit: "W", scale: 1, summary: "median", absent: "no GPU answered", floor: 0, height: 92 },
  { key: "gpu_mem", title: "GPU memory", unit: "GiB", scale: kGi, summary: "peak", absent: "no GPU answered", floor: 0, height: 92 },
  { key: "cpu", title: "CPU in use", unit: "cores", scale: 1, summary: "median", absent: "no host samples", floor: 0, height: 92 },
  { key: "ram", title: "Host memory", unit: "GiB", scale: kGi, summary: "peak", absent: "no host samples", floor: 0, height: 92 },
  { key: "disk", title: "Disk growth", unit: "GB", scale: 1e-9, summary: "last", absent: "no file system samples", height: 92 },
];
const kTimeSteps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
const kPrintWidth = 340;
const kPrintSharpness = 2; // plots are drawn this much larger for paper, and shrunk by the style sheet
const kAxisWidth = 56;

interface Drawn {
  line: Line;
  label: string;
  colour: string;
  dash: number[];
  value: HTMLElement; // where the figure under the cursor is written
  idle: string; // what stands there otherwise
}

interface TimePlot {
  plot: uPlot;
  onCursor: (t: number | null) => void;
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, className = "", text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function figure(value: number | null | undefined, kind: { unit: string; scale: number }): string {
  if (value === null || value === undefined) return "–";
  return trimNumber(+(value * kind.scale).toPrecision(3)) + (kind.unit ? " " + kind.unit : "");
}

/** Lines of one panel on one x axis. `undefined` joins across other lines' instants, null is a gap. */
function joined(lines: Line[], scale: number): uPlot.AlignedData {
  if (lines.length === 0) return [[]] as unknown as uPlot.AlignedData;
  const tables = lines.map((l) => [l.t, l.v.map((v) => (v === null ? null : v * scale))] as uPlot.AlignedData);
  if (tables.length === 1) return tables[0] as uPlot.AlignedData;
  // 2 = expand: a gap of one line reaches over the instants that other lines brought in.
  return uPlot.join(tables, tables.map((t) => t.map((_, i) => (i === 0 ? 0 : 2))));
}

function extent(lines: Line[]): [number, number] | null {
  let low = Infinity;
  let high = -Infinity;
  for (const line of lines)
    for (const v of line.v)
      if (v !== null) {
        if (v < low) low = v;
        if (v > high) high = v;
      }
  return low <= high ? [low, high] : null;
}

export class Plots {
  private chosen: (RunData | null)[] = [];
  private plots: TimePlot[] = [];
  private seen: uPlot | null = null;
  private panels = element("div", "panels");
  private seenHost = element("div", "seen");
  private full: [number, number] = [0, 1];
  private view: [number, number] = [0, 1];
  private printing = false;
  private moving = false;

  constructor(
    private readonly host: HTMLElement,
    private readonly data: PageData,
  ) {
    for (const side of [0, 1]) this.chosen[side] = data.runs.find((r) => r.side === side) ?? null;
    host.append(this.toolbar(), this.panels, this.seenHost);
    this.panels.tabIndex = 0;
    this.panels.setAttribute("role", "group");
    this.panels.setAttribute("aria-label", "Plots over time. Arrow keys move, plus and minus zoom, 0 shows the whole run.");
    this.panels.addEventListener("keydown", (e) => this.onKey(e));
    this.reset(false);
    this.build();
    let width = this.width();
    new ResizeObserver(() => {
      if (this.printing || this.width() === width) return;
      width = this.width();
      this.resize();
    }).observe(host);
    window.addEventListener("beforeprint", () => this.rebuildFor(true));
    window.addEventListener("afterprint", () => this.rebuildFor(false));
  }

  rebuildFor(printing: boolean): void {
    this.printing = printing;
    this.build();
  }

  private width(): number {
    return this.printing ? kPrintWidth * kPrintSharpness : Math.max(260, this.host.clientWidth);
  }

  private k(): number {
    return this.printing ? kPrintSharpness : 1;
  }

  private lone(): boolean {
    return this.data.sides.length < 2;
  }

  private runsShown(): RunData[] {
    return this.chosen.filter((r): r is RunData => r !== null);
  }

  // ------------------------------------------------------------------ toolbar and keys

  private toolbar(): HTMLElement {
    const bar = element("div", "bar");
    const theme = currentTheme(false);
    this.data.sides.forEach((name, side) => {
      const key = element("span", "key");
      const sample = lineSample(theme.side[this.lone() ? 1 : side === 1 ? 1 : 0], dashOf(side, 0, this.lone()));
      sample.querySelector("line")?.setAttribute("stroke", this.lone() || side === 1 ? "var(--b)" : "var(--a)");
      key.append(sample, element("span", "", name));
      bar.append(key);
      const runs = this.data.runs.filter((r) => r.side === side);
      if (runs.length > 1 || !this.lone()) bar.append(this.picker(name, side, runs));
    });
    const zoom = element("span", "zoom");
    const button = (text: string, label: string, act: () => void) => {
      const made = element("button", "", text);
      made.type = "button";
      made.setAttribute("aria-label", label);
      made.title = label;
      made.addEventListener("click", act);
      zoom.append(made);
    };
    button("←", "Move to earlier", () => this.move(-0.25));
    button("→", "Move to later", () => this.move(0.25));
    button("+", "Zoom in", () => this.zoom(0.5));
    button("−", "Zoom out", () => this.zoom(2));
    button("whole run", "Show the whole run", () => this.reset());
    bar.append(zoom);
    bar.append(element("span", "hint", "Drag across a plot to zoom all of them; double click for the whole run."));
    return bar;
  }

  private picker(name: string, side: number, runs: RunData[]): HTMLElement {
    const select = element("select");
    select.setAttribute("aria-label", "Which run of " + name + " is drawn");
    runs.forEach((run, i) => {
      const option = element("option", "", runs.length > 1 ? `run ${i + 1} of ${runs.length} · ${run.id}` : "shown");
      option.value = String(this.data.runs.indexOf(run));
      select.append(option);
    });
    const none = element("option", "", "hidden");
    none.value = "";
    select.append(none);
    select.addEventListener("change", () => {
      this.chosen[side] = select.value === "" ? null : (this.data.runs[Number(select.value)] ?? null);
      this.reset(false);
      this.build();
    });
    return select;
  }

  private onKey(e: KeyboardEvent): void {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const acts: Record<string, () => void> = {
      ArrowLeft: () => this.move(-0.2),
      ArrowRight: () => this.move(0.2),
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      "0": () => this.reset(),
    };
    const act = acts[e.key];
    if (!act) return;
    act();
    e.preventDefault();
  }

  private move(share: number): void {
    const span = this.view[1] - this.view[0];
    const low = Math.min(Math.max(this.view[0] + span * share, this.full[0]), this.full[1] - span);
    this.setView(low, low + span);
  }

  private zoom(factor: number): void {
    const span = Math.min((this.view[1] - this.view[0]) * factor, this.full[1] - this.full[0]);
    const middle = (this.view[0] + this.view[1]) / 2;
    const low = Math.min(Math.max(middle - span / 2, this.full[0]), this.full[1] - span);
    this.setView(low, low + span);
  }

  private reset(draw = true): void {
    const walls = this.runsShown().map((r) => r.wall_s);
    this.full = [0, Math.max(1e-3, ...walls)];
    this.view = [...this.full];
    if (draw) this.setView(...this.full);
  }

  private setView(low: number, high: number): void {
    if (!(high - low > 1e-6) || this.moving) return;
    this.view = [low, high];
    this.moving = true;
    for (const { plot } of this.plots) plot.setScale("x", { min: low, max: high });
    this.moving = false;
  }

  // ------------------------------------------------------------------ building

  private resize(): void {
    const width = this.width();
    for (const { plot } of this.plots) plot.setSize({ width, height: plot.height });
    this.seen?.setSize({ width, height: this.seen.height });
  }

  private build(): void {
    for (const { plot } of this.plots) plot.destroy();
    this.seen?.destroy();
    this.plots = [];
    this.seen = null;
    this.panels.replaceChildren();
    this.seenHost.replaceChildren();
    const theme = currentTheme(this.printing);
    const shown = this.runsShown();
    if (shown.length === 0) {
      this.panels.append(element("p", "absent", "No run is shown."));
      return;
    }
    const known = kPanels.filter((kind) => shown.some((r) => (r.panels[kind.key]?.lines.length ?? 0) > 0));
    this.addLanes(theme);
    // Paper has two columns: the last plot of each carries the time.
    known.forEach((kind, i) => this.addPanel(kind, theme, i >= known.length - (this.printing ? 2 : 1)));
    const unknown = kPanels.filter((kind) => !known.includes(kind));
    if (unknown.length > 0) {
      const text = unknown.map((kind) => `${kind.title.toLowerCase().replace(/^gpu|^cpu/, (s) => s.toUpperCase())} (${kind.absent})`);
      this.panels.append(element("p", "absent", "Not measured: " + text.join(", ") + "."));
    }
    this.addSeen(theme);
  }

  private panelShell(title: string, detail: string, className = ""): { root: HTMLElement; head: HTMLElement } {
    const root = element("div", "panel " + className);
    const head = element("h3", "", title);
    if (detail) head.append(element("small", "", detail));
    root.append(head);
    return { root, head };
  }

  private baseAxes(theme: Theme, label: boolean, values: (v: number) => string): uPlot.Axis[] {
    const k = this.k();
    const font = `${this.printing ? 7 * k : 11}px system-ui, sans-serif`;
    const shared = { stroke: theme.quiet, font, grid: { stroke: theme.grid, width: 1 }, ticks: { show: false } };
    return [
      {
        ...shared,
        incrs: kTimeSteps,
        space: (this.printing ? 48 : 70) * k,
        size: (label ? (this.printing ? 14 : 22) : 4) * k,
        gap: (this.printing ? 2 : 4) * k,
        values: (_u, splits) => splits.map((s) => (label ? axisTime(s) : "")),
      },
      { ...shared, size: this.printing ? 38 * k : kAxisWidth, gap: 4 * k, space: (this.printing ? 16 : 24) * k, values: (_u, splits) => splits.map((s) => (s === null ? "" : values(s))) },
    ];
  }

  private timeOptions(theme: Theme, height: number, label: boolean): Omit<uPlot.Options, "series"> {
    const self = this;
    return {
      width: this.width(),
      height: this.printing ? Math.round(height * 0.72 * this.k()) : height,
      legend: { show: false },
      padding: [6, 20, 0, 0],
      cursor: {
        sync: { key: "time" },
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false },
        bind: {
          dblclick: () => () => {
            self.reset();
            return null;
          },
        },
      },
      scales: { x: { time: false, range: () => this.view } },
      axes: this.baseAxes(theme, label, trimNumber),
      hooks: {
        setSelect: [
          (u) => {
            if (u.select.width > 3) this.setView(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
        setCursor: [
          (u) => {
            const left = u.cursor.left ?? -1;
            const t = left >= 0 ? u.posToVal(left, "x") : null;
            this.plots.find((p) => p.plot === u)?.onCursor(t);
          },
        ],
      },
    };
  }

  private drawnLines(kind: PanelKind, theme: Theme, values: HTMLElement): Drawn[] {
    const drawn: Drawn[] = [];
    this.chosen.forEach((run, side) => {
      const lines = run?.panels[kind.key]?.lines ?? [];
      lines.forEach((line, i) => {
        const colour = this.lone() ? theme.side[1] : theme.side[side === 1 ? 1 : 0];
        const dash = dashOf(side, i, this.lone());
        const summary = line[kind.summary];
        const idle = `${kind.summary} ${figure(summary, kind)}`;
        const holder = element("span", "val");
        const value = element("b", "", idle);
        const words = [run && !this.lone() ? run.name : "", line.label].filter(Boolean).join(" ");
        holder.append(lineSample(colour, dash), element("span", "", words), value);
        values.append(holder);
        drawn.push({ line, label: words, colour, dash, value, idle });
      });
    });
    return drawn;
  }

  private noteOf(key: string): string {
    const notes = new Set(this.runsShown().map((r) => r.panels[key]?.note ?? ""));
    notes.delete("");
    return [...notes].join("; ");
  }

  private addPanel(kind: PanelKind, theme: Theme, last: boolean): void {
    const { root, head } = this.panelShell(kind.title + (kind.unit ? `, ${kind.unit}` : ""), this.noteOf(kind.key));
    const values = element("span", "vals");
    head.append(values);
    const drawn = this.drawnLines(kind, theme, values);
    const lines = drawn.map((d) => d.line);
    const range = extent(lines);
    // Steps that hold a checkpoint may take ten times the others: a log axis shows both.
    const log = kind.key === "step_time" && range !== null && range[0] > 0 && range[1] / range[0] > 20;
    const options: uPlot.Options = {
      ...this.timeOptions(theme, kind.height + (last ? 18 : 0), last),
      series: [
        {},
        ...drawn.map((d): uPlot.Series => ({
          stroke: d.colour,
          width: this.printing ? 0.9 * this.k() : 1.4,
          dash: d.dash.map((n) => n * this.k()),
          points: { size: this.printing ? 2 * this.k() : 4, stroke: d.colour, fill: theme.paper, width: 1 },
        })),
      ],
    };
    options.scales = { ...options.scales, y: log ? { distr: 3 } : { range: (_u, low, high) => this.yRange(kind, low, high) } };
    options.hooks = { ...options.hooks, drawAxes: [(u) => this.drawBands(u, theme)], draw: [(u) => this.drawLimit(u, kind, theme)] };
    const thinned = lines.some((l) => l.of !== undefined);
    const remarks = [log ? "logarithmic axis" : "", thinned ? "thinned, lowest and highest values kept" : ""].filter(Boolean);
    if (remarks.length > 0) {
      let small = head.querySelector("small");
      if (!small) head.insertBefore((small = element("small")), values);
      small.append((small.textContent ? " · " : "") + remarks.join(" · "));
    }
    const plot = new uPlot(options, joined(lines, kind.scale), root);
    root.querySelector(".u-wrap")?.setAttribute("aria-hidden", "true");
    root.setAttribute("role", "img");
    root.setAttribute("aria-label", `${kind.title}: ` + drawn.map((d) => `${d.label} ${d.idle}`).join(", "));
    this.panels.append(root);
    this.plots.push({ plot, onCursor: (t) => this.showFigures(drawn, kind, t) });
  }

  private yRange(kind: PanelKind, low: number, high: number): uPlot.Range.MinMax {
    if (low === null || high === null || !Number.isFinite(low)) return [0, 1];
    let bottom = kind.floor ?? low - (high - low) * 0.08;
    let top = kind.ceiling ?? high + (high - bottom) * 0.08;
    // Where a device is near the temperature at which it slows down, that line belongs in the plot.
    if (kind.key === "gpu_temp") for (const limit of this.slowdowns()) if (limit - high < 15) top = Math.max(top, limit + 3);
    if (kind.floor !== undefined && low < kind.floor) bottom = low;
    if (top <= bottom) {
      bottom -= 0.5;
      top = bottom + 1;
    }
    return [bottom, top];
  }

  private showFigures(drawn: Drawn[], kind: PanelKind, t: number | null): void {
    for (const d of drawn) {
      if (t === null) {
        d.value.textContent = d.idle;
        continue;
      }
      const i = nearest(d.line.t, t);
      const first = d.line.t[0] ?? Infinity;
      const end = d.line.t[d.line.t.length - 1] ?? -Infinity;
      const slack = (this.view[1] - this.view[0]) * 0.01;
      const within = t >= first - slack && t <= end + slack;
      d.value.textContent = within ? figure(d.line.v[i], kind) : "–";
    }
  }

  // ------------------------------------------------------------------ events

  private drawBands(u: uPlot, theme: Theme): void {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.globalAlpha = 0.16;
    for (const run of this.runsShown())
      for (const event of run.events) {
        if (event.kind !== "checkpoint" && event.kind !== "evaluation") continue;
        this.fillSpan(u, event, bbox.top, bbox.height, theme);
      }
    ctx.restore();
  }

  private fillSpan(u: uPlot, event: RunEvent, top: number, height: number, theme: Theme): void {
    const { ctx, bbox } = u;
    const left = u.valToPos(event.t, "x", true);
    const right = u.valToPos(event.e ?? event.t, "x", true);
    const from = Math.max(left, bbox.left);
    const width = Math.max(Math.min(right, bbox.left + bbox.width) - from, 2 * devicePixelRatio);
    if (from > bbox.left + bbox.width || right < bbox.left) return;
    ctx.fillStyle = theme.event[event.kind] ?? theme.quiet;
    ctx.fillRect(from, top, width, height);
  }

  private slowdowns(): Set<number> {
    return new Set(this.runsShown().flatMap((r) => r.slowdown_c ?? []));
  }

  private drawLimit(u: uPlot, kind: PanelKind, theme: Theme): void {
    if (kind.key !== "gpu_temp") return;
    const max = u.scales["y"]?.max ?? 0;
    for (const limit of this.slowdowns()) {
      if (limit > max) continue;
      const y = u.valToPos(limit, "y", true);
      u.ctx.save();
      u.ctx.strokeStyle = theme.warn;
      u.ctx.setLineDash([2, 4]);
      u.ctx.beginPath();
      u.ctx.moveTo(u.bbox.left, y);
      u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
      u.ctx.stroke();
      u.ctx.fillStyle = theme.warn;
      u.ctx.font = `${(this.printing ? 6 * this.k() : 11) * devicePixelRatio}px system-ui, sans-serif`;
      u.ctx.textAlign = "right";
      u.ctx.fillText(`slows down at ${limit} °C`, u.bbox.left + u.bbox.width - 4, y + (this.printing ? 7 * this.k() : 12) * devicePixelRatio);
      u.ctx.restore();
    }
  }

  private eventWords(event: RunEvent): string {
    const parts = [event.kind.replace("_", " ")];
    if (event.name) parts.push(event.name);
    if (event.e !== undefined) parts.push(trimNumber(+(event.e - event.t).toPrecision(3)) + " s");
    if (event.bytes !== undefined) parts.push(bytesText(event.bytes));
    if (event.state) parts.push(event.state);
    if (event.detail) parts.push(event.detail);
    return parts.join(" · ");
  }

  /** One lane a run: what happened, as blocks on the time axis. */
  private addLanes(theme: Theme): void {
    const shown = this.chosen.map((run, side) => ({ run, side })).filter((x): x is { run: RunData; side: number } => x.run !== null);
    const kinds = [...new Set(shown.flatMap(({ run }) => run.events.map((e) => e.kind)))];
    const { root, head } = this.panelShell("Events", "", "lanes");
    if (kinds.length === 0) {
      head.append(element("small", "", "none on record"));
      this.panels.append(root);
      return;
    }
    const legend = element("span", "legend");
    for (const kind of kinds) {
      const item = element("span");
      const swatch = element("i", "sw");
      swatch.style.backgroundColor = theme.event[kind] ?? theme.quiet;
      item.append(swatch, kind.replace("_", " "));
      legend.append(item);
    }
    const words = element("small", "", "");
    head.append(words, legend);
    const height = 14 + shown.length * 17;
    const options: uPlot.Options = {
      ...this.timeOptions(theme, height, false),
      series: [{}, { show: false }],
    };
    if (this.printing) {
      options.width = (kPrintWidth * 2 + 14) * this.k();
      options.height = height * 0.8 * this.k();
    }
    const axes = options.axes;
    if (axes?.[1]) axes[1] = { ...axes[1], grid: { show: false }, splits: () => shown.map((_, i) => shown.length - i - 0.5), values: () => shown.map(({ run }) => (shown.length > 1 ? (run.side === 0 ? "A" : "B") : "")) };
    if (axes?.[1] && shown.length > 1) axes[1].values = () => shown.map(({ side }) => (this.data.sides[side] ?? "").slice(0, 9));
    options.scales = { ...options.scales, y: { range: () => [0, shown.length] } };
    options.hooks = {
      ...options.hooks,
      draw: [
        (u) => {
          const lane = u.bbox.height / shown.length;
          shown.forEach(({ run, side }, i) => {
            const top = u.bbox.top + i * lane + lane * 0.16;
            u.ctx.save();
            u.ctx.fillStyle = theme.side[this.lone() || side === 1 ? 1 : 0];
            const left = Math.max(u.valToPos(0, "x", true), u.bbox.left);
            const right = Math.min(u.valToPos(run.wall_s, "x", true), u.bbox.left + u.bbox.width);
            if (right > left) u.ctx.fillRect(left, top + lane * 0.32, right - left, Math.max(1, devicePixelRatio));
            for (const event of run.events) this.fillSpan(u, event, top, lane * 0.68, theme);
            u.ctx.restore();
          });
        },
      ],
    };
    const plot = new uPlot(options, [[0, this.full[1]], [null, null]], root);
    this.panels.append(root);
    root.setAttribute("role", "img");
    root.setAttribute("aria-label", "Events: " + shown.map(({ run }) => `${run.name} ${run.events.length}`).join(", "));
    this.plots.push({
      plot,
      onCursor: (t) => {
        const inside = t !== null && (plot.cursor.top ?? -1) >= 0;
        const lane = inside ? Math.floor(((plot.cursor.top ?? 0) / (plot.bbox.height / devicePixelRatio)) * shown.length) : -1;
        const slack = ((this.view[1] - this.view[0]) / this.width()) * 4;
        const hit = shown[lane]?.run.events.find((e) => t !== null && t >= e.t - slack && t <= (e.e ?? e.t) + slack);
        words.textContent = hit ? this.eventWords(hit) : t !== null ? axisTime(+t.toPrecision(3)) : "";
      },
    });
  }

  // ------------------------------------------------------------------ loss against samples

  private addSeen(theme: Theme): void {
    const shown = this.runsShown();
    const basis = this.data.loss_basis;
    const any = shown.some((r) => (r.panels["loss_seen"]?.lines.length ?? 0) > 0);
    if (!any || !basis) return;
    const kind: PanelKind = { key: "loss_seen", title: `Loss against ${basis} seen`, unit: "", scale: 1, summary: "last", absent: "", height: 190 };
    const why = basis === "samples" ? "fair where the batches differ" : basis === "steps" ? "the batch size is not known, so steps stand for samples" : "";
    const { root, head } = this.panelShell(kind.title, why);
    const values = element("span", "vals");
    head.append(values);
    const drawn = this.drawnLines(kind, theme, values);
    const axes = this.baseAxes(theme, true, trimNumber);
    if (axes[0]) {
      axes[0].incrs = undefined;
      axes[0].values = (_u, splits) => splits.map((s) => s.toLocaleString("en"));
    }
    const options: uPlot.Options = {
      width: this.width(),
      height: this.printing ? 96 * this.k() : kind.height,
      legend: { show: false },
      padding: [6, 20, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (_u, low, high) => this.yRange(kind, low, high) } },
      axes,
      series: [
        {},
        ...drawn.map((d): uPlot.Series => ({
          stroke: d.colour,
          width: this.printing ? 0.9 * this.k() : 1.4,
          dash: d.dash.map((n) => n * this.k()),
          points: { size: this.printing ? 2 * this.k() : 4, stroke: d.colour, fill: theme.paper, width: 1 },
        })),
      ],
      hooks: {
        setCursor: [
          (u) => {
            const left = u.cursor.left ?? -1;
            const x = left >= 0 ? u.posToVal(left, "x") : null;
            for (const d of drawn) d.value.textContent = x === null ? d.idle : figure(d.line.v[nearest(d.line.t, x)], kind);
          },
        ],
      },
    };
    this.seen = new uPlot(options, joined(drawn.map((d) => d.line), 1), root);
    root.setAttribute("role", "img");
    root.setAttribute("aria-label", `${kind.title}: ` + drawn.map((d) => `${d.label} ${d.idle}`).join(", "));
    (this.printing ? this.panels : this.seenHost).append(root);
  }
}
