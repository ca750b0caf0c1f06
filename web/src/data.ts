// The data island that src/report/page_data.cc writes.

export interface Line {
  label: string;
  t: number[];
  v: (number | null)[]; // null: nothing was measured here
  of?: number; // points before thinning
  // of all points, not of the thinned ones
  median?: number;
  peak?: number;
  last?: number;
}
export interface PanelData {
  lines: Line[];
  note?: string;
}
export interface RunEvent {
  kind: string;
  t: number;
  e?: number;
  name?: string;
  state?: string;
  bytes?: number;
  detail?: string;
}
export interface RunData {
  id: string;
  name: string;
  side: number;
  wall_s: number;
  events: RunEvent[];
  dropped_events: number;
  panels: Record<string, PanelData | undefined>;
  slowdown_c?: number[];
}
export interface PageData {
  sides: string[];
  loss_basis: string;
  runs: RunData[];
}

export function readData(): PageData | null {
  const island = document.getElementById("data");
  if (!island?.textContent) return null;
  try {
    return JSON.parse(island.textContent) as PageData;
  } catch {
    return null;
  }
}

/** Index of the point of `t` nearest to `x`, or -1. */
export function nearest(t: number[], x: number): number {
  let low = 0;
  let high = t.length - 1;
  if (high < 0) return -1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((t[middle] ?? 0) < x) low = middle + 1;
    else high = middle;
  }
  const before = low - 1;
  return before >= 0 && x - (t[before] ?? 0) < (t[low] ?? 0) - x ? before : low;
}

/** Seconds as people say them: "0", "45 s", "6 min", "1 h 30". */
export function axisTime(s: number): string {
  if (s === 0) return "0";
  const sign = s < 0 ? "−" : "";
  const size = Math.abs(s);
  if (size < 60) return sign + trimNumber(size) + " s";
  if (size < 3600) {
    const seconds = Math.round(size % 60);
    return sign + Math.floor(size / 60) + " min" + (seconds ? " " + seconds : "");
  }
  const minutes = Math.round(size / 60);
  return sign + Math.floor(minutes / 60) + " h" + (minutes % 60 ? " " + String(minutes % 60).padStart(2, "0") : "");
}

export function trimNumber(value: number): string {
  return String(+value.toPrecision(4));
}

export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (bytes >= 1000 && i + 1 < units.length) {
    bytes /= 1000;
    i++;
  }
  return (bytes >= 100 || i === 0 ? bytes.toFixed(0) : bytes.toFixed(1)) + " " + units[i];
}
