"""librigwise-nccl.so in the real libnccl.so.2, as far as that goes without a GPU.

ncclCommInitRank ends at the missing driver before NCCL loads plug-ins, so NCCL's own functions behind it are called where they
lie (.symtab names them): ncclProfilerPluginInit on zeroed memory in place of a communicator, which opens the plug-in by
NCCL_PROFILER_PLUGIN, looks its tables up, newest first, and runs init; then a proxy event by NCCL's own code; then collectives
through the table that NCCL made of ours (its shim for older interfaces); then ncclProfilerPluginFinalize.

RIGWISE_NCCL_LIBS names libraries, separated by colons (PyPI's nvidia-nccl-cu12 has them); else those of RIGWISE_PYTHON.
"""
import ctypes
import glob
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.environ.get("RIGWISE_BUILD", ".")
PLUGIN = os.path.abspath(os.path.join(BUILD, "librigwise-nccl.so"))
CALLS = 100


def libraries():
    named = os.environ.get("RIGWISE_NCCL_LIBS")
    if named:
        return named.split(":")
    python = os.environ.get("RIGWISE_PYTHON", sys.executable)
    prefix = os.path.dirname(os.path.dirname(python))
    return glob.glob(os.path.join(prefix, "lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2"))


def symbols(path):
    """[(name, value, size)] of .symtab, by hand: no package for it comes with Python."""
    with open(path, "rb") as file:
        head = file.read(64)
        table, entry, count, names = struct.unpack_from("<Q", head, 40)[0], *struct.unpack_from("<HHH", head, 58)
        file.seek(table)
        sections = [struct.unpack("<IIQQQQIIQQ", file.read(entry)) for _ in range(count)]
        for section in sections:
            if section[1] != 2:  # SHT_SYMTAB
                continue
            file.seek(section[4])
            data = file.read(section[5])
            strings = sections[section[6]]
            file.seek(strings[4])
            text = file.read(strings[5])
            for name, _, _, _, value, size in struct.iter_unpack("<IBBHQQ", data):
                if value:
                    yield text[name:text.index(b"\0", name)].decode(errors="replace"), value, size


def collective(interface, names, sequence):
    """A descriptor as this NCCL's inside passes it: that of its newest interface. `names` are C strings that stay."""
    function, datatype, other = (ctypes.cast(name, ctypes.c_void_p).value for name in names)
    if interface == 1:
        body = struct.pack("<QQQB7xQQQiB3xIxxxxQBBBBii", other, 0xabc, sequence, 4, 0, 0, 1000, 0, 7, 0, 0, 2, 4, 0, 0, 0, 0)
    elif interface == 2:
        body = struct.pack("<QQQQQQQi4xQQBB6xQQ", other, 0xabc, sequence, function, 0, 0, 1000, 0, datatype, 0, 2, 4, other, other)
    elif interface == 3:
        body = struct.pack("<QQQQQQQi4xQBB6xQQ", other, 0xabc, sequence, function, 0, 0, 1000, 0, datatype, 2, 4, other, other)
    else:  # 4 to 7 begin alike
        body = struct.pack("<QQQQQi4xQBB6xQQQ", sequence, function, 0, 0, 1000, 0, datatype, 2, 4, other, other, 0)
    return struct.pack("<Qqi4x", 2, 0, 0) + body + bytes(128)


def kernel_channel(parent, channel, timer):
    return struct.pack("<QQi4xB7xQ", 64, parent, 0, channel, timer) + bytes(160)


def child(library):
    core = ctypes.CDLL(library)
    version = ctypes.c_int()
    core.ncclGetVersion(ctypes.byref(version))
    real = os.path.realpath(library)
    with open("/proc/self/maps") as maps:
        base = min(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(real))
    found = {}
    for name, value, size in symbols(real):
        found.setdefault(name, []).append((base + value, size))

    def function(name, *types):
        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(found[name][0][0])

    minor = version.value // 100 % 100
    interface = {23: 1, 24: 2, 25: 2, 26: 3, 27: 4, 28: 5}.get(minor, 6)
    mask = ctypes.c_int.from_address((found.get("ncclProfilerEventMask") or found["_ZL15eActivationMask"])[0][0])
    communicator = ctypes.create_string_buffer(8 << 20)
    print("version", version.value, "init", function("_Z22ncclProfilerPluginInitP8ncclComm", ctypes.c_void_p)(communicator))
    for _ in range(2000 if version.value != 22703 else 1):
        if mask.value:
            break
        time.sleep(0.01)
    print("mask", mask.value)
    if version.value == 22703:  # takes names of plug-ins, but no paths
        return
    words = [word for (word,) in struct.iter_unpack("<Q", communicator.raw) if word]
    print("contexts", len(words))
    context = words[0]

    # NCCL's own code makes this event: a kind that the plug-in knows and wants nothing of.
    handle = ctypes.c_void_p(1)
    asked = mask.value
    mask.value = asked | 32
    start_proxy = function("_Z31ncclProfilerStartProxyCtrlEventPvPS_", ctypes.c_void_p, ctypes.c_void_p)
    print("proxy", start_proxy(context, ctypes.byref(handle)), handle.value)
    mask.value = asked

    (pointer,) = [address for address, size in found["_ZL12ncclProfiler"] if size == 8]
    table = ctypes.c_void_p.from_address(pointer).value
    _, _, start, stop, record, _ = (ctypes.c_void_p.from_address(table + 8 * i).value for i in range(6))
    two, three = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p), ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3)
    start, stop = three(start), two(stop)
    record = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(record)

    def begin(descriptor):
        made = ctypes.c_void_p()
        start(context, ctypes.byref(made), descriptor)
        return made.value

    names = [ctypes.create_string_buffer(text) for text in (b"AllReduce", b"ncclFloat32", b"RING")]
    for sequence in range(CALLS):
        made = begin(collective(interface, names, sequence))
        assert made, "no handle"
        stop(made)
        for channel in (0, 1) if asked & 64 else ():
            now = time.monotonic_ns() + 10 ** 12
            opened = begin(kernel_channel(made, channel, now))
            record(opened, 22, struct.pack("<Q", now + 500) + bytes(24))
            stop(opened)
    print("finalize", function("_Z26ncclProfilerPluginFinalizeP8ncclComm", ctypes.c_void_p)(communicator))
    time.sleep(0.2)


class RealNccl(unittest.TestCase):
    def load(self, library):
        folder = tempfile.mkdtemp(prefix="rigwise-nccl-")
        self.addCleanup(shutil.rmtree, folder)
        env = dict(os.environ, NCCL_PROFILER_PLUGIN=PLUGIN, RIGWISE_NCCL_OUT=os.path.join(folder, "out"),
                   RIGWISE_NCCL_WINDOW="always", NCCL_DEBUG="INFO", NCCL_SOCKET_IFNAME="lo")
        env.pop("RIGWISE_NCCL_KERNELS", None)
        done = subprocess.run([sys.executable, __file__, "--child", library], env=env, capture_output=True, text=True,
                              timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])
        said = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()}
        out = os.path.join(folder, "out")
        if not os.path.exists(out):
            return said, b""
        with open(out, "rb") as file:
            return said, file.read()

    def check(self, library):
        said, file = self.load(library)
        version = int(said["version"][0])
        if version == 22703:
            self.assertEqual((said["version"][1:], said["mask"], file), (["init", "0"], ["0"], b""))
            return "NCCL 22703: goes on without the plug-in, which it cannot find by a path"
        minor = version // 100 % 100
        interface = {23: 1, 24: 2, 25: 2, 26: 3, 27: 4, 28: 5}.get(minor, 6)
        mask = int(said["mask"][0])
        self.assertEqual(said["version"][1:], ["init", "0"])
        shm = os.statvfs("/dev/shm")
        roomy = shm.f_blocks * shm.f_frsize >= 512 << 20 and shm.f_bavail * shm.f_frsize >= 64 << 20
        kernels = minor >= 31 or minor >= 28 and roomy
        self.assertEqual(mask, 6 | (64 if kernels else 0) | (4096 if interface == 6 else 0))
        self.assertEqual(said["contexts"], ["1"])
        self.assertEqual(said["proxy"], ["0", "None"])
        self.assertEqual(said["finalize"], ["0"])
        self.assertEqual(file[:8], b"RWNCCL\n\0")
        abi, told = struct.unpack_from("<Ii", file, 28)
        self.assertEqual((abi, told), (interface, version))
        kinds = [file[at + 4] for at in range(256, len(file), 128)]
        self.assertEqual(kinds.count(1), 1)
        self.assertEqual(kinds.count(2), CALLS)
        for at in range(256, len(file), 128):
            if file[at + 4] == 2:
                self.assertEqual(file[at + 5:at + 7], bytes([1, 8]))  # AllReduce of float32
                self.assertEqual(bool(file[at + 7] & 1), kernels)     # by the GPU's timer
        return f"NCCL {version}: interface {interface}, mask {mask}, {CALLS} collectives recorded"

    def test_every_library(self):
        found = [library for library in libraries() if os.path.exists(library)]
        if not found:
            self.skipTest("no libnccl.so.2 here (RIGWISE_NCCL_LIBS names some)")
        for library in found:
            with self.subTest(library):
                print(self.check(library), file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        unittest.main()
