"""Writes run directories that nobody ran: the evidence of a second-GPU question, made by hand.

A lab with one 24 GB GPU in an x16 slot, a second slot wired x4 through the chipset, 64 GB of memory and a 2 TB NVMe
drive. `single` is a LoRA run of 3000 steps that fits and takes eight hours, with slow checkpoints; its evaluation waits
for a person until the next day. `two-gpu-hot` (one run) is modestly faster, hot and stalls at checkpoints;
`two-gpu-cool` (three runs, as `single`) is clearly faster and repeats.

    python3 make_runs.py FOLDER [FIRST_START_UNIX_S]
"""
import csv
import json
import math
import pathlib
import sys
import time

STEPS = 3000
STEP_COLUMNS = ["t_s", "kind", "step", "steps_total", "loss", "step_time_s", "input_s", "forward_s", "backward_s", "sync_s", "optimizer_s", "per_device", "log_file",
                "log_line", "log_format"]
EVENT_COLUMNS = ["t_s", "t_end_s", "kind", "name", "state", "step", "size_bytes", "files", "rank", "how", "detail"]
GPU_COLUMNS = ["t_s", "gpu", "util_frac", "used_bytes", "total_bytes", "temp_c", "power_w", "power_limit_w",
               "sm_clock_mhz", "sm_clock_max_mhz", "pcie_gen", "pcie_gen_max", "pcie_width", "pcie_width_max",
               "held_power_s", "held_sw_thermal_s", "held_hw_thermal_s"]
HOST_COLUMNS = ["t_s", "tree_cpu_s", "own_cpu_s", "others_cpu_s", "tree_run_delay_s", "mem_total_bytes",
                "mem_available_bytes", "swap_used_bytes", "psi_mem_some_s", "psi_mem_full_s", "wall_unix_s"]
PROC_COLUMNS = ["t_s", "pid", "ppid", "role", "rank", "comm", "cpu_s", "run_delay_s", "rss_bytes", "main_state"]


def table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def facts(gpus):
    argv = "argv"
    return [{"key": key, "value": value, "source": argv} for key, value in {
        "model": "llama-3.1-8b", "data": "tickets.jsonl", "data_rows": "12000", "sequence_length": "1024",
        "micro_batch": "2", "accumulation": str(8 // gpus), "global_batch": "16", "max_steps": str(STEPS),
        "optimizer": "adamw", "learning_rate": "2e-4", "precision": "bf16", "lora_rank": "16",
        "lora_targets": "down_proj,gate_proj,k_proj,o_proj,q_proj,up_proj,v_proj", "seed": "1",
        "trainable_parameters": "41943040", "checkpoint_interval": "100 steps"}.items()]


def make(root, name, start, gpus, phases, save_s, hottest_c, held_share, jitter):
    step_s = sum(phases.values())
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(start))
    folder = root / f"{stamp}-{name}"
    steps, events = [], []
    t = 180.0
    for k in range(1, STEPS + 1):
        t += step_s * (1 + 0.01 * math.sin(12.9898 * k + jitter)) * (1 + 0.002 * math.sin(jitter))
        steps.append({"t_s": round(t, 3), "kind": "train", "step": k, "steps_total": STEPS,
                      "loss": round(1.1 + 1.2 * math.exp(-k / 400) + 0.02 * math.sin(1.7 * k), 4),
                      "step_time_s": round(step_s, 3), **phases, "per_device": 0, "log_file": "log/out.log", "log_line": k, "log_format": "key_value"})
        if k % 100 == 0:
            events.append({"t_s": round(t, 3), "t_end_s": round(t + save_s, 3), "kind": "checkpoint",
                           "name": f"out/checkpoint-{k}", "state": "complete", "step": k, "size_bytes": 11_200_000_000,
                           "files": 12, "how": "filesystem"})
            t += save_s
    events.append({"t_s": round(t, 3), "kind": "train_end", "how": "log"})
    wall = round(t + 30, 3)
    table(folder / "steps.csv", STEP_COLUMNS, steps)
    table(folder / "events.csv", EVENT_COLUMNS, sorted(events, key=lambda e: e["t_s"]))
    ticks = [15.0 * i for i in range(int(wall / 15) + 1)]
    watch = folder / "watch"
    table(watch / "lab.gpu.csv", GPU_COLUMNS, [
        {"t_s": s, "gpu": g, "util_frac": 0.97 if 180 < s < t else 0.0, "used_bytes": 19.8e9, "total_bytes": 24e9,
         "temp_c": round(40 + (hottest_c - 40 + 4 * (g == 0)) * (1 - math.exp(-max(0.0, s - 180) / 240)), 0),
         "power_w": 330 if 180 < s < t else 30, "power_limit_w": 350,
         "sm_clock_mhz": round(1740 * (1 - held_share / 2)), "sm_clock_max_mhz": 2100, "pcie_gen": 4 - g,
         "pcie_gen_max": 4, "pcie_width": 16 if g == 0 else 4, "pcie_width_max": 16, "held_power_s": 0,
         "held_sw_thermal_s": round(held_share * max(0.0, s - 180), 1), "held_hw_thermal_s": 0}
        for s in ticks for g in range(gpus)])
    table(watch / "lab.host.csv", HOST_COLUMNS, [
        {"t_s": s, "tree_cpu_s": s, "own_cpu_s": 0.001 * s, "others_cpu_s": 0.002 * s, "tree_run_delay_s": 0.001 * s,
         "mem_total_bytes": 64 * 2**30, "mem_available_bytes": 41 * 2**30, "swap_used_bytes": 0, "psi_mem_some_s": 0,
         "psi_mem_full_s": 0, "wall_unix_s": start + s} for s in ticks])
    table(watch / "lab.proc.csv", PROC_COLUMNS, [
        {"t_s": s, "pid": 4000 + r, "ppid": 3999, "role": "rank", "rank": r, "comm": "python", "cpu_s": s,
         "run_delay_s": 0.001 * s, "rss_bytes": 9e9, "main_state": "R"} for s in ticks for r in range(gpus)])
    device = {"name": "NVIDIA GeForce RTX 3090", "vendor": "nvidia", "total_bytes": 24 * 2.0**30, "power_limit_w": 350.0,
              "slowdown_c": 92.0, "pcie_gen_max": 4, "pcie_width_max": 16}
    rig = {"host": "lab", "cpu_model": "made by hand", "cores": 12, "threads": 24, "cpus_allowed": 24,
           "mem_bytes": 64 * 2.0**30, "gpus": [dict(device, gpu=g, uuid=f"GPU-made-{g}") for g in range(gpus)],
           "disks": [{"device": "nvme0n1", "model": "made", "rotational": False, "size_bytes": 2e12}], "mounts": [],
           "nics": [], "missing": []}
    env = {"host": "lab", "versions": {"python": "3.11.2", "torch": "2.13.0", "cuda": "13.0"}, "variables": {},
           "variable_names": [], "facts": {}, "missing": []}
    for kind, value in (("rig", rig), ("env", env)):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / "lab.json").write_text(json.dumps(value, indent=1) + "\n")
    command = ["python", "train.py"] if gpus == 1 else ["torchrun", "--nproc_per_node", str(gpus), "train.py"]
    (folder / "run.json").write_text(json.dumps({
        "format": 1, "id": folder.name, "name": name, "command": command, "cwd": "/made/by/hand", "host": "lab",
        "start_unix_s": start, "start_monotonic_s": 1000.0, "boot_id": "made", "version": "0.1.0", "interval_s": 15.0,
        "on_terminal": False, "ranks_asked": gpus, "ranks_trained": gpus, "ranks_why": "made by hand", "facts": facts(gpus),
        "log_reading": {"lines": STEPS, "matched": STEPS, "skipped": 0, "malformed": 0, "first_bad_line": 0,
                        "first_bad_text": ""},
        "ending": {"reason": "exited", "wall_s": wall, "exit_status": 0},
        "recorder": {"dropped_readings": 0, "lost_log_bytes": 0}, "missing": [], "warnings": []}, indent=1) + "\n")
    (folder / "notes.md").write_text("This run was made by hand (examples/second-gpu/make_runs.py): nobody ran it.\n")
    return start + wall + 600


def main():
    root = pathlib.Path(sys.argv[1])
    start = float(sys.argv[2]) if len(sys.argv) > 2 else time.time()
    single = {"input_s": 0.8, "forward_s": 2.6, "backward_s": 5.0, "sync_s": 0.0, "optimizer_s": 0.45}
    hot = {"input_s": 0.45, "forward_s": 1.9, "backward_s": 3.75, "sync_s": 0.7, "optimizer_s": 0.3}
    cool = {"input_s": 0.42, "forward_s": 1.3, "backward_s": 2.5, "sync_s": 0.28, "optimizer_s": 0.25}
    for i in range(3):
        start = make(root, "single", start, 1, single, 62, 66, 0.0, i)
    start = make(root, "two-gpu-hot", start, 2, hot, 118, 88, 0.22, 4)
    for i in range(3):
        start = make(root, "two-gpu-cool", start, 2, cool, 20, 68, 0.0, 5 + i)


if __name__ == "__main__":
    main()
