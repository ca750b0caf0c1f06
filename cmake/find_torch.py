"""Says where this interpreter's torch lies and which version it is, without importing it (an import takes seconds and
may need a GPU driver). Prints FOLDER;VERSION, or nothing where there is none."""
import importlib.util
import pathlib
import re
import sys

sys.path = [path for path in sys.path if path]  # not the folder that cmake happens to run in
spec = importlib.util.find_spec("torch")
folder = pathlib.Path(spec.origin).parent if spec and spec.origin else None
if folder and (folder / "version.py").is_file():
    version = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", (folder / "version.py").read_text(), re.M)
    if version:
        print(f"{folder};{version[1]}", end="")
