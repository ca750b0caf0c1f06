"""Holds the #includes of src/ to the include table (docs/architecture.md keeps it in words)."""
import pathlib
import re
import sys

MAY_INCLUDE = {
    "base": set(),
    "stats": {"base"},
    "run": {"base"},
    "host": {"base", "run"},
    "logs": {"base", "run"},
    "profile": {"base", "run"},
    "record": {"base", "run", "host", "logs", "profile"},
    "ledger": {"base", "run", "stats"},
    "triage": {"base", "run", "stats"},
    "compare": {"base", "run", "stats"},
    "plan": {"base", "run", "stats"},
    "decide": {"base", "run", "stats"},
    "launch": {"base", "run"},
    "artifacts": {"base", "run"},
    "doctor": {"base", "run", "host"},
    "report": {"base", "run"},
}
# Public headers that hold result types only, open to modules beyond their own (design: "result types").
RESULT_TYPES = {"ledger": {"compare", "decide", "report"}, "compare": {"decide", "report"}, "decide": {"report"}, "triage": {"report"},
                "plan": {"decide", "report"}, "doctor": {"report"}, "stats": set()}
HEADER_OF = {"result": "base", "units": "base", "finding": "run", "captured": "host", "logs_stores": "logs",
             "import": "record", "stacks": "profile", "kineto": "profile", "trace": "profile", "nccl": "profile",
             "report_plan": "report", "catalogue": "plan", "hang": "run", "plan_options": "plan", "plan_strategies": "plan", "change": "ledger", "flame": "report"}
INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"', re.M)
# Folder of engine/ -> folders of engine/ that it may include besides base.
FORMATS = {"text", "files", "data"}
ENGINE_MAY_INCLUDE = {"text": {"text"}, "files": {"text", "files"}, "data": FORMATS,
                      "comm": {"comm"}, "measure": {"comm", "measure"}, "model": FORMATS | {"model"}, "parallel": FORMATS | {"model", "comm", "parallel"},
                      "train": FORMATS | {"model", "comm", "parallel", "train"},
                      "cli": FORMATS | {"comm", "measure", "model", "parallel", "train", "cli"}}
TORCH = re.compile(r'^\s*#include\s+<((?:torch|ATen|c10)/[^>]+)>', re.M)


def owner(include):
    folder, _, name = include.partition("/")
    if folder != "rigwise":
        return folder
    stem = name.removesuffix(".h")
    return HEADER_OF.get(stem, stem)


def main(root):
    bad = []
    for path in sorted((root / "src").rglob("*.[ch]*")):
        module = path.relative_to(root / "src").parts[0]
        bad += [f"{path.relative_to(root)}: nothing in src/ includes {i}" for i in INCLUDE.findall(path.read_text())
                if i.startswith("engine/")]
        if module == "cli":
            continue
        if module not in MAY_INCLUDE:
            bad.append(f"{path}: module '{module}' is not in the include table")
            continue
        for include in INCLUDE.findall(path.read_text()):
            other = owner(include)
            public = include.startswith("rigwise/")
            if other == module or other in MAY_INCLUDE[module]:
                continue
            if public and module in RESULT_TYPES.get(other, ()):
                continue
            bad.append(f"{path.relative_to(root)}: {module} may not include {include}")
    bad += [f"engine/{path.name} is not in the include table" for path in sorted((root / "engine").iterdir())
            if path.is_dir() and path.name not in ENGINE_MAY_INCLUDE]
    for folder, others in ENGINE_MAY_INCLUDE.items():
        for path in sorted((root / "engine" / folder).rglob("*.[ch]*")):
            text = path.read_text()
            allowed = tuple(f"engine/{other}/" for other in others)
            if folder not in FORMATS:
                allowed += ("engine/torch.h", "engine/autograd.h")
            for include in INCLUDE.findall(text):
                if owner(include) != "base" and not include.startswith(allowed):
                    bad.append(f"{path.relative_to(root)}: engine/{folder} may not include {include}")
            if folder in FORMATS:
                bad += [f"{path.relative_to(root)}: engine/{folder} knows no libtorch: <{i}>" for i in TORCH.findall(text)]
    print("\n".join(bad) or "include table: every #include is allowed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
