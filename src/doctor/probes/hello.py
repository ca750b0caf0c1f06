"""A launcher's hello: this rank joins its group and adds 1 up over all of it."""
import datetime

say(step="import torch")
import torch
import torch.distributed as dist

world = int(os.environ.get("WORLD_SIZE", "1"))
say(world=world, step="join the group")
try:
    if world > 1:
        dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=30))
        say(step="all-reduce")
        one = torch.ones(1)
        dist.all_reduce(one)
        say(together=one.item() == world)
        dist.destroy_process_group()
except BaseException as error:
    say(error=f"{type(error).__name__}: {error}"[:800])
    raise
say(step="done", done=True)
