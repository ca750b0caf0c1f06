"""One GPU on its own: memory, a product with a known result, and copies while the link is looked at."""
import glob

index, address = int(sys.argv[1]), sys.argv[2]
say(index=index, pci=address, last_step="import torch")
import torch

device = torch.device("cuda", index)


def hops():
    """The link of every port from the root down to the card, as it is now."""
    found = []
    for part in os.path.realpath(f"/sys/bus/pci/devices/{address}").split("/"):
        if part.count(":") != 2 or "." not in part:
            continue
        hop = {"address": part}
        for key, file, kind in (("width", "current_link_width", int), ("width_max", "max_link_width", int),
                                ("speed_gts", "current_link_speed", float), ("speed_max_gts", "max_link_speed", float)):
            try:
                with open(f"/sys/bus/pci/devices/{part}/{file}") as text:
                    value = kind(text.read().split()[0])
                if 0 < value < 255:
                    hop[key] = value
            except (OSError, ValueError, IndexError):
                pass
        found.append(hop)
    return found


try:
    say(last_step="256 MB of device memory")
    torch.cuda.set_device(device)
    held = torch.empty(256 * 1000 * 1000, dtype=torch.uint8, device=device)
    say(last_step="a product of two matrices")
    ones = torch.ones(2048, 2048, device=device)
    product = ones @ ones
    say(correct=bool((product == 2048).all().item()))
    say(last_step="copies over the link")
    host = torch.empty(held.numel(), dtype=torch.uint8, pin_memory=True)
    for key, target, source in (("to_device_bytes_per_s", held, host), ("from_device_bytes_per_s", host, held)):
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(device)
        copies, start = 0, time.perf_counter()
        while time.perf_counter() - start < 0.7:
            for _ in range(8):  # enough in the queue to look at the link while it works
                target.copy_(source, non_blocking=True)
                copies += 1
            if key.startswith("to") and copies > 16:
                say(loaded_hops=hops())
            torch.cuda.synchronize(device)
        say(**{key: copies * held.numel() / (time.perf_counter() - start)})
    say(last_step="done")
except BaseException as error:
    say(trouble=f"{type(error).__name__}: {error}"[:800])
    sys.exit(1)
