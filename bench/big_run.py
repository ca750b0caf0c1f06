"""Writes a run directory as an 8-hour, 4-GPU, 1 Hz recording would leave it: the size that report and ledger must stand.

    python big_run.py FOLDER [HOURS]

The values are made (smooth curves and noise, a checkpoint every 30 minutes); columns are read off the headers that
include/rigwise/run.h implies, so a missing column shows as an absent value, never as an error.
"""
import json
import math
import pathlib
import random
import sys


def table(path, columns, rows):
    with open(path, "w") as out:
        out.write(",".join(columns) + "\n")
        for row in rows:
            out.write(",".join(format(v, ".9g") if isinstance(v, float) else str(v) for v in row) + "\n")


def main(folder, hours):
    rng = random.Random(1)
    seconds = int(hours * 3600)
    run = pathlib.Path(folder)
    for name in ("log", "watch", "env", "rig", "profile"):
        (run / name).mkdir(parents=True, exist_ok=True)
    gib = 1024**3
    gpu_columns = ("t_s gpu util_frac mem_util_frac used_bytes total_bytes temp_c power_w power_limit_w energy_j "
                   "sm_clock_mhz mem_clock_mhz sm_clock_max_mhz pcie_gen pcie_gen_max pcie_width pcie_width_max "
                   "pcie_tx_bytes pcie_rx_bytes throttle_reasons held_power_s held_sync_s held_sw_thermal_s "
                   "held_hw_thermal_s held_brake_s fan_frac").split()
    table(run / "watch/lab.gpu.csv", gpu_columns,
          ((t + 0.01, g, 0.9 + 0.1 * rng.random(), 0.6, 20.5 * gib, 24.0 * gib, 60 + 15 * (1 - math.exp(-t / 900)) + g,
            330 + 20 * rng.random(), 350.0, 340.0 * t, 1700 + 50 * rng.random(), 9500.0, 1900.0, 4, 4, 16, 16, 1e6 * t,
            2e6 * t, 4, 0.05 * t, 0, 0, 0, 0, 0.6) for t in range(seconds) for g in range(4)))
    table(run / "watch/lab.host.csv",
          "t_s cpu_busy_s cpu_iowait_s tree_cpu_s own_cpu_s others_cpu_s tree_run_delay_s tree_rss_bytes load1 "
          "mem_total_bytes mem_available_bytes swap_used_bytes psi_cpu_some_s psi_io_some_s psi_mem_some_s temp_cpu_c "
          "wall_unix_s".split(),
          ((t + 0.01, 6.0 * t, 0.1 * t, 5.5 * t, 0.003 * t, 0.4 * t, 0.01 * t, 3e10, 6.1, 1.3e11, 9e10, 0, 0.1 * t,
            0.05 * t, 0.0, 60.0, 1.764e9 + t) for t in range(seconds)))
    table(run / "watch/lab.disk.csv", "t_s device read_bytes write_bytes busy_s fs_total_bytes fs_free_bytes".split(),
          ((t + 0.01, device, "" if fs else 1e5 * t, "" if fs else 2e5 * t, "" if fs else 0.02 * t, 2e12 if fs else "",
            1e12 - 1e5 * t if fs else "") for t in range(seconds) for device, fs in (("nvme0n1", 0), ("/data", 1))))
    table(run / "watch/lab.proc.csv", "t_s pid ppid role rank comm cpu_s run_delay_s rss_bytes".split(),
          ((t + 0.01, 1000 + r, 999, "rank", r, "python", 1.0 * t, 0.002 * t, 8e9) for t in range(seconds) for r in range(4)))
    step_s = 1.7
    steps = int((seconds - 60) / step_s)
    table(run / "steps.csv", "t_s kind step loss lr grad_norm epoch log_file log_line log_format".split(),
          ((30 + n * step_s + 0.02 * rng.random(), "train", n, 2 + 2 * math.exp(-n / 3000) + 0.05 * rng.random(), 1e-4, 0.8,
            n / steps, "log/out.log", n + 10, "hf_dict") for n in range(1, steps + 1)))
    table(run / "events.csv", "t_s t_end_s kind name state size_bytes files how".split(),
          ((t, t + 4.5, "checkpoint", f"out/checkpoint-{t}", "complete", 312000000, 9, "filesystem")
           for t in range(1800, seconds, 1800)))
    works = (("input", 0.1), ("forward", 0.5), ("backward", 0.95), ("optimizer", 0.15))
    rows = ((30 + n * step_s + sum(length for _, length in works[:k]), 30 + n * step_s + sum(length for _, length in works[:k + 1]),
             1000 + r, "rank", r, work, max(1, round(length * 20)), 0, length * 0.9, 0.001, k + 1)
            for n in range(steps) for r in range(4) for k, (work, length) in enumerate(works))
    table(run / "profile/lab.stacks.csv", "t_s t_end_s pid role rank work samples torn running_s queued_s stack".split(), rows)
    table(run / "profile/lab.frames.csv", "t_s stack work frames".split(),
          ((30.0, k + 1, work, f"train.py:main;train.py:{work}") for k, (work, _) in enumerate(works)))
    (run / "log/out.log").write_text("".join(f"{{'loss': 2.0, 'step': {n}}}\n" for n in range(1, steps + 1)))
    info = {"format": 1, "id": run.name, "name": "big", "command": ["torchrun", "--nproc_per_node", "4", "train.py"],
            "host": "lab", "start_unix_s": 1.764e9, "interval_s": 1, "ranks_asked": 4, "ranks_trained": 4, "facts": [],
            "ending": {"exit_status": 0, "reason": "exited", "wall_s": float(seconds)},
            "recorder": {"cpu_s": 90.0, "peak_rss_bytes": 15e6, "longest_tick_s": 0.02}, "missing": [], "warnings": []}
    (run / "run.json").write_text(json.dumps(info))
    for kind in ("env", "rig"):
        (run / kind / "lab.json").write_text(json.dumps({"host": "lab"}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 8.0)
