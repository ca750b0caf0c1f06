"""Failures of real programs, made here and triaged: the layer, the line and, where one rank failed first, the rank.

Cases without torch run always. Those with torch (torchrun on the CPU, transformers, peft, accelerate, datasets) take a minute or
two: they run where RIGWISE_LIVE is set and RIGWISE_PYTHON, .venv of the source folder or this Python has torch. RIGWISE_LIVE=NAME
runs one case and prints what it wrote. Cases say what they need (root for mounts and control groups, mpirun) and are skipped
without it.
"""
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest

RIGWISE = os.environ["RIGWISE"]
SOURCE = pathlib.Path(__file__).resolve().parents[2]
LIVE = os.environ.get("RIGWISE_LIVE", "")


def has(python, module):
    return subprocess.run([python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"]).returncode == 0


def python_with_torch():
    for python in (os.environ.get("RIGWISE_PYTHON"), str(SOURCE / ".venv/bin/python"), sys.executable):
        if python and os.path.exists(python) and has(python, "torch"):
            return python
    return None


PYTHON = python_with_torch()
TORCHRUN = f"{PYTHON} -m torch.distributed.run"
ROOT = os.geteuid() == 0


def memory_cgroups():
    """Where groups of processes get a limit of memory, and the limit's file (version 1 or 2)."""
    one, two = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
    if one.is_dir():
        return one, "memory.limit_in_bytes"
    given = two / "cgroup.subtree_control"
    return (two, "memory.max") if given.exists() and "memory" in given.read_text().split() else (None, "")


CGROUP, LIMIT_FILE = memory_cgroups()


@dataclasses.dataclass
class Case:
    name: str
    command: str                # a shell line; {python} has torch
    layers: tuple               # the label, and others that are right too
    line: str | None            # what the first meaningful line has; None: none is wanted
    script: str = ""            # train.py
    rank: int | None = None
    needs: tuple = ()           # "root", "cgroup", "loop", "mpirun", a Python module
    memory_mb: int = 60         # of the control group
    evidence: str = ""          # a second shell line, whose output is dmesg.txt; {since}: the kernel's first line behind the start


PLAIN = [
    Case("no-module", "python3 train.py", ("framework_env",), "No module named 'not_there'", "import not_there"),
    Case("no-name-in-module", "python3 train.py", ("framework_env",), "cannot import name", "from json import not_there"),
    Case("shadowed-module", "python3 train.py", ("framework_env", "user_code"), "has no attribute",
         "import sys; sys.path.insert(0, '.'); open('yamlx.py', 'w').close(); import yamlx; yamlx.safe_load('')"),
    Case("no-script", "python3 nowhere.py", ("launcher",), "can't open file"),
    Case("no-command", "bash -c 'torchrunn train.py'", ("launcher",), "command not found"),
    Case("no-env-command", "chmod +x train.py; ./train.py", ("launcher",), "/usr/bin/env: ", "#!/usr/bin/env pythom\n"),
    Case("bad-interpreter", "chmod +x train.py; bash -c ./train.py", ("launcher",), "bad interpreter|required file not found", "#!/no/such/python\n"),
    Case("not-executable", "mv train.py train.sh; bash -c ./train.sh", ("launcher", "storage_io_permission"), "Permission denied", "echo"),
    Case("syntax", "python3 train.py", ("user_code",), "SyntaxError", "for i in range(3)\n    print(i)"),
    Case("undefined", "python3 train.py", ("user_code",), "NameError: name 'modle'", "print('start')\nmodle.train()"),
    Case("option", "python3 train.py --batchsize 4", ("user_config",), "unrecognized arguments",
         "import argparse; p = argparse.ArgumentParser(); p.add_argument('--batch_size'); p.parse_args()"),
    Case("option-missing", "python3 train.py", ("user_config",), "arguments are required",
         "import argparse; p = argparse.ArgumentParser(); p.add_argument('--model', required=True); p.parse_args()"),
    Case("config-json", "python3 train.py", ("user_config", "data_pipeline"), "JSONDecodeError",
         "import json; open('config.json', 'w').write('{\"lr\": 1e-4,}'); json.load(open('config.json'))"),
    Case("no-data-file", "python3 train.py", ("user_config", "data_pipeline", "storage_io_permission"), "data/train.jsonl", "open('data/train.jsonl')"),
    Case("no-room", "python3 train.py", ("storage_space",), "No space left on device", """
        for step in range(3): print('step', step, 'loss', 2.0 - step / 10, flush=True)
        with open('/dev/full', 'w') as f: f.write('x' * 100000)"""),
    Case("full-tmpfs", "mkdir full; mount -t tmpfs -o size=64k tmpfs full; python3 train.py; umount full", ("storage_space", "checkpoint"),
         "No space left on device", """
        for step in range(3): print('step', step, 'loss', 2.0 - step / 10, flush=True)
        with open('full/checkpoint.pt', 'wb') as f: f.write(b'x' * 1000000)""", needs=("root",)),
    Case("full-loop", "truncate -s 8M disk.img; mkfs.ext4 -q disk.img; mkdir disk; mount -o loop disk.img disk; python3 train.py; umount disk",
         ("storage_space",), "No space left on device", """
        for step in range(40):
            print('step', step, 'loss', 2.0 - step / 100, flush=True)
            with open(f'disk/checkpoint-{step}.bin', 'wb') as f: f.write(b'x' * 500000)""", needs=("root", "loop")),
    Case("read-only", "mkdir ro; mount -t tmpfs -o ro tmpfs ro; python3 train.py; umount ro", ("storage_io_permission",), "Read-only file system",
         "open('ro/checkpoint.pt', 'wb')", needs=("root",)),
    Case("permission", "python3 train.py", ("storage_io_permission",), "Permission denied", """
        import os
        os.makedirs('private'); os.chmod('private', 0o700); os.chmod('.', 0o755)
        os.setuid(65534)
        open('private/train.jsonl')""", needs=("root",)),
    Case("file-limit", "ulimit -n 32; python3 train.py", ("storage_io_permission",), "Too many open files",
         "files = [open('/dev/null') for _ in range(64)]"),
    Case("file-size", "ulimit -f 8; python3 train.py", ("storage_space", "storage_io_permission"), "File too large", """
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        open('checkpoint.bin', 'wb').write(b'x' * 1000000)"""),
    Case("memory-limit", "ulimit -v 400000; python3 train.py", ("host_oom",), "MemoryError", "rows = bytearray(1 << 30)"),
    Case("cgroup-kill", "echo $$ > {cgroup}/cgroup.procs; python3 train.py; echo exit code $?", ("host_oom",), "ut of memory: Killed process",
         "print('step 1 loss 2.0', flush=True)\nrows = b'x' * (200 << 20)", needs=("root", "cgroup"),
         evidence="dmesg | tail -n +{since}"),
    Case("worker-kill", "echo $$ > {cgroup}/cgroup.procs; python3 train.py", ("host_oom", "user_code"), "terminated abruptly|Killed process", """
        import concurrent.futures
        def rows(n): return len(b'x' * (n << 20))
        if __name__ == '__main__':
            with concurrent.futures.ProcessPoolExecutor(1) as pool: print(pool.submit(rows, 400).result())""", needs=("root", "cgroup"),
         evidence="dmesg | tail -n +{since}"),
    Case("exit-code", "python3 train.py; echo exit status $?", ("user_code",), "exit status 7", "import os; print('start', flush=True); os._exit(7)"),
    Case("no-env-program", "env pythn train.py", ("launcher",), "pythn"),
    Case("no-timeout-program", "timeout 5 tranier", ("launcher",), "failed to run command"),
    Case("shell-variable", "printf 'set -u\\npython3 train.py $DATA_DIR\\n' > run.sh; bash run.sh", ("launcher", "user_config"), "unbound variable"),
    Case("shell-syntax", "printf 'if true; then\\n' > run.sh; bash run.sh", ("launcher", "user_config"), "syntax error"),
    Case("environment", "python3 train.py", ("user_config",), "KeyError: 'DATA_DIR'", "import os; os.environ['DATA_DIR']"),
    Case("buffered", "PYTHONUNBUFFERED= python3 train.py; echo exit status $?", ("user_code",), "NameError", """
        for step in range(300): print('step', step, 'loss', 2 / (step + 1))
        optimizer.step()"""),
    Case("segfault", "python3 -X faulthandler train.py", ("user_code",), "Segmentation fault", "import ctypes; ctypes.string_at(0)"),
    Case("port-busy", "python3 train.py", ("launcher",), "Address already in use", """
        import socket
        a = socket.create_server(('127.0.0.1', 0)); socket.create_server(a.getsockname())"""),
    Case("no-such-host", "python3 train.py", ("rendezvous_network",), "name resolution|Name or service not known|No address associated",
         "import socket; socket.create_connection(('trainer-1.invalid', 29500), 5)"),
    Case("refused", "python3 train.py", ("rendezvous_network",), "Connection refused", "import socket; socket.create_connection(('127.0.0.1', 1), 5)"),
    Case("nan", "python3 train.py", ("numerics",), "step 3 loss nan",
         "for step in range(9): print('step', step, 'loss', 1.5 if step < 3 else float('nan'))"),
    Case("bad-bytes", "python3 train.py", ("data_pipeline",), "UnicodeDecodeError", """
        open('train.txt', 'wb').write(b'row 1\\n\\xff\\xfe row 2\\n')
        for row in open('train.txt', encoding='utf-8'): pass"""),
    Case("cut-gzip", "python3 train.py", ("data_pipeline",), "Compressed file ended", """
        import gzip
        whole = gzip.compress(b'row\\n' * 10000); open('train.gz', 'wb').write(whole[:-20])
        for row in gzip.open('train.gz'): pass"""),
    Case("pickle", "python3 train.py", ("checkpoint",), "invalid load key|UnpicklingError",
         "import pickle; open('state.pkl', 'w').write('version https://git-lfs'); pickle.load(open('state.pkl', 'rb'))"),
    Case("chained", "python3 train.py", ("storage_space",), "No space left on device", """
        try:
            with open('/dev/full', 'w') as f: f.write('x' * 100000)
        except OSError as error:
            raise RuntimeError('could not save') from error"""),
    Case("slots", "mpirun --allow-run-as-root -np 512 true", ("launcher",), "not enough slots", needs=("mpirun",)),
    Case("mpi-no-program", "mpirun --allow-run-as-root -np 1 ./no-program", ("launcher",), "mpirun was unable to", needs=("mpirun",)),
    Case("healthy", "python3 train.py", ("none",), None, """
        import logging, sys
        logging.error('optional dependency flash_attn not found, falling back to sdpa')
        for step in range(5): print('step', step, 'loss', 2.0 - step / 10, 'error_rate', 0.3)
        print('sample: the process was Killed: out of memory, NaN everywhere')
        print("{'train_runtime': 3.2, 'train_loss': 1.8}")"""),
    Case("retried", "python3 train.py", ("none",), None, """
        import socket, traceback
        for step in range(6):
            print('step', step, 'loss', 2.0 - step / 10, flush=True)
            if step == 2:
                try: socket.create_connection(('127.0.0.1', 1), 1)
                except OSError: traceback.print_exc()"""),
    Case("ignored", "python3 train.py", ("none",), None, """
        for step in range(5): print('step', step, 'loss', 2.0 - step / 10, flush=True)
        print('Training completed.', flush=True)
        class Pipe:
            def __del__(self): raise OSError(9, 'Bad file descriptor')
        Pipe()"""),
    Case("interrupted", "python3 train.py", ("none",), None, """
        import os, signal
        print('step 1 loss 2.0', flush=True); os.kill(os.getpid(), signal.SIGINT)"""),
]

# Two ranks on the CPU; `rank`, `dist` and `torch` are there.
PAIR = """
import datetime, os, sys, time
import torch, torch.distributed as dist
dist.init_process_group('gloo', timeout=datetime.timedelta(seconds=8))
rank = dist.get_rank()
model = torch.nn.Linear(4, 4)
ddp = torch.nn.parallel.DistributedDataParallel(model)
def train(steps, start=0):
    for step in range(start, start + steps):
        loss = ddp(torch.randn(2, 4)).square().mean(); loss.backward()
        print(f'[rank{rank}] step {step} loss {loss.item():.3f}', flush=True)
train(2)
"""
ALONE = "import os, sys, torch\n"
RUN2 = "{torchrun} --standalone --nproc-per-node 2 train.py"

PATIENT = PAIR.replace("seconds=8", "seconds=40")  # where the peer takes its time on a busy machine

TORCH = [
    Case("pair-healthy", RUN2, ("none",), None, PAIR + "train(3, 2)\nprint('training finished')"),
    Case("pair-key", RUN2, ("user_code", "data_pipeline"), "KeyError: 'mixed'", PAIR + "if rank == 1: {'a': 1}['mixed']\ntrain(3, 2)", rank=1),
    Case("pair-room", RUN2, ("storage_space", "checkpoint"), "No space left|file write failed|unexpected pos|iostream error",
         PAIR + "if rank == 0: torch.save({'x': torch.zeros(100000)}, '/dev/full')\ntrain(3, 2)", rank=0),
    Case("pair-segfault", RUN2, ("user_code",), "SIGSEGV|Segmentation", PAIR + "if rank == 1: import ctypes; ctypes.string_at(0)\ntrain(3, 2)", rank=1),
    Case("pair-killed", RUN2, ("host_oom",), "SIGKILL|Signal 9", PAIR + "if rank == 1: os.kill(os.getpid(), 9)\ntrain(3, 2)", rank=1),
    Case("pair-oom-kill", "echo $$ > {cgroup}/cgroup.procs; " + RUN2, ("host_oom",), "Killed process|SIGKILL|Signal 9",
         PATIENT + "if rank == 1: rows = b'x' * (5 << 30)\ntrain(3, 2)", rank=1, needs=("root", "cgroup"), memory_mb=3000, evidence="dmesg | tail -n +{since}"),
    Case("pair-silent", RUN2, ("user_code",), "exitcode: 3", PAIR + "if rank == 1: os._exit(3)\ntrain(3, 2)", rank=1),
    Case("pair-abort", RUN2, ("user_code",), "SIGABRT|exitcode: -6|Signal 6", PAIR + "if rank == 1: os.abort()\ntrain(3, 2)", rank=1),
    Case("pair-no-nccl", RUN2, ("framework_env", "driver"), "NCCL", PAIR.replace("'gloo'", "'nccl'")),
    Case("spawn", "{python} train.py", ("user_code",), "ZeroDivisionError", """
import torch.multiprocessing as mp, time
def work(rank):
    if rank == 1: 1 / 0
    time.sleep(2)
if __name__ == '__main__': mp.spawn(work, nprocs=2)""", rank=1),
    Case("no-compiler", "CXX=/no/g++ {python} train.py", ("framework_env",), "[Cc]ompiler", ALONE + "torch.compile(lambda x: (x.sin() + 1).cos())(torch.ones(100))"),
    Case("pair-config", RUN2, ("user_config", "launcher"), "world_size 2",
         PAIR + "assert dist.get_world_size() == 4, f'world_size {dist.get_world_size()} is not tp*dp = 4'"),
    Case("pair-import", RUN2, ("framework_env",), "No module named 'not_there'", PAIR + "if rank == 1: import not_there\ntrain(3, 2)", rank=1),
    Case("pair-late", RUN2, ("collective_timeout", "user_code"), "imed out|Timeout|timeout",
         PAIR + "if rank == 0: time.sleep(25)\ntrain(3, 2)", rank=0),
    Case("pair-barrier", RUN2, ("collective_timeout",), "monitoredBarrier",
         PAIR + "if rank == 1: time.sleep(20)\ndist.monitored_barrier(timeout=datetime.timedelta(seconds=4))", rank=1),
    Case("pair-unused", RUN2, ("user_code",), "Expected to have finished reduction", PAIR.replace("model = torch.nn.Linear(4, 4)", """
class Model(torch.nn.Module):
    def __init__(self): super().__init__(); self.a = torch.nn.Linear(4, 4); self.b = torch.nn.Linear(4, 4)
    def forward(self, x): return self.a(x)
model = Model()""")),
    Case("pair-shapes", RUN2, ("user_code", "collective_timeout"), "params|size|mismatch|Connection closed|shape",
         PAIR.replace("model = torch.nn.Linear(4, 4)", "model = torch.nn.Linear(4, 4 if rank == 0 else 5)")),
    Case("pair-interrupted", "timeout -s INT 12 " + RUN2, ("none",), None, PAIR + "train(3, 2)\ntime.sleep(60)"),
    Case("pair-restarted", "{torchrun} --standalone --nproc-per-node 2 --max-restarts 3 train.py", ("none",), None,
         PATIENT + "if rank == 1 and not os.path.exists('again'): open('again', 'w'); raise RuntimeError('a bad moment')\n"
         "train(4, 2)\nprint('training finished')"),
    Case("interface", "GLOO_SOCKET_IFNAME=enp99s0 " + RUN2, ("rendezvous_network", "user_config"), "enp99s0", PAIR),
    Case("master-name", "RANK=1 WORLD_SIZE=2 MASTER_ADDR=trainer-0.invalid MASTER_PORT=29511 {python} train.py", ("rendezvous_network",),
         "trainer-0.invalid|name resolution|retrieved", PAIR),
    Case("master-refused", "RANK=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 {python} train.py", ("rendezvous_network",),
         "onnection refused|timed out|failed to connect", PAIR),
    Case("peers-missing", "RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29512 {python} train.py", ("launcher", "rendezvous_network"),
         "clients joined|imed out|timeout", PAIR),
    Case("node-missing", "timeout 30 {torchrun} --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:29513 "
         "--rdzv-conf join_timeout=5 train.py", ("launcher", "rendezvous_network"), "RendezvousTimeoutError|imed out", PAIR),
    Case("pair-port", "{python} -c 'import socket, time; s = socket.create_server((\"\", 29514)); time.sleep(180)' & sleep 1; "
         "{torchrun} --nnodes 1 --nproc-per-node 2 --master-port 29514 train.py; kill %1", ("launcher",), "EADDRINUSE|ddress already in use", PAIR),
    Case("torchrun-option", "{torchrun} --nprocs 2 train.py", ("launcher", "user_config"), "error: ", PAIR),
    Case("no-cuda-build", "{python} train.py", ("framework_env", "driver", "gpu_runtime"), "CUDA", ALONE + "torch.zeros(1).cuda()"),
    Case("checkpoint-cut", "{python} train.py", ("checkpoint",), "PytorchStreamReader|central directory", ALONE +
         "torch.save({'x': torch.zeros(1000)}, 'a.pt'); open('b.pt', 'wb').write(open('a.pt', 'rb').read()[:2000]); torch.load('b.pt')"),
    Case("checkpoint-pickle", "{python} train.py", ("checkpoint",), "Weights only load failed|UnpicklingError", ALONE +
         "import argparse; torch.save({'args': argparse.Namespace(a=1)}, 'a.pt'); torch.load('a.pt')"),
    Case("checkpoint-missing", "{python} train.py", ("checkpoint", "user_config"), "step-400", ALONE + "torch.load('runs/step-400/model.pt')"),
    Case("checkpoint-shape", "{python} train.py", ("checkpoint",), "size mismatch", ALONE +
         "torch.nn.Linear(4, 5).load_state_dict(torch.nn.Linear(4, 4).state_dict())"),
    Case("checkpoint-keys", "{python} train.py", ("checkpoint",), r"Missing key\(s\)", ALONE +
         "torch.nn.Sequential(torch.nn.Linear(4, 4)).load_state_dict(torch.nn.Linear(4, 4).state_dict())"),
    Case("checkpoint-optimizer", "{python} train.py", ("checkpoint",), "loaded state dict", ALONE + """
a, b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, bias=False)
torch.optim.AdamW(b.parameters()).load_state_dict(torch.optim.AdamW(a.parameters()).state_dict())"""),
    Case("safetensors-cut", "{python} train.py", ("checkpoint",), "SafetensorError|MetadataIncompleteBuffer", ALONE + """
from safetensors.torch import save_file, load_file
save_file({'x': torch.zeros(1000)}, 'a.safetensors'); open('b.safetensors', 'wb').write(open('a.safetensors', 'rb').read()[:900])
load_file('b.safetensors')""", needs=("safetensors",)),
    Case("worker-killed", "{python} train.py", ("data_pipeline", "host_oom"), "is killed by signal|exited unexpectedly|encountered in worker", ALONE + """
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i):
        if i == 5: os.kill(os.getpid(), 11)
        return torch.zeros(1)
for batch in torch.utils.data.DataLoader(Rows(), num_workers=1): pass"""),
    Case("worker-row", "{python} train.py", ("data_pipeline",), "KeyError: 'text'", ALONE + """
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return {'label': 1}['text']
for batch in torch.utils.data.DataLoader(Rows(), num_workers=1): pass"""),
    Case("collate", "{python} train.py", ("data_pipeline",), "stack expects each tensor to be equal size", ALONE +
         "for batch in torch.utils.data.DataLoader([torch.zeros(3), torch.zeros(4)], batch_size=2): pass"),
    Case("no-rows", "{python} train.py", ("data_pipeline", "user_config"), "num_samples", ALONE + "torch.utils.data.DataLoader([], shuffle=True)"),
    Case("token-id", "{python} train.py", ("data_pipeline", "user_config"), "index out of range in self", ALONE +
         "torch.nn.Embedding(10, 4)(torch.tensor([3, 50257]))"),
    Case("label", "{python} train.py", ("data_pipeline", "user_config"), "Target 9 is out of bounds", ALONE +
         "torch.nn.functional.cross_entropy(torch.zeros(2, 4), torch.tensor([1, 9]))"),
    Case("inplace", "{python} train.py", ("user_code",), "modified by an inplace operation", ALONE +
         "x = torch.ones(3, requires_grad=True); y = x.exp(); y += 1; y.sum().backward()"),
    Case("graph-twice", "{python} train.py", ("user_code",), "backward through the graph a second time", ALONE +
         "y = torch.ones(3, requires_grad=True).exp().sum(); y.backward(); y.backward()"),
    Case("shapes", "{python} train.py", ("user_code", "user_config"), "shapes cannot be multiplied", ALONE + "torch.nn.Linear(4, 4)(torch.zeros(2, 5))"),
    Case("anomaly", "{python} train.py", ("numerics",), "returned nan values", ALONE + """
torch.autograd.set_detect_anomaly(True)
x = torch.zeros(1, requires_grad=True); (x.sqrt() * 0).sum().backward()"""),
    Case("sampling-nan", "{python} train.py", ("numerics",), "probability tensor contains", ALONE + "torch.multinomial(torch.full((1, 4), float('nan')), 1)"),
    Case("tensor-memory", "ulimit -v 12000000; {python} train.py", ("host_oom",), "can't allocate memory|not enough memory", ALONE + "torch.zeros(1 << 40)"),
    Case("no-model", "HF_HUB_OFFLINE=1 {python} train.py", ("user_config", "storage_io_permission"), "my-org/not-there|huggingface|offline|connect",
         "from transformers import AutoModelForCausalLM\nAutoModelForCausalLM.from_pretrained('my-org/not-there')", needs=("transformers",)),
    Case("no-weights", "HF_HUB_OFFLINE=1 {python} train.py", ("checkpoint", "storage_io_permission"), "no file named|does not appear", """
import json, os
os.makedirs('model'); json.dump({'model_type': 'llama', 'hidden_size': 8, 'num_hidden_layers': 1, 'num_attention_heads': 1, 'vocab_size': 8,
    'intermediate_size': 8}, open('model/config.json', 'w'))
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained('model')""", needs=("transformers",)),
    Case("architecture", "HF_HUB_OFFLINE=1 {python} train.py", ("framework_env", "user_config", "checkpoint"), "does not recognize this architecture", """
import json, os
os.makedirs('model'); json.dump({'model_type': 'llama99'}, open('model/config.json', 'w'))
from transformers import AutoConfig
AutoConfig.from_pretrained('model')""", needs=("transformers",)),
    Case("argument", "{python} train.py", ("framework_env", "user_config", "user_code"), "unexpected keyword argument",
         "from transformers import TrainingArguments\nTrainingArguments(output_dir='out', evaluation_strategy_='steps')", needs=("transformers", "accelerate")),
    Case("trainer-resume", "{python} train.py", ("checkpoint", "user_config"), "checkpoint-99|valid checkpoint", """
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
model = LlamaForCausalLM(LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=8))
rows = [{'input_ids': [1, 2, 3], 'labels': [1, 2, 3]}] * 4
Trainer(model, TrainingArguments('out', report_to=[], use_cpu=True), train_dataset=rows).train(resume_from_checkpoint='out/checkpoint-99')""",
         needs=("transformers", "accelerate")),
    Case("trainer-column", "{python} train.py", ("data_pipeline", "user_code", "user_config"), "ValueError|KeyError|columns|RuntimeError", """
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
model = LlamaForCausalLM(LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=8))
rows = [{'input_ids': [1, 2, 3], 'labels': [1, 2, 3]}, {'input_ids': [1, 2], 'labels': [1, 2]}]
Trainer(model, TrainingArguments('out', report_to=[], use_cpu=True, per_device_train_batch_size=2), train_dataset=rows).train()""",
         needs=("transformers", "accelerate")),
    Case("target-modules", "{python} train.py", ("user_config",), "not found in the base model", """
import torch
from peft import LoraConfig, get_peft_model
get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), LoraConfig(target_modules=['q_proj']))""", needs=("peft",)),
    Case("adapter-missing", "HF_HUB_OFFLINE=1 {python} train.py", ("checkpoint", "storage_io_permission", "user_config"), "adapter_config.json|adapter", """
import os, torch
from peft import PeftModel
os.makedirs('adapter')
PeftModel.from_pretrained(torch.nn.Linear(4, 4), 'adapter')""", needs=("peft",)),
    Case("tokenizer-cut", "HF_HUB_OFFLINE=1 {python} train.py", ("data_pipeline", "checkpoint"), "tokenizer|expected|EOF|Exception", """
from tokenizers import Tokenizer
open('tokenizer.json', 'w').write('{"version": "1.0", "model": {')
Tokenizer.from_file('tokenizer.json')""", needs=("tokenizers",)),
    Case("accelerate-config", "{accelerate} launch --config_file bad.yaml train.py", ("user_config", "launcher"), "yaml|expected|mapping",
         "print(1)\nopen('x', 'w')", needs=("accelerate", "yaml")),
    Case("accelerate-option", "{accelerate} launch --num_proceses 2 train.py", ("launcher", "user_config"), "error: |can't open file|unrecognized",
         "import argparse; argparse.ArgumentParser().parse_args()", needs=("accelerate",)),
    Case("json-rows", "HF_HUB_OFFLINE=1 HF_HOME=. {python} train.py", ("data_pipeline",), "JSON parse error|JSONDecode|Failed to load JSON", """
open('rows.jsonl', 'w').write('{"text": "a"}\\n{"text": "b"\\n')
from datasets import load_dataset
load_dataset('json', data_files='rows.jsonl')""", needs=("datasets",)),
    Case("no-rows-file", "HF_HUB_OFFLINE=1 HF_HOME=. {python} train.py", ("user_config", "data_pipeline", "storage_io_permission"), "rows.jsonl|Unable to find", """
from datasets import load_dataset
load_dataset('json', data_files='nowhere/rows.jsonl')""", needs=("datasets",)),
    Case("map-row", "HF_HUB_OFFLINE=1 HF_HOME=. {python} train.py", ("data_pipeline", "user_code"), "KeyError: 'txt'", """
from datasets import Dataset
Dataset.from_dict({'text': ['a', 'b']}).map(lambda row: {'n': len(row['txt'])})""", needs=("datasets",)),
    Case("yaml", "{python} train.py", ("user_config",), "yaml.scanner|mapping values are not allowed|yaml.parser", """
import yaml
yaml.safe_load('lr: 1e-4\\n  batch: 4: 5\\n')""", needs=("yaml",)),
    Case("yaml-number", "{python} train.py", ("user_config", "user_code"), "TypeError", ALONE +
         "import yaml\nlr = yaml.safe_load('lr: 1e-4')['lr']\ntorch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), lr=lr)", needs=("yaml",)),
]


def lacking(case):
    """What the case needs and this machine has not."""
    for need in case.needs:
        there = {"root": ROOT, "cgroup": CGROUP and os.access(CGROUP, os.W_OK), "mpirun": shutil.which("mpirun"),
                 "loop": os.path.exists("/dev/loop-control") and shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")}.get(need)
        if there is None and need not in ("root", "cgroup", "mpirun", "loop"):
            there = PYTHON and has(PYTHON, need)
        if not there:
            return need
    return None


def triage(*files, cwd):
    ran = subprocess.run([RIGWISE, "triage", "--json", *files], capture_output=True, text=True, cwd=cwd)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


class Live(unittest.TestCase):
    def run_to_its_end(self, command, log, folder, env):
        process = subprocess.Popen(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
                                   env=env, start_new_session=True)
        try:
            process.wait(300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.skipTest("the program did not come to its end here: this machine is too busy")

    def check(self, case):
        with tempfile.TemporaryDirectory(prefix="rigwise-live-") as folder:
            os.chmod(folder, 0o755)
            cgroup = (CGROUP or pathlib.Path("/nowhere")) / f"rigwise-live-{os.getpid()}"
            if "cgroup" in case.needs:
                cgroup.mkdir()
                (cgroup / LIMIT_FILE).write_text(str(case.memory_mb << 20))
            path = pathlib.Path(folder)
            (path / "train.py").write_text(textwrap.dedent(case.script).lstrip("\n"))
            (path / "bad.yaml").write_text("num_processes: 2\n  main_process_port: [\n")
            bin_folder = pathlib.Path(PYTHON).parent if PYTHON else pathlib.Path("/nowhere")
            words = {"{python}": PYTHON or "", "{torchrun}": TORCHRUN, "{accelerate}": str(bin_folder / "accelerate"), "{cgroup}": str(cgroup)}
            told = len(subprocess.run(["dmesg"], capture_output=True).stdout.splitlines()) if case.evidence else 0
            command, evidence = case.command, case.evidence.replace("{since}", str(told + 1))
            for word, value in words.items():
                command = command.replace(word, value)
            env = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            with open(path / "train.log", "wb") as log:
                self.run_to_its_end(command, log, folder, env)
            files = ["train.log"]
            if evidence:
                subprocess.run(["bash", "-c", f"{evidence} > dmesg.txt"], cwd=folder)
                files.append("dmesg.txt")
            if "cgroup" in case.needs:
                cgroup.rmdir()
            failure = triage(*files, cwd=folder)
            text = (path / "train.log").read_text(errors="replace")
        keep = os.environ.get("RIGWISE_LIVE_KEEP")  # a folder for the logs
        if keep:
            (pathlib.Path(keep) / f"{case.name}.log").write_text(text)
        if LIVE == case.name:
            print(text, json.dumps(failure, indent=2, ensure_ascii=False), sep="\n")
        got = failure["first_meaningful"]
        shown = f"{case.name}: {failure['layer']} rank {failure['rank']} ({failure['signature']}): {got and got['text']}\n{text[-1500:]}"
        self.assertIn(failure["layer"], case.layers, shown)
        if case.line is None:
            self.assertIsNone(got, shown)
        else:
            self.assertIsNotNone(got, shown)
            self.assertRegex(got["text"], re.compile(case.line), shown)
        if case.rank is not None:
            self.assertEqual(failure["rank"], case.rank, shown)


def add(case, torch):
    def test(self):
        if torch and not PYTHON:
            self.skipTest("no Python with torch (RIGWISE_PYTHON)")
        if torch and not LIVE:
            self.skipTest("RIGWISE_LIVE is not set")
        if LIVE not in ("", "1", "all", case.name):
            self.skipTest("another one is asked for")
        need = lacking(case)
        if need:
            self.skipTest(f"needs {need}")
        self.check(case)

    setattr(Live, f"test_{case.name.replace('-', '_')}", test)


for each in PLAIN:
    add(each, torch=False)
for each in TORCH:
    add(each, torch=True)

if __name__ == "__main__":
    unittest.main(verbosity=2)
