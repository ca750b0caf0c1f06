// Colours and line styles of the plots. Colour says the side (baseline or candidate), the dash says
// which device; both differ in lightness too, so that no reader depends on hue.

export interface Theme {
  ink: string;
  quiet: string;
  grid: string;
  paper: string;
  side: [string, string];
  warn: string;
  event: Record<string, string>;
}

const kEvents: Record<string, string> = {
  checkpoint: "#4aa8e0",
  evaluation: "#d8c51e",
  phase: "#8e99a6",
  train_end: "#5d6875",
  throttle: "#d55e00",
  gap: "#9aa6b5",
  profile_window: "#6f4aa8",
  warning: "#e69f00",
  error: "#c62828",
  recorder: "#94702c",
};

const kLight: Theme = {
  ink: "#16202c",
  quiet: "#5a6675",
  grid: "#e9edf1",
  paper: "#ffffff",
  side: ["#6a7583", "#0b57d0"],
  warn: "#b3261e",
  event: kEvents,
};
const kDark: Theme = {
  ink: "#e4e9ef",
  quiet: "#98a4b3",
  grid: "#222b35",
  paper: "#10151b",
  side: ["#a3afbd", "#7ab0ff"],
  warn: "#ff8a80",
  event: kEvents,
};

export const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");

export function currentTheme(printing: boolean): Theme {
  return darkScheme.matches && !printing ? kDark : kLight;
}

const kDashes: [number[][], number[][]] = [
  [[], [2, 3], [9, 3, 2, 3], [9, 4]],
  [[7, 3], [3, 2], [12, 3, 2, 3], [1, 3]],
];

/** A lone side needs no dash for its first line. */
export function dashOf(side: number, line: number, lone: boolean): number[] {
  const list = kDashes[lone ? 0 : side === 1 ? 1 : 0];
  return list[line % list.length] ?? [];
}

export function lineSample(colour: string, dash: number[]): SVGSVGElement {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("width", "24");
  svg.setAttribute("height", "8");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(ns, "line");
  for (const [key, value] of Object.entries({ x1: "0", x2: "24", y1: "4", y2: "4", stroke: colour, "stroke-width": "2" }))
    line.setAttribute(key, value);
  if (dash.length) line.setAttribute("stroke-dasharray", dash.join(" "));
  svg.append(line);
  return svg;
}
