"""Holds web/dist to web/src: the digest in report.js's first line must be that of today's sources. Needs no npm."""
import hashlib
import pathlib
import re
import sys


def sources_digest(web):
    names = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"]
    names += ["src/" + path.name for path in (web / "src").iterdir()]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (web / name).read_bytes() + b"\0")
    return digest.hexdigest()


def main(root):
    web = root / "web"
    script = (web / "dist/report.js").read_text()
    bad = []
    found = re.search(r"sources ([0-9a-f]{64})", script[:300])
    if not found or found.group(1) != sources_digest(web):
        bad.append("web/dist is not made from today's web/src: run ./dev web (or web/bundle), and commit web/dist")
    if "Leon Sorokin" not in script[:2000]:
        bad.append("web/dist/report.js lost the licence of uPlot")
    for name in ("report.js", "report.css"):
        text = (web / "dist" / name).read_text()
        if re.search(r"https?://(?!www\.w3\.org/2000/svg)", text):
            bad.append(f"web/dist/{name} names an address on a network")
        if re.search(r"</(script|style)|<!--", text, re.I):
            bad.append(f"web/dist/{name} would end its own element")
    if len(script) > 300_000:
        bad.append("web/dist/report.js is larger than 300 kB")
    lock = (web / "package-lock.json").read_text()
    if '"resolved"' in lock or "://" in lock:
        bad.append("web/package-lock.json names a registry host")
    print("\n".join(bad) or "web/dist is up to date")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
