"""The framework as the run's own Python finds it: versions, devices, libraries, extensions."""
import importlib
import importlib.metadata
import platform
import re

EXTENSIONS = ("transformers", "accelerate", "peft", "trl", "datasets", "deepspeed", "bitsandbytes", "flash_attn", "xformers")

packages = {}
for dist in importlib.metadata.distributions():
    name = re.sub(r"[-_.]+", "-", dist.metadata["Name"] or "").lower()
    if name in ("torch", "triton") or name.replace("-", "_") in EXTENSIONS or name.startswith("nvidia-"):
        packages[name] = dist.version
say(python_version=platform.python_version(), packages=packages,
    has_accelerate="accelerate" in packages, has_deepspeed="deepspeed" in packages)

say(last_step="import torch")
try:
    import torch
    import torch.distributed
except BaseException as error:  # whatever it raises is the answer
    say(torch_error=f"{type(error).__name__}: {error}"[:800])
    sys.exit(0)
say(torch=torch.__version__, cuda=torch.version.cuda or "", hip=torch.version.hip or "")
say(gloo=torch.distributed.is_available() and torch.distributed.is_gloo_available()
    if hasattr(torch.distributed, "is_gloo_available") else torch.distributed.is_available())

say(last_step="torch.cuda.init()")
built = torch.version.cuda or torch.version.hip
if built:
    try:
        torch.cuda.init()
    except BaseException as error:
        say(gpu_error=f"{type(error).__name__}: {error}"[:800])
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    say(gpus=count, arch_list=torch.cuda.get_arch_list() if torch.version.cuda else [])
    devices = []
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        bus = getattr(properties, "pci_bus_id", None)
        devices.append({
            "index": index, "name": properties.name, "capability": f"{properties.major}.{properties.minor}",
            "total_bytes": float(properties.total_memory),
            "pci": "" if bus is None else f"{properties.pci_domain_id:04x}:{bus:02x}:{properties.pci_device_id:02x}.0"})
    say(devices=devices)
    if torch.distributed.is_nccl_available():
        version = torch.cuda.nccl.version()
        say(nccl=".".join(map(str, version)) if isinstance(version, tuple) else str(version))
    say(no_peer=[f"{a}-{b}" for a in range(count) for b in range(a + 1, count)
                 if not (torch.cuda.can_device_access_peer(a, b) and torch.cuda.can_device_access_peer(b, a))])
else:
    say(gpus=0)

extensions = []
for name in EXTENSIONS:
    dist = name.replace("_", "-")
    if dist not in packages:
        continue
    say(last_step="import " + name)
    error = ""
    try:
        importlib.import_module(name)
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"[:800]
    extensions.append({"name": name, "version": packages[dist], "error": error})
    say(extensions=extensions)

say(last_step="libraries")
wanted = re.compile(r"/lib(cudart|cublas|cublasLt|cudnn|nccl|cusparse|cusolver|nvrtc)\.so[.\d]*$")
with open("/proc/self/maps") as maps:
    say(loaded=sorted({line.split(maxsplit=5)[5].strip() for line in maps
                       if len(line.split(maxsplit=5)) > 5 and wanted.search(line.strip())}))
say(last_step="done")
