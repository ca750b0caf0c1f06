"""All-reduce and every directed pair, small and large; what arrives is compared with what was sent."""
import datetime

backend, sizes = sys.argv[1], [int(word) for word in sys.argv[2].split(",")]
say(step="import torch")
import torch
import torch.distributed as dist

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if backend == "nccl" else torch.device("cpu")


def settle():
    if backend == "nccl":
        torch.cuda.synchronize(device)


def pattern(count, seed):
    """Whole numbers that float32 holds exactly, so that sums are exact too. Made in place: a copy is 256 MiB at level 3."""
    numbers = torch.arange(count, dtype=torch.int32, device=device)
    return numbers.remainder_(4093).mul_(31).add_(seed * 1009).remainder_(4093).to(torch.float32)


try:
    say(step="join the group")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=60))
    for size in sizes:
        count = max(1, size // 4)
        say(step=f"all-reduce, {count * 4} bytes")
        wanted = pattern(count, 0)
        for other in range(1, world):
            wanted += pattern(count, other)
        dist.barrier()
        for attempt in range(2):  # the first makes connections
            mine = None  # gone before the next is made
            mine = pattern(count, rank)
            settle()
            start = time.perf_counter()
            dist.all_reduce(mine)
            settle()
            spent = time.perf_counter() - start
        if not torch.equal(mine, wanted):
            say(wrong=f"all-reduce of {count * 4} bytes on rank {rank}")
        say(reduce_bytes=float(count * 4), reduce_s=spent)
    for source in range(world):
        for target in range(world):
            if source == target:
                continue
            for size in sizes:
                count = max(1, size // 4)
                say(step=f"send {source} to {target}, {count * 4} bytes")
                dist.barrier()
                if rank == source:
                    data = pattern(count, source)
                    dist.send(data, target)
                    dist.send(data, target)
                    settle()
                elif rank == target:
                    got = torch.zeros(count, device=device)
                    dist.recv(got, source)
                    settle()
                    start = time.perf_counter()
                    dist.recv(got, source)
                    settle()
                    spent = time.perf_counter() - start
                    if not torch.equal(got, pattern(count, source)):
                        say(wrong=f"send {source} to {target}, {count * 4} bytes")
                    say(pair={"from": source, "to": target, "bytes": float(count * 4), "seconds": spent})
    say(step="leave the group")
    dist.barrier()
    dist.destroy_process_group()
    say(step="done", done=True)
except BaseException as error:
    say(error=f"{type(error).__name__}: {error}"[:800])
    raise
