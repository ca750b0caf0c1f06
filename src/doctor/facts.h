// Facts: what the probes of one host found, before any rule looks at it. Plain values that travel
// from a probe's process as JSON, so that a recorded machine is one more source of them.
//
// Every struct has one `fields(visit, value)`: it names the members once, for writing and reading.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "host/pci.h"
#include "rigwise/host.h"
#include "rigwise/run.h"

namespace rigwise::doctor {

using Strings = std::vector<std::string>;

/// The host itself: limits and memory. Absent: cannot be read.
struct HostFacts {
  std::string host, kernel;
  bool virtual_machine = false;
  std::optional<double> mem_total_bytes, mem_available_bytes;  // within the control group's limit
  std::optional<double> swap_total_bytes, swap_free_bytes;
  std::optional<double> shm_total_bytes;
  std::optional<double> locked_bytes;  // RLIMIT_MEMLOCK, soft; infinite where unlimited
  std::optional<double> open_files;    // RLIMIT_NOFILE, soft
  bool rdma = false;                   // an InfiniBand or RoCE device is there
  std::optional<bool> clock_synced;
  std::map<std::string, std::string> variables = {};  // those that steer devices and launchers
};

/// A GPU on the PCI bus, whether or not a driver knows it.
struct PciGpu {
  std::string address, vendor, name, driver;  // vendor: nvidia, amd, intel; driver: "" = none
  std::vector<PciHop> hops = {};              // root port first
  Strings hop_names = {};                     // of the PCI id list, "" where it does not say
  std::string iommu_type;                     // "DMA", "DMA-FQ", "identity"; "" = no IOMMU
  std::optional<bool> acs_redirects;          // of any port above it; absent: needs root
  std::optional<double> largest_bar_bytes;
  bool bar_resizable = false;  // card and kernel offer to resize one
  std::optional<double> aer_corrected, aer_uncorrected;
  Strings nvme_beside = {};  // drives behind the same port of the root
  bool answers = true;       // false: its configuration reads as all ones
  bool asleep = false;       // runtime suspended
  bool withheld = false;     // its device file is not given to this container or job
};

/// A GPU as its driver describes it, one reading, and its links as they were right after it.
struct DriverGpu {
  GpuDevice device = {};
  GpuSample sample = {};
  std::vector<PciHop> hops = {};
};

struct XidLine {
  int xid = 0;
  std::string text;
};

struct DeviceFacts {
  std::vector<PciGpu> pci = {};
  std::vector<DriverGpu> driver = {};
  Strings why_no_driver = {};  // of each kind of driver that lists no GPU: "nvml: …", "amdgpu: …"
  Strings problems = {};       // "nvml GPU 1: …": what a driver says of one GPU
  bool driver_hung = false;    // the probe that asks it did not come back in its time
  std::string driver_trouble;  // how that probe ended badly, in words; or why it counts as hung
  double driver_answer_s = 0;
  bool nouveau = false;
  std::optional<std::string> nvidia_module;  // version of the loaded kernel module
  Strings nvidia_libraries = {};             // versions of libnvidia-ml on disk
  std::optional<Strings> kfd = {};           // addresses of the GPUs that ROCm's driver serves
  Strings nodes_missing = {}, nodes_denied = {};
  bool uvm_missing = false;  // /dev/nvidia-uvm: the first CUDA program makes it
  bool kernel_log_readable = false;
  std::string kernel_log_from;  // or why it cannot be read
  std::vector<XidLine> xids = {};
  Strings downtrained = {};  // the kernel's "limited by … PCIe link" lines
  Strings leased = {};       // lock files of GPUs that somebody holds
};

/// What a rank's Python sees.
struct TorchGpu {
  int index = 0;
  std::string name, capability, pci;  // "8.6", "0000:01:00.0"; pci: "" where torch does not say
  std::string uuid;                   // as torch writes it, without "GPU-"
  std::optional<double> total_bytes;
};
struct Extension {
  std::string name, version, error;  // error: "" = imports
};
struct FrameworkFacts {
  std::string python, python_how;
  std::string trouble;    // why no probe ran or ended: "no answer within …", "ended by signal 11"
  std::string last_step;  // what it was doing then
  std::string no_time;    // the level's time was over before its limit was: not judged
  std::string python_version;
  std::string torch_error;                           // of import: "ModuleNotFoundError: …"
  std::string torch, cuda, hip, xpu, gpu_error;      // what it was built for; of torch.cuda.init()
  std::string device_error, nccl_error, peer_error;  // of the calls behind it
  std::string nccl;                                  // that torch was built with
  std::string nccl_loaded, nccl_file;  // that is mapped; "" where it is built into torch
  bool gloo = false;
  std::optional<int> gpus;
  Strings arch_list = {};
  std::vector<TorchGpu> devices = {};
  Strings no_peer = {};  // "0-1": no direct access
  std::map<std::string, std::string> packages = {};
  Strings loaded = {};  // CUDA libraries mapped into the process
  std::vector<Extension> extensions = {};
  bool has_accelerate = false, has_deepspeed = false;
};
/// One GPU worked on its own: memory, arithmetic, copies with the link looked at meanwhile.
struct GpuWork {
  int index = 0;
  std::string pci, trouble, last_step, no_time;
  bool hung = false, correct = false;
  std::optional<double> to_device_bytes_per_s, from_device_bytes_per_s;
  std::vector<PciHop> loaded_hops = {};  // while copies ran
};

struct LauncherTry {
  std::string name;     // torchrun, accelerate, deepspeed
  std::string skipped;  // why it was not tried
  std::string no_time;  // as in FrameworkFacts
  std::string command;
  bool hung = false;
  int exit_status = 0;
  Strings tail = {};  // its last lines
  int answered = 0, world = 0;
  bool together = false;  // the ranks formed one group
  std::string last_step;
  double seconds = 0;
};
struct LauncherFacts {
  std::string host;
  std::optional<Strings> addresses;  // that the host name resolves to; absent: it does not
  bool resolver_hung = false;
  Strings interfaces = {};
  std::vector<int> ports_in_use = {};  // of the launchers' default ports
  std::map<std::string, std::string> variables = {};
  std::vector<LauncherTry> tries = {};
};

struct PairTime {
  int from = 0, to = 0;
  double bytes = 0, seconds = 0;
};
/// One line that a rank of a probe wrote of itself. Lines of one rank add up.
struct RankWord {
  std::string step = {};  // begun
  std::optional<int> world = {};
  bool together = false;  // an all-reduce over the group gave the right sum
  std::string wrong = {};
  std::optional<PairTime> pair = {};
  std::optional<double> reduce_bytes = {}, reduce_s = {};
  std::string error = {};
  bool done = false;
};
struct CollectiveTry {
  std::string backend;  // gloo, nccl
  std::string skipped, no_time;
  std::string command;  // one all-reduce of it, for a shell
  bool hung = false;
  int exit_status = 0, ranks = 0;
  std::string last_step;  // of the rank that got least far: "rank 1: send 0 → 1, 4 bytes"
  std::string trouble;
  Strings wrong = {};  // operations whose bytes differ
  Strings log = {};    // telling lines of NCCL's own
  int left_out = 0;    // GPUs beyond the most ranks that are started
  std::vector<PairTime> pairs = {};
  std::optional<double> reduce_bytes, reduce_s;
  bool complete = false;
};
struct CollectiveFacts {
  std::vector<CollectiveTry> tries = {};
};

struct StorageTry {
  std::string path, mount, fs_type;
  std::string place;   // the nearest folder above that was tested instead: `path` is not there
  bool named = false;  // by the user, with --dir
  std::string no_time;
  std::optional<double> need_bytes;  // that the run will write here, as far as is known
  std::string need_from;             // "--need", "2 checkpoints of run two-gpu"
  bool need_said = false;            // by the user; else inferred from an earlier run
  bool need_here = false;            // known to be written to this folder's file system
  bool network = false, in_memory = false, hung = false;
  std::string error;  // of the write test
  std::optional<double> free_bytes, total_bytes, free_files, total_files;
  std::optional<double> test_bytes, write_bytes_per_s, read_bytes_per_s;
  bool short_test = false;  // ended by its time before its size
  bool wrong = false;       // read back other bytes than were written
};
/// The newest earlier run of the same work that wrote checkpoints.
struct EarlierRun {
  std::string run, folder, mount;  // where its checkpoints lie, and on which file system
  int checkpoints = 0, kept = 0;   // written, and still there
  double peak_bytes = 0;           // most that lay there at once
  double last_bytes = 0;           // of the last one
};
struct StorageFacts {
  std::vector<StorageTry> dirs = {};
  std::optional<EarlierRun> earlier = {};
  std::string why_no_earlier;  // "" where there is one
};

struct DoctorFacts {
  std::string cpu_meant = {};  // why the run is to use no GPU: "--cpu"; "": it may use them
  HostFacts host = {};
  DeviceFacts devices = {};
  FrameworkFacts framework = {};
  std::vector<GpuWork> work = {};
  LauncherFacts launcher = {};
  CollectiveFacts collective = {};
  StorageFacts storage = {};
};

std::string to_json(const HostFacts& facts);
std::string to_json(const DeviceFacts& facts);
std::string to_json(const FrameworkFacts& facts);
std::string to_json(const StorageTry& facts);
std::string to_json(const StorageFacts& facts);
/// For the report: what looks like a secret is "***".
std::string to_json(const DoctorFacts& facts);
/// Errors: malformed. Members that are not there, or of another type, keep their defaults.
Status from_json(std::string_view text, HostFacts& into);
Status from_json(std::string_view text, DeviceFacts& into);
Status from_json(std::string_view text, StorageTry& into);
Status from_json(std::string_view text, StorageFacts& into);
Status from_json(std::string_view text, FrameworkFacts& into);
Status from_json(std::string_view text, GpuWork& into);
Status from_json(std::string_view text, RankWord& into);

// ---- gathering --------------------------------------------------------------------------------
// Reads files below `root` and, where that is this machine, asks the system. May hang or crash in
// a driver: call from run_in_child.

HostFacts read_host(const HostRoot& root);
/// The PCI bus and the kernel's log: no driver library is touched.
DeviceFacts read_devices(const HostRoot& root);
/// Adds what the drivers say of their GPUs, and the device nodes.
void ask_drivers(const HostRoot& root, DeviceFacts& into);
/// The files in /dev, for the cards on the bus and those that the drivers list; cards that are not
/// given to this process leave `driver`. After the drivers: asking makes files that a fresh boot
/// lacks.
void read_nodes(const HostRoot& root, DeviceFacts& into);
/// NVML could be asked: it lists GPUs, or says that there is none for this process.
bool nvml_answered(const DeviceFacts& facts);
/// Lines of a kernel log that speak of GPUs and links.
void read_kernel_log(std::string_view text, DeviceFacts& into);
/// Ports among `wanted` that somebody listens on, by /proc/net/tcp and tcp6.
std::vector<int> listening_ports(const HostRoot& root, const std::vector<int>& wanted);
/// The variables of `environment` ("NAME=value") that steer devices and launchers.
std::map<std::string, std::string> steering_variables(const std::vector<std::string>& environment);

}  // namespace rigwise::doctor
