// Entry of the report page. Everything but the plots is in the HTML already; without this script
// nothing but the plots is missing.

import { readData } from "./data";
import { Plots } from "./plots";
import { darkScheme } from "./theme";

const host = document.getElementById("plots");
const data = readData();
if (host && data && data.runs.length > 0) {
  const plots = new Plots(host, data);
  darkScheme.addEventListener("change", () => plots.rebuildFor(false));
} else if (host) {
  host.textContent = "No run was recorded, so there is nothing to plot.";
}
