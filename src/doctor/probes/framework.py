"""The framework as the run's own Python finds it: versions, devices, libraries, extensions."""
import importlib
import importlib.metadata
import platform
import re

EXTENSIONS = ("transformers", "accelerate", "peft", "trl", "datasets", "deepspeed", "bitsandbytes", "flash_attn", "xformers")


def words_of(error):
    return f"{type(error).__name__}: {error}"[:800]


def attempt(step, key, work):
    """Says what `work` gives. What it raises goes under `key`: the steps behind it are asked all the same."""
    say(last_step=step)
    try:
        say(**work())
    except Exception as error:
        say(**{key: words_of(error)})


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
    say(torch_error=words_of(error))
    sys.exit(0)
say(torch=torch.__version__, cuda=torch.version.cuda or "", hip=torch.version.hip or "", xpu=getattr(torch.version, "xpu", None) or "")
say(gloo=torch.distributed.is_available() and torch.distributed.is_gloo_available()
    if hasattr(torch.distributed, "is_gloo_available") else torch.distributed.is_available())


def mapped(pattern):
    """Libraries that this process has mapped."""
    with open("/proc/self/maps") as maps:
        paths = {line.split(maxsplit=5)[5].strip() for line in maps if len(line.split(maxsplit=5)) > 5}
    return sorted(path for path in paths if re.search(pattern, path))


def describe(index):
    properties = torch.cuda.get_device_properties(index)
    bus = getattr(properties, "pci_bus_id", None)
    return {"index": index, "name": properties.name, "capability": f"{properties.major}.{properties.minor}",
            "total_bytes": float(properties.total_memory), "uuid": str(getattr(properties, "uuid", "")),
            "pci": "" if bus is None else f"{properties.pci_domain_id:04x}:{bus:02x}:{properties.pci_device_id:02x}.0"}


def nccl():
    version = torch.cuda.nccl.version()
    return {"nccl": ".".join(map(str, version)) if isinstance(version, tuple) else str(version)}


def nccl_loaded():
    """The version that the mapped library states: torch states the one that it was built with."""
    for path in mapped(r"/libnccl\.so[.\d]*$"):
        number = ctypes.c_int()
        if ctypes.CDLL(path).ncclGetVersion(ctypes.byref(number)) == 0:
            return {"nccl_loaded": str(number.value), "nccl_file": path}
    return {}


count = 0
if torch.version.cuda or torch.version.hip:
    attempt("torch.cuda.init()", "gpu_error", lambda: torch.cuda.init() or {})
    say(last_step="torch.cuda.device_count()")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    say(gpus=count, arch_list=torch.cuda.get_arch_list() if torch.version.cuda else [])
    attempt("torch.cuda.get_device_properties()", "device_error", lambda: {"devices": [describe(index) for index in range(count)]})
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        attempt("torch.cuda.nccl.version()", "nccl_error", nccl)
        attempt("ncclGetVersion of the library that is mapped", "nccl_error", nccl_loaded)
    attempt("torch.cuda.can_device_access_peer()", "peer_error", lambda: {
        "no_peer": [f"{a}-{b}" for a in range(count) for b in range(a + 1, count)
                    if not (torch.cuda.can_device_access_peer(a, b) and torch.cuda.can_device_access_peer(b, a))]})
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
        module = importlib.import_module(name)
        # bitsandbytes puts a stand-in where its library cannot be loaded, which fails at the first call
        library = getattr(getattr(module, "cextension", None), "lib", None)
        if count and type(library).__name__ == "ErrorHandlerMockBNBNativeLibrary":
            error = "its library is not loaded: " + str(getattr(library, "error_msg", ""))[:700]
    except BaseException as problem:
        error = words_of(problem)
    extensions.append({"name": name, "version": packages[dist], "error": error})
    say(extensions=extensions)

say(last_step="libraries")
say(loaded=mapped(r"/lib(cudart|cublas|cublasLt|cudnn|nccl|cusparse|cusolver|nvrtc)\.so[.\d]*$"))
say(last_step="done")
os._exit(0)  # a library that falls over while the interpreter takes itself down harms no run
