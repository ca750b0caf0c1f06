"""Runs import end to end: what a recorded run left behind, imported, tells the same as the record."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

RIGWISE = os.environ["RIGWISE"]

TRAINER = """
import json, sys, time
print("***** Running training *****", flush=True)
print("  Num examples = 160", flush=True)
print("  Total train batch size (w. parallel, distributed & accumulation) = 8", flush=True)
history = []
for step in range(1, 21):
    time.sleep(0.05)
    entry = {"loss": round(3 / step, 4), "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": step / 20}
    history.append(dict(entry, step=step))
    print(time.strftime("%Y-%m-%d %H:%M:%S") + ",%03d - INFO - %r" % (time.time() % 1 * 1000, entry), flush=True)
json.dump({"log_history": history, "global_step": 20, "max_steps": 20, "train_batch_size": 8}, open("trainer_state.json", "w"))
"""


def rigwise(*words, cwd, expect=0):
    done = subprocess.run([RIGWISE, *words], cwd=cwd, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "TZ": "UTC"})
    assert done.returncode == expect, f"rigwise {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def main():
    with tempfile.TemporaryDirectory(prefix="rigwise-import-") as folder:
        top = pathlib.Path(folder)
        (top / "train.py").write_text(TRAINER)
        rigwise("run", "--quiet", "--name", "recorded", "--", sys.executable, "train.py", cwd=top)
        kept = top / "kept"
        kept.mkdir()
        recorded = json.loads(rigwise("runs", "show", "recorded", "--json", cwd=top))
        shutil.copy(pathlib.Path(top / recorded["dir"]) / "log/out.log", kept / "train.log")
        shutil.copy(top / "trainer_state.json", kept)
        text = rigwise("runs", "import", "kept", "--name", "imported", cwd=top)
        assert "train.log" in text and "times joined" in text, text
        shown = json.loads(rigwise("runs", "show", "imported", "--json", cwd=top))
        assert shown["imported"] is True and shown["exit_status"] is None, shown
        assert 0 < shown["wall_s"] <= recorded["wall_s"] + 0.1, (shown["wall_s"], recorded["wall_s"])
        facts = {fact["key"]: fact["value"] for fact in shown["facts"]}
        assert facts["global_batch"] == "8" and facts["max_steps"] == "20", facts

        def ledger(name):
            document = json.loads(rigwise("ledger", name, "--json", cwd=top))
            rows = document.get("rows", document.get("ledger", {}).get("rows", []))
            total = sum(row["seconds"] for row in rows)
            return document, total

        document, total = ledger("imported")
        assert abs(total - shown["wall_s"]) < 1e-6, (total, shown["wall_s"])
        rigwise("compare", "recorded", "--", "imported", cwd=top, expect=compare_status(top))
        # every original is there, byte for byte
        run = top / shown["dir"]
        assert (run / "import/train.log").read_bytes() == (kept / "train.log").read_bytes()
        # a folder cut off anywhere still imports, or says why not
        log = (kept / "train.log").read_bytes()
        for share in (0, 0.1, 0.5, 0.9):
            (kept / "train.log").write_bytes(log[:int(len(log) * share)])
            rigwise("runs", "import", "kept", "--name", "cut", cwd=top)
    print("import: a recorded run's files tell the same when imported")


def compare_status(top):
    """Comparing works; whether the two are comparable is compare's own business (0 or 3)."""
    done = subprocess.run([RIGWISE, "compare", "recorded", "--", "imported", "--json"], cwd=top, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    json.loads(done.stdout)
    return done.returncode


main()
