"""A training of plain Python whose functions lab.toml names: recorded, looked into, and its seconds found again.

No torch is needed: the stacks are real, and what the script says of itself on its last line is what the ledger is held
against, generously, since a loaded machine stretches everything."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = '''
import sys, time

def spin(seconds, until=time.thread_time):
    end = until() + seconds
    while until() < end:
        pass

def refill():
    time.sleep(0.08)

def guess():
    spin(0.03)

def learn():
    spin(0.05)

def step_down():
    spin(0.01)

def main():
    time.sleep(0.5)
    waited = 0.0
    for step in range(1, 41):
        begun = time.monotonic()
        refill()
        waited += time.monotonic() - begun
        guess()
        learn()
        step_down()
        print(f"step {step} loss {4 / step:.4f}", flush=True)
    time.sleep(0.5)
    print(f"waited {waited}", file=sys.stderr)

main()
'''

LAB = '''
[[stack.pattern]]
file = "train.py"
function = "refill"
work = "input"

[[stack.pattern]]
file = "train.py"
function = "guess"
work = "forward"

[[stack.pattern]]
file = "train.py"
function = "learn"
work = "backward"

[[stack.pattern]]
file = "train.py"
function = "step_down"
work = "optimizer"
'''


def main():
    rigwise = os.environ["RIGWISE"]
    with tempfile.TemporaryDirectory(prefix="rigwise-stacks-") as folder:
        top = pathlib.Path(folder)
        (top / "train.py").write_text(SCRIPT)
        (top / "lab.toml").write_text(LAB)
        done = subprocess.run([rigwise, "run", "--name", "spins", "--", sys.executable, "train.py"], cwd=top,
                              capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        waited = float(done.stderr.split("waited ")[1].split()[0])
        run = next((top / "runs").glob("*-spins"))
        missing = json.loads((run / "run.json").read_text())["missing"]
        refused = [what for what in missing if what.startswith("no Python stacks")]
        if refused:
            print("skipped:", refused[0])
            return
        frames = (run / "profile").glob("*.frames.csv")
        assert "train.py:main;train.py:refill" in next(frames).read_text()
        asked = subprocess.run([rigwise, "ledger", "--json", "spins"], cwd=top, capture_output=True, text=True, timeout=60,
                               check=True)
        ledger = json.loads(asked.stdout)
        rows = {row["class"]: row.get("seconds") for row in ledger["rows"]}
        total = sum(seconds for seconds in rows.values() if seconds is not None)
        assert abs(total - ledger["wall_s"]) < 1e-3, (total, ledger["wall_s"])
        assert 0.6 * waited < rows["input"] < 1.4 * waited, (rows, waited)
        assert rows["compute"] > 40 * 0.09 * 0.6, rows
        assert rows["startup"] > 0.4 and rows["teardown"] > 0.4, rows
        print(f"input {rows['input']:.2f} s of {waited:.2f} s waited, compute {rows['compute']:.2f} s")


main()
