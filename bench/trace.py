"""The trace reader beside HolisticTraceAnalysis (HTA) on the same file: seconds, peak memory, and whether both say the same.

    ./dev bench trace [--mb 250] [--rounds 3] [--keep FILE] [--trace FILE] [--hta PYTHON]

The trace is MADE, in the form that Kineto writes for torch on a CUDA GPU: no GPU was there. It holds the operators of forward and
backward passes of a 24-layer model, their launches and kernels with flows, all-reduces on a stream of their own, copies,
optimizer and loader ranges. --trace takes one of your own instead. HTA comes from PyPI into build/bench/hta, or is the
Python that --hta names. HTA rounds instants to microseconds as a rule; it is told not to, so that both measure the same.
Both use one core; what is compared is their CPU time, which other programs on the machine hardly change, of the round with
the least of it. HTA's imports are not counted.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
READER = ROOT / "build/release/trace_speed"

HTA = r"""
import json, logging, resource, sys, time
start = time.perf_counter()
logging.disable(logging.CRITICAL)
from hta.trace_analysis import TraceAnalysis
imported, cpu = time.perf_counter(), time.process_time()
analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/", include_last_profiler_step=True)
loaded = time.perf_counter()
split = analysis.get_temporal_breakdown(visualize=False).iloc[0]
overlap = analysis.get_comm_comp_overlap(visualize=False).iloc[0]
idle = analysis.get_idle_time_breakdown(ranks=[0], visualize=False)[0]
done, cpu_done = time.perf_counter(), time.process_time()
streams = {}
for _, row in idle.iterrows():
    streams.setdefault(str(int(row["stream"])), {})[row["idle_category"]] = float(row["idle_time"]) / 1e6
print(json.dumps({
    "import_s": imported - start, "load_s": loaded - imported, "total_s": done - imported, "cpu_s": cpu_done - cpu,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "idle_s": float(split["idle_time(us)"]) / 1e6, "compute_s": float(split["compute_time(us)"]) / 1e6,
    "non_compute_s": float(split["non_compute_time(us)"]) / 1e6, "kernel_s": float(split["kernel_time(us)"]) / 1e6,
    "overlap_percent": float(overlap["comp_comm_overlap_pctg"]), "streams": streams}))
"""


class Maker:
    """Writes a trace as Kineto's output_json does, field by field."""

    PID = 4127
    MAIN, AUTOGRAD = 4127, 4290
    BASE_US = 5042631777076.0

    def __init__(self, out, seed):
        self.out, self.bits = out, random.Random(seed)
        self.bytes = 0
        self.id = 0
        self.host = {self.MAIN: 0.0, self.AUTOGRAD: 0.0}
        self.device = {7: 0.0, 20: 0.0}
        self.first = True

    def write(self, text):
        self.out.write(text)
        self.bytes += len(text)

    def event(self, category, name, pid, tid, ts, dur, args):
        self.write(f'\n  {{\n    "ph": "X",\n    "cat": "{category}",\n    "name": "{name}",\n    "pid": {pid},\n    "tid": {tid},\n'
                   f'    "ts": {self.BASE_US + ts:.3f},\n    "dur": {dur:.3f}\n    ,\n    "args": {{\n      {args}\n    }}\n  }},')

    def flow(self, kind, number, pid, tid, ts):
        end = ', "bp": "e"' if kind == "f" else ""
        self.write(f'\n  {{\n    "ph": "{kind}",\n    "id": {number},\n    "pid": {pid},\n    "tid": {tid},\n    "ts": {self.BASE_US + ts:.3f},\n'
                   f'    "cat": "ac2g",\n    "name": "ac2g"\n    {end}\n  }},')

    def operator(self, name, tid, nested=(), dims="[[4, 1024, 1024], [1024, 1024]]"):
        """An operator, those inside it, and the time at which it could launch."""
        begin = self.host[tid] + self.bits.uniform(0.5, 3)
        inner = begin
        for depth, inside in enumerate((name, *nested)):
            length = 18.0 - 4 * depth
            self.id += 1
            self.event("cpu_op", inside, self.PID, tid, inner, length,
                       f'"External id": {self.id},"Record function id": 0, "Concrete Inputs": ["", "", ""], '
                       f'"Input type": ["c10::BFloat16", "c10::BFloat16", ""], "Input Strides": [[1048576, 1024, 1], [1, 1024], []], '
                       f'"Input Dims": {dims}, "Ev Idx": {self.id}')
            inner += 1.5
        self.host[tid] = begin + 18.0 + self.bits.uniform(0, 1)
        return inner

    def kernel(self, name, tid, at, stream, length, category="kernel", after=0.0):
        self.id += 1
        number = self.id
        self.event("cuda_runtime", "cudaLaunchKernel" if category == "kernel" else "cudaMemcpyAsync", self.PID, tid, at,
                   self.bits.uniform(3, 7), f'"External id": {number}, "cbid": 211, "correlation": {number}')
        begin = max(self.device[stream] + self.bits.uniform(0.8, 2), at + self.bits.uniform(4, 9), after)
        extra = ""
        if name.startswith("nccl"):
            extra = (',\n      "Collective name": "allreduce", "In msg nelems": 6291456, "Out msg nelems": 6291456, "Group size": 2, '
                     '"dtype": "BFloat16", "In split size": [], "Out split size": [], "Process Group Name": "0", '
                     '"Process Group Description": "default_pg", "Process Group Ranks": [0, 1]')
        shape = ('"registers per thread": 90,"shared memory": 16384,"blocks per SM": 3.878788,"warps per SM": 31.030304,'
                 '"grid": [64, 8, 1],"block": [256, 1, 1],"est. achieved occupancy %": 47' if category == "kernel" else
                 '"bytes": 65536, "memory bandwidth (GB/s)": 5.12')
        self.event(category, name, 0, stream, begin, length,
                   f'"External id": {number},"queued": 0,"device": 0,"context": 1,"stream": {stream},"correlation": {number},'
                   f'{shape}{extra}')
        self.flow("s", number, self.PID, tid, at)
        self.flow("f", number, 0, stream, begin)
        self.device[stream] = begin + length
        return begin + length

    def annotation(self, name, begin, end):
        self.id += 1
        self.event("user_annotation", name, self.PID, self.MAIN, begin, end - begin,
                   f'"External id": {self.id},"Record function id": 0, "Ev Idx": {self.id}')

    def step(self):
        bits, main, back = self.bits, self.MAIN, self.AUTOGRAD
        begin = self.host[main]
        self.host[main] += bits.uniform(200, 4000 if bits.random() < 0.1 else 400)
        self.annotation("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", begin, self.host[main])
        at = self.operator("aten::to", main, ("aten::_to_copy", "aten::copy_"))
        self.kernel("Memcpy HtoD (Pinned -> Device)", main, at, 7, bits.uniform(8, 20), "gpu_memcpy")
        gemm = "sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x32_stage3_warpsize2x2x1_tensor16x8x16_kernel"
        small = ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, "
                 "std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>)")
        for _ in range(24):
            for _ in range(7):
                at = self.operator("aten::linear", main, ("aten::matmul", "aten::mm"))
                self.kernel(gemm, main, at, 7, bits.uniform(20, 60))
            for _ in range(9):
                at = self.operator("aten::add", main)
                self.kernel(small, main, at, 7, bits.uniform(2, 8))
        self.host[back] = max(self.host[back], self.host[main])
        for layer in range(24):
            for _ in range(14):
                at = self.operator("autograd::engine::evaluate_function: MmBackward0", back,
                                   ("MmBackward0", "aten::mm"))
                done = self.kernel(gemm, back, at, 7, bits.uniform(20, 60))
            if layer % 4 == 3:
                at = self.operator("c10d::allreduce_", back, ("record_param_comms",))
                self.kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", back, at, 20,
                            bits.uniform(300, 2500), after=done)
        self.device[7] = max(self.device[7], self.device[20])
        self.host[main] = begin = self.host[back]
        for _ in range(12):
            at = self.operator("aten::_fused_adamw_", main)
            self.kernel("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>(...)", main, at, 7,
                        bits.uniform(30, 90))
        self.annotation("Optimizer.step#AdamW.step", begin, self.host[main])
        if bits.random() < 0.3:  # loss.item(): the host waits
            self.host[main] = max(self.host[main], self.device[7]) + bits.uniform(20, 200)

    def trace(self, megabytes):
        self.write(' {\n    "schemaVersion": 1,\n    "deviceProperties": [\n    {\n      "id": 0, "name": "MADE: no GPU", "totalGlobalMem": 1,'
                   '\n      "computeMajor": 8, "computeMinor": 0, "numSms": 108\n    }\n    ],\n'
                   '      "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 2},\n    "displayTimeUnit": "ms",\n'
                   '    "baseTimeNanoseconds": 1790857026000000000,\n    "traceEvents": [\n    ')
        steps = 0
        while self.bytes < megabytes * 1e6:
            self.step()
            steps += 1
        self.annotation("Optimizer.zero_grad#AdamW.zero_grad", self.host[self.MAIN], self.host[self.MAIN] + 50)
        self.event("Trace", "PyTorch Profiler (0)", '"Spans"', '"PyTorch Profiler"', 0, self.host[self.MAIN] + 100, '"Op count": 0')
        self.write('\n  {\n    "ph": "i",\n    \n    "s": "g",\n    "name": "Record Window End",\n    "pid": "",\n    "tid": "",\n'
                   f'    "ts": {self.BASE_US + self.host[self.MAIN] + 100:.3f}\n    \n  }}\n  ],"traceName": "made.json" }}')
        return steps


def hta_python(given):
    if given:
        return given
    venv = ROOT / "build/bench/hta"
    python = venv / "bin/python"
    if not (venv / "installed").exists():
        print("bench: making build/bench/hta with HolisticTraceAnalysis from PyPI", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "HolisticTraceAnalysis==0.5.0"], check=True)
        (venv / "installed").touch()
    return str(python)


def best(rounds, argv, env=None):
    runs = []
    for _ in range(rounds):
        done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ, **(env or {})))
        if done.returncode != 0:
            return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return min(runs, key=lambda run: run["cpu_s"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=float, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep")
    parser.add_argument("--trace")
    parser.add_argument("--hta")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.trace or args.keep or str(pathlib.Path(folder) / "made.json")
        if not args.trace:
            with open(path, "w", buffering=1 << 20) as out:
                steps = Maker(out, 7).trace(args.mb)
            print(f"trace: made (no GPU was there), {os.path.getsize(path) / 1e6:.0f} MB, {steps} steps")
        ours = best(max(args.rounds, 3), [str(READER), path])
        print(f"trace: rigwise {ours['cpu_s']:.3f} s of CPU, {ours['total_s']:.3f} s, {ours['mb'] / ours['cpu_s']:.0f} MB/s a core, "
              f"peak {ours['peak_mib']:.0f} MiB, {ours['events']} events, {ours['kernels']} kernels   bar: 200 MB/s")
        hta = best(args.rounds, [hta_python(args.hta), "-c", HTA, path], {"HTA_DISABLE_NS_ROUNDING": "1"})
        if "failed" in hta:
            print(f"trace: HTA cannot: {hta['failed']}")
            return
        print(f"trace: HTA     {hta['cpu_s']:.1f} s of CPU, {hta['total_s']:.1f} s ({hta['load_s']:.1f} to load), "
              f"peak {hta['peak_mib']:.0f} MiB")
        print(f"trace: {hta['cpu_s'] / ours['cpu_s']:.0f} times as fast, 1/{hta['peak_mib'] / ours['peak_mib']:.0f} of the memory"
              "   bar: 30 times, 1/20")
        for name in ("compute_s", "non_compute_s", "idle_s", "kernel_s", "overlap_percent"):
            print(f"trace: {name:16} rigwise {ours[name]:.6f}  HTA {hta[name]:.6f}  apart {abs(ours[name] - hta[name]):.2g}")
        for stream, row in sorted(hta["streams"].items()):
            ours_row = ours["streams"].get(stream, {})
            print(f"trace: stream {stream:3} " + "  ".join(
                f"{name} {ours_row.get(name, 0):.6f} | {row.get(name, 0):.6f}" for name in ("host_wait", "kernel_wait", "other")))


if __name__ == "__main__":
    main()
