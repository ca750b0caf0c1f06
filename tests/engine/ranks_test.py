"""`--ranks N`: the one who watches and the ranks end together, whoever is killed first, and the lost rank is named."""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ENGINE = os.environ["RIGWISE_ENGINE"]
problems = []


def check(what, truth):
    if not truth:
        problems.append(what)


def ranks_of(pid):
    """Children of `pid` by rank, from /proc."""
    ranks = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) != pid:
                continue
            words = dict(word.split("=", 1) for word in (folder / "environ").read_text().split("\0") if "=" in word)
            ranks[int(words["RANK"])] = int(folder.name)
        except (OSError, KeyError, ValueError, IndexError):
            pass
    return ranks


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def until(what, condition, limit_s=60):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    problems.append(f"{what}: not within {limit_s} s")
    return None


def start(count):
    process = subprocess.Popen([ENGINE, "link", "--ranks", str(count), "--sizes", "16MiB", "--repeats", "1000"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    line = process.stderr.readline()  # rank 0: they are together
    check(f"{count} ranks: '{line}'", line.startswith(f"rigwise-engine: {count} ranks, gloo over lo"))
    ranks = until("ranks", lambda: (found := ranks_of(process.pid)) and len(found) == count and found)
    return process, ranks or {}


# At several moments: some ranks may still be connecting, others are in their first broadcasts or in a pair's turn.
for count, victim, after_s in ((2, 0, 0), (2, 1, 0), (4, 3, 0), (4, 3, 0.05), (4, 3, 0.3)):
    process, ranks = start(count)
    time.sleep(after_s)
    os.kill(ranks[victim], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    what = f"rank {victim} of {count} killed: {err}"
    check(f"{what}: exit {process.returncode}", process.returncode == 1)
    check(f"{what}: nothing on stdout", out == "")
    check(what, f"rank {victim} (pid {ranks[victim]}) was killed by signal 9" in err)
    host = socket.gethostname()
    others = [line for line in err.splitlines() if f"rank {victim} on {host} (pid {ranks[victim]}) is lost" in line]
    check(f"{what}: every other rank names it", len(others) == count - 1)
    check(f"{what}: no rank dies of a closed connection", "signal 13" not in err)
    check(f"{what}: all have ended", not any(alive(pid) for pid in ranks.values()))

for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
    process, ranks = start(2)
    process.send_signal(number)
    process.communicate(timeout=120)
    check(f"{number.name}: exit {process.returncode}", process.returncode == status)
    check(f"{number.name}: ranks have ended", not any(alive(pid) for pid in ranks.values()))

process, ranks = start(2)
process.kill()
process.wait()
until("ranks end when the one who watches is killed", lambda: not any(alive(pid) for pid in ranks.values()))

print("\n".join(problems) or "ranks end together, and say who was lost")
sys.exit(1 if problems else 0)
