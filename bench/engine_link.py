"""rigwise-engine's transfers beside torch.distributed's over the same Gloo, in turn; prints figures, asserts none.

    PYTHON bench/engine_link.py [--engine build/release/rigwise-engine] [--ranks 2]
                                [--rounds 5] [--sizes 8,32KiB,1MiB,16MiB,64MiB]

PYTHON is one with torch. Each round runs both, the order turning round; a figure is the median over rounds of the median
of a round's repeats. One thread a rank. A collective's time is the slowest rank's.
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNITS = {"KiB": 1024, "MiB": 1024 ** 2, "GiB": 1024 ** 3}
OPERATIONS = ["pair", "all_reduce", "all_gather", "reduce_scatter", "broadcast"]


def to_bytes(word):
    for unit, factor in UNITS.items():
        if word.endswith(unit):
            return int(word.removesuffix(unit)) * factor
    return int(word)


def rank_main():
    """One rank of torch.distributed: the same operations, sizes, repeats and clock as `rigwise-engine link`."""
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world, repeats = dist.get_rank(), dist.get_world_size(), int(os.environ["LINK_REPEATS"])
    rows = {}

    def timed(operation, size, body):
        times = []
        for repeat in range(repeats + 1):
            whole.fill_(1)  # as `link` does: what was written last is in the caches
            part.fill_(1)
            dist.barrier()
            start = time.perf_counter()
            body()
            if repeat:
                times.append(time.perf_counter() - start)
        slowest = torch.tensor(times, dtype=torch.float64)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        rows[f"{operation} {size}"] = statistics.median(slowest.tolist())

    latency = 0.0
    for size in [8, *map(to_bytes, os.environ["LINK_SIZES"].split(","))]:
        message, answer = torch.ones(size, dtype=torch.uint8), torch.zeros(8, dtype=torch.uint8)
        times = []
        for repeat in range(repeats + 1):
            if rank == 0:
                start = time.perf_counter()
                dist.send(message, 1)
                dist.recv(answer, 1)
                times.append(time.perf_counter() - start)
            elif rank == 1:
                dist.recv(message, 0)
                dist.send(answer, 0)
        if rank == 0:
            trip = statistics.median(times[1:])
            latency = latency or trip / 2
            rows[f"pair {size}"] = max(trip - latency, trip / 2)
    for size in map(to_bytes, os.environ["LINK_SIZES"].split(",")):
        parts = max(1, size // 4 // world)
        whole, part = torch.ones(parts * world), torch.ones(parts)
        timed("all_reduce", size, lambda: dist.all_reduce(whole))
        timed("all_gather", size, lambda: dist.all_gather_into_tensor(whole, part))
        timed("reduce_scatter", size, lambda: dist.reduce_scatter_tensor(part, whole))
        timed("broadcast", size, lambda: dist.broadcast(whole, 0))
    if rank == 0:
        print(json.dumps(rows))
    dist.destroy_process_group()


def torch_round(args):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [subprocess.Popen([sys.executable, "-W", "ignore", __file__], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(args.ranks), "MASTER_PORT": port,
                                   "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "LINK_SIZES": args.sizes,
                                   "LINK_REPEATS": str(args.repeats)}) for rank in range(args.ranks)]
    outputs = [process.communicate()[0] for process in ranks]
    return json.loads(outputs[0])


def engine_round(args):
    done = subprocess.run([args.engine, "link", "--ranks", str(args.ranks), "--sizes", args.sizes, "--json", "--threads", "1",
                           "--repeats", str(args.repeats)], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    pair = next(p for p in report["pairs"] if (p["from_rank"], p["to_rank"]) == (0, 1))
    sizes = list(map(to_bytes, args.sizes.split(",")))
    rows = {f"pair {size}": row["time_s"] for size, row in zip(sizes, pair["sizes"])}
    for collective in report["collectives"]:
        rows.update({f"{collective['operation']} {size}": row["time_s"] for size, row in zip(sizes, collective["sizes"])})
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default=str(ROOT / "build/release/rigwise-engine"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--sizes", default="8,32KiB,1MiB,16MiB,64MiB")
    args = parser.parse_args()
    ours, theirs = [], []
    for number in range(args.rounds):
        for into, measure in [(ours, engine_round), (theirs, torch_round)][::1 if number % 2 == 0 else -1]:
            into.append(measure(args))
    print(f"{args.ranks} ranks, gloo over lo, {args.rounds} rounds of {args.repeats}: median µs [lowest to highest round]")
    print(f"{'':<28}{'rigwise-engine':>30}{'torch.distributed':>30}{'ratio':>8}")
    for operation in OPERATIONS:
        for word in args.sizes.split(","):
            key = f"{operation} {to_bytes(word)}"
            a, b = [r[key] * 1e6 for r in ours], [r[key] * 1e6 for r in theirs]
            show = [f"{statistics.median(x):.0f} [{min(x):.0f} to {max(x):.0f}]" for x in (a, b)]
            print(f"{operation + ' ' + word:<28}{show[0]:>30}{show[1]:>30}{statistics.median(b) / statistics.median(a):>8.2f}")


if __name__ == "__main__":
    rank_main() if "LINK_SIZES" in os.environ else main()
