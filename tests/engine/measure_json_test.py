"""The JSON of `link` and `device`: under our own launcher, under torchrun, and by hand; units in the names."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

ENGINE = os.environ["RIGWISE_ENGINE"]
LINK = ["link", "--sizes", "8,64KiB", "--repeats", "3", "--json"]
problems = []


def check(what, truth):
    if not truth:
        problems.append(what)


def run(words, **env):
    done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
    check(f"{words[:6]}: exit {done.returncode}: {done.stderr[-1500:]}", done.returncode == 0)
    return done.stdout


def check_link(text, ranks, what):
    report = json.loads(text)  # one document, from one rank
    check(f"{what}: {ranks} hosts", len(report["hosts"]) == ranks)
    check(f"{what}: every directed pair", {(p["from_rank"], p["to_rank"]) for p in report["pairs"]} ==
          {(a, b) for a in range(ranks) for b in range(ranks) if a != b})
    check(f"{what}: collectives", [c["operation"] for c in report["collectives"]] ==
          ["all_reduce", "all_gather", "reduce_scatter", "broadcast"])
    for row in report["pairs"] + report["collectives"]:
        check(f"{what}: bytes are right", row["check"] == {"checked_bytes": row["check"]["checked_bytes"], "wrong_bytes": 0})
        check(f"{what}: bytes are checked", row["check"]["checked_bytes"] > 64 * 1024)
        for size in row["sizes"]:
            check(f"{what}: fields", list(size) == ["message_bytes", "repeats", "time_s", "time_low_s", "time_high_s",
                                                    "algbw_bytes_per_s", "busbw_bytes_per_s"])
            check(f"{what}: rate", abs(size["algbw_bytes_per_s"] * size["time_s"] / size["message_bytes"] - 1) < 1e-9)
    for row in report["collectives"]:
        factor = {"all_reduce": 2 * (ranks - 1) / ranks, "broadcast": 1}.get(row["operation"], (ranks - 1) / ranks)
        for size in row["sizes"]:  # nccl-tests' doc/PERFORMANCE.md
            check(f"{what}: busbw", abs(size["busbw_bytes_per_s"] / size["algbw_bytes_per_s"] - factor) < 1e-9)
    check(f"{what}: what hides", [c["operation"] for c in report["collectives"] if "overlap" in c] ==
          ["all_reduce", "all_gather", "reduce_scatter"])
    for row in report["collectives"][:3]:
        overlap = row["overlap"]
        check(f"{what}: overlap", list(overlap) == ["message_bytes", "repeats", "compute_together_s", "alone_s", "both_s", "hidden",
                                                    "hidden_least", "hidden_most"]
              and overlap["message_bytes"] == row["sizes"][-1]["message_bytes"]
              and all(overlap[key] > 0 for key in ("compute_together_s", "alone_s", "both_s"))
              and 0 <= overlap["hidden_least"] <= overlap["hidden"] <= overlap["hidden_most"] <= 1)
    together = report["together"]
    check(f"{what}: together", list(together) == ["repeats", "work_s", "factor", "factor_least", "factor_most"]
          and 1 <= together["factor_least"] <= together["factor"] <= together["factor_most"])


check_link(run([ENGINE, *LINK, "--ranks", "2"]), 2, "--ranks 2")
check_link(run([ENGINE, *LINK, "--ranks", "3"]), 3, "--ranks 3")

# The one beside this Python: a system may have an older one.
beside = pathlib.Path(sys.executable).parent / "torchrun"
torchrun = str(beside) if beside.exists() else shutil.which("torchrun")
if torchrun:
    check_link(run([torchrun, "--no-python", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend", "c10d",
                    "--rdzv_endpoint", "localhost:0", ENGINE, *LINK]), 2, "torchrun")
else:
    print(f"skipped: no torchrun beside {sys.executable}")

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
hand = [subprocess.Popen([ENGINE, *LINK], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                              "MASTER_PORT": port}) for rank in (1, 0)]
outputs = [process.communicate(timeout=300) for process in hand]
check(f"by hand: {outputs}", all(process.returncode == 0 for process in hand))
check("by hand: rank 1 prints nothing", outputs[0][0] == "")
check_link(outputs[1][0], 2, "by hand")

device = json.loads(run([ENGINE, "device", "--json", "--memory", "1MiB", "--repeats", "2", "--threads", "1"]))
check("device: threads", device["threads"] == 1 and device["device"] == "cpu")
check("device: dtypes", [row["dtype"] for row in device["matmul"]] == ["fp32", "bf16"])
check("device: memory", [row["operation"] for row in device["memory"]] == ["copy", "triad"])
for row in device["matmul"]:
    check("device: best", row["best_flop_per_s"] == max(size["flop_per_s"] for size in row["sizes"]))
    for size in row["sizes"]:
        check("device: rate", abs(size["flop_per_s"] * size["time_s"] / (2 * size["size"] ** 3) - 1) < 1e-9)
for row, arrays in zip(device["memory"], (2, 3)):
    check("device: bytes", row["moved_bytes"] == arrays * 1024 * 1024)

print("\n".join(problems) or "link and device: JSON as documented")
sys.exit(1 if problems else 0)
