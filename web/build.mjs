// Bundles the page: src/*.ts and page.css, with uPlot, into dist/report.js and dist/report.css.
// The first line of report.js carries a digest of everything the bundle is made from, by which
// tests/page_bundle_test.py sees that dist is up to date without npm.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build, transform } from "esbuild";

const here = new URL(".", import.meta.url);
const read = (path) => readFileSync(new URL(path, here), "utf8");

const sources = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"];
for (const name of readdirSync(new URL("src/", here)).sort()) sources.push("src/" + name);
sources.sort();
const digest = createHash("sha256");
for (const name of sources) digest.update(name + "\0" + read(name) + "\0");

const licence = read("node_modules/uplot/LICENSE").trim();
const notice = `/*! rigwise page, made from web/src (sources ${digest.digest("hex")}).\nIt contains uPlot ${JSON.parse(read("node_modules/uplot/package.json")).version}, under this licence:\n\n${licence} */\n`;

const script = await build({
  entryPoints: [new URL("src/main.ts", here).pathname],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2020",
  charset: "ascii",
  legalComments: "none",
  write: false,
});
const style = await transform(read("node_modules/uplot/dist/uPlot.min.css") + "\n" + read("src/page.css"), {
  loader: "css",
  minify: true,
  charset: "ascii",
});
mkdirSync(new URL("dist/", here), { recursive: true });
const text = script.outputFiles[0].text;
if (/<\/script/i.test(text) || /<!--/.test(text) || /<\/style/i.test(style.code)) throw new Error("the bundle would end its own element");
writeFileSync(new URL("dist/report.js", here), notice + text);
writeFileSync(new URL("dist/report.css", here), style.code);
console.log(`dist/report.js ${(notice + text).length} bytes, dist/report.css ${style.code.length} bytes`);
