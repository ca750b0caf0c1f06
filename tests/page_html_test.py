"""Reads the pages that report_test leaves behind as a browser would: well-formed, self-contained, inert.

Usage: page_html_test.py REPORT_TEST
"""
import html.parser
import json
import os
import pathlib
import subprocess
import sys
import tempfile

VOID = {"meta", "br", "link", "img", "input", "hr"}
# SVG shapes close themselves.
SELF_CLOSING = {"path", "line"}
ALLOWED = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "h1", "h2", "p", "b",
           "strong", "i", "small", "span", "a", "br", "dl", "dt", "dd", "ol", "ul", "li", "pre", "code", "table", "thead",
           "tbody", "tr", "th", "td", "div", "figure", "figcaption", "details", "summary", "svg", "path", "noscript",
           "script"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.bad, self.scripts, self.text, self.meta = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ALLOWED:
            self.bad.append(f"<{tag}> is none of ours")
        for name, value in attributes.items():
            if name.startswith("on"):
                self.bad.append(f"<{tag} {name}>: an event handler")
            if name in ("src", "srcset", "action", "data"):
                self.bad.append(f"<{tag} {name}={value!r}>: loads something")
            if name == "href" and not value.startswith("."):
                self.bad.append(f"href={value!r} is not relative")
        if tag == "meta":
            self.meta.append(attributes)
        if tag == "script":
            self.scripts.append([attributes, ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if tag not in SELF_CLOSING | VOID:
            self.bad.append(f"<{tag}/>")

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.bad.append(f"</{tag}> closes {self.open[-1:]}, line {self.getpos()[0]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)


def check(path):
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    bad = page.bad + [f"never closed: {tag}" for tag in page.open]
    if len(page.scripts) != 2:
        bad.append(f"{len(page.scripts)} scripts")
    else:
        island = json.loads(page.scripts[0][1])
        for run in island["runs"]:
            for panel in run["panels"].values():
                for line in panel["lines"]:
                    if len(line["t"]) != len(line["v"]):
                        bad.append(f"{line['label']}: {len(line['t'])} instants, {len(line['v'])} values")
                    if any(a > b for a, b in zip(line["t"], line["t"][1:])):
                        bad.append(f"{line['label']}: time runs backwards")
    if not any("default-src 'none'" in meta.get("content", "") for meta in page.meta):
        bad.append("no content security policy")
    if "\x1b" in text or "\u202e" in text:
        bad.append("control characters")
    return [f"{path.name}: {line}" for line in bad]


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "--gtest_filter=ReportPage.*"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "RIGWISE_SAMPLE_PAGES": folder})
        pages = sorted(pathlib.Path(folder).glob("*.html"))
        bad = [line for path in pages for line in check(path)]
    if len(pages) < 5:
        bad.append(f"only {len(pages)} pages were written")
    print("\n".join(bad[:40]) or f"{len(pages)} pages are well-formed, self-contained and inert")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
