// A hand-made machine: a tree of /proc, /sys, /dev and logs as the kernel lays them out, with two
// NVIDIA cards that are well, and the answers that probes would give on it. Tests change one thing.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "doctor/rules.h"

namespace rigwise::doctor {

class MadeMachine {
 public:
  MadeMachine() {
    std::string name = (std::filesystem::temp_directory_path() / "rigwise-made-XXXXXX").string();
    top_ = ::mkdtemp(name.data());
    put("proc/sys/kernel/hostname", "rig\n");
    put("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    put("proc/cpuinfo", "model name\t: AMD Ryzen 9\nflags\t\t: fpu sse2 avx2\n");
    memory(64e6, 50e6, 8e6, 8e6);
    shared_memory("32G");
    limits("65536", "unlimited");
    put("proc/self/cgroup", "0::/\n");
    put("proc/self/environ", "");
    put("proc/net/tcp", kTcpHead);
    put("etc/hosts", "127.0.0.1 localhost\n192.168.1.5 rig\n");
    put("sys/class/net/lo/operstate", "unknown\n");
    put("sys/class/net/enp5s0/operstate", "up\n");
    put("usr/share/misc/pci.ids",
        "10de  NVIDIA Corporation\n\t2204  GA102 [GeForce RTX 3090]\n"
        "1022  Advanced Micro Devices, Inc. [AMD]\n\t1483  Starship/Matisse GPP Bridge\n"
        "\t43c7  400 Series Chipset PCIe Port\n");
    card("0000:00:01.1", "0000:01:00.0");
    card("0000:00:03.1", "0000:02:00.0");
    put("sys/module/nvidia/version", "550.54.14\n");
    put("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.14", "");
    for (const char* node : {"nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"})
      put(std::string("dev/") + node, "");
    put("var/log/dmesg", "[    0.000000] Linux version 6.1.0-18-amd64\n");
  }
  ~MadeMachine() {
    std::error_code error;
    std::filesystem::remove_all(top_, error);
  }
  MadeMachine(const MadeMachine&) = delete;
  MadeMachine& operator=(const MadeMachine&) = delete;

  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((top_ / path).parent_path());
    std::ofstream(top_ / path, std::ios::binary) << text;
  }
  void link(const std::string& path, const std::string& target) {
    std::filesystem::create_directories((top_ / path).parent_path());
    std::filesystem::remove(top_ / path);
    std::filesystem::create_symlink(target, top_ / path);
  }
  void take(const std::string& path) { std::filesystem::remove_all(top_ / path); }
  void chmod(const std::string& path, unsigned mode) {
    std::filesystem::permissions(top_ / path, static_cast<std::filesystem::perms>(mode));
  }

  void memory(double total_kb, double available_kb, double swap_kb, double swap_free_kb) {
    const auto line = [](const char* name, double kb) {
      return std::string(name) + ": " + std::to_string(static_cast<long long>(kb)) + " kB\n";
    };
    put("proc/meminfo", line("MemTotal", total_kb) + line("MemAvailable", available_kb) +
                            line("SwapTotal", swap_kb) + line("SwapFree", swap_free_kb));
  }
  void shared_memory(const std::string& size) {
    put("proc/self/mountinfo",
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs "
        "rw,size=" +
            size + "\n");
  }
  void limits(const std::string& files, const std::string& locked) {
    put("proc/self/limits", "Limit Soft Limit Hard Limit Units\nMax open files " + files +
                                " 65536 files\nMax locked memory " + locked + " unlimited bytes\n");
  }
  /// A card below a port of the root; both ends x16 at 16 GT/s.
  void card(const std::string& port, const std::string& address) {
    const std::string above = "sys/devices/pci0000:00/" + port, at = above + "/" + address;
    device(above, port, "0x060400", "0x1022", "0x1483");
    device(at, address, "0x030000", "0x10de", "0x2204");
    link(at + "/driver", "../../../../bus/pci/drivers/nvidia");
    put(at + "/resource",
        "0x00000000fa000000 0x00000000faffffff 0x0000000000040200\n"
        "0x0000007000000000 0x00000077ffffffff 0x000000000014220c\n");
    put(at + "/aer_dev_correctable", "RxErr 0\nTOTAL_ERR_COR 0\n");
    put(at + "/aer_dev_fatal", "TOTAL_ERR_FATAL 0\n");
    put(at + "/aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 0\n");
  }
  /// The same card as AMD's, served by ROCm's driver.
  void amd_card(const std::string& port, const std::string& address, int node) {
    const std::string at = "sys/devices/pci0000:00/" + port + "/" + address;
    card(port, address);
    device(at, address, "0x030000", "0x1002", "0x744c");
    link(at + "/driver", "../../../../bus/pci/drivers/amdgpu");
    screen(at, node);
    put("dev/dri/renderD" + std::to_string(128 + node), "");
    put(at + "/drm/renderD" + std::to_string(128 + node) + "/dev", "226:128\n");
    const std::string served = "sys/class/kfd/kfd/topology/nodes/" + std::to_string(node);
    const int bus = std::stoi(address.substr(5, 2), nullptr, 16);
    put(served + "/gpu_id", std::to_string(1000 + node) + "\n");
    put(served + "/properties", "cpu_cores_count 0\nsimd_count 192\nlocation_id " +
                                    std::to_string(bus * 256) + "\ndomain 0\n");
    put("dev/kfd", "");
  }
  /// Graphics of an AMD processor: behind a bridge like a card, with 4 GiB of the host's memory.
  void integrated(const std::string& driver) {
    const std::string above = "sys/devices/pci0000:00/0000:00:08.1", at = above + "/0000:10:00.";
    device(above, "0000:00:08.1", "0x060400", "0x1022", "0x14dd");
    device(at + "0", "0000:10:00.0", "0x030000", "0x1002", "0x164e");
    device(at + "2", "0000:10:00.2", "0x108000", "0x1022", "0x1649");
    if (driver.empty()) return;
    link(at + "0/driver", "../../../../bus/pci/drivers/" + driver);
    screen(at + "0", 7);
    put(at + "0/mem_info_vram_total", "4294967296\n");
  }
  void screen(const std::string& folder, int number) {
    link("sys/class/drm/card" + std::to_string(number) + "/device", "../../../../" + folder);
  }
  void device(const std::string& folder, const std::string& address, const std::string& type,
              const std::string& vendor, const std::string& id) {
    put(folder + "/class", type + "\n");
    put(folder + "/vendor", vendor + "\n");
    put(folder + "/device", id + "\n");
    put(folder + "/current_link_width", "16\n");
    put(folder + "/max_link_width", "16\n");
    put(folder + "/current_link_speed", "16.0 GT/s PCIe\n");
    put(folder + "/max_link_speed", "16.0 GT/s PCIe\n");
    put(folder + "/config", config(false));
    link("sys/bus/pci/devices/" + address, "../../../" + folder.substr(4));
  }
  /// 4096 bytes of configuration space with one extended capability: access control, which
  /// redirects or does not.
  static std::string config(bool redirects) {
    std::string bytes(4096, '\0');
    bytes[0] = '\x22', bytes[1] = '\x10';
    bytes[256] = '\x0d', bytes[258] = '\x01';
    bytes[262] = redirects ? '\x1d' : '\0';
    return bytes;
  }
  static std::string card_folder(int number) {
    return number == 0 ? "sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0"
                       : "sys/devices/pci0000:00/0000:00:03.1/0000:02:00.0";
  }

  [[nodiscard]] HostRoot root() const { return {.root = top_}; }

  static constexpr const char* kTcpHead =
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";

 private:
  std::filesystem::path top_;
};

inline DriverGpu made_gpu(int number, const std::string& address) {
  DriverGpu gpu;
  gpu.device.gpu = number;
  gpu.device.name = "GeForce RTX 3090";
  gpu.device.uuid = "GPU-made-" + std::to_string(number);
  gpu.device.pci_address = address;
  gpu.device.vendor = "nvidia";
  gpu.device.total_bytes = 24e9;
  gpu.device.power_limit_w = 350;
  gpu.device.power_limit_max_w = 366;
  gpu.device.slowdown_c = 95;
  gpu.sample.util_frac = 0;
  gpu.sample.used_bytes = 0.3e9;
  gpu.sample.temp_c = 38;
  gpu.sample.fan_frac = 0.3;
  gpu.sample.throttle_reasons = 1;
  gpu.sample.other_processes = 0;
  gpu.sample.graphics_processes = 0;
  gpu.sample.sm_clock_mhz = 210;
  gpu.sample.sm_clock_max_mhz = 1695;
  return gpu;
}

/// Everything that probes would find on `machine` where all is well.
inline DoctorFacts well(const MadeMachine& machine) {
  DoctorFacts facts;
  facts.host = read_host(machine.root());
  facts.host.clock_synced = true;
  facts.devices = read_devices(machine.root());
  facts.devices.driver = {made_gpu(0, "0000:01:00.0"), made_gpu(1, "0000:02:00.0")};
  for (auto& gpu : facts.devices.driver)
    gpu.hops = pci_hops(machine.root(), gpu.device.pci_address);
  read_nodes(machine.root(), facts.devices);
  FrameworkFacts& framework = facts.framework;
  framework.python = "/venv/bin/python";
  framework.python_how = "--python";
  framework.torch = "2.13.0+cu130";
  framework.cuda = "13.0";
  framework.nccl = framework.nccl_loaded = "2.30.4";
  framework.nccl_file = "/venv/lib/libnccl.so.2";
  framework.gloo = true;
  framework.gpus = 2;
  framework.arch_list = {"sm_80", "sm_86", "sm_90"};
  framework.packages = {{"nvidia-nccl-cu13", "2.30.4"}, {"nvidia-cublas-cu13", "13.1"}};
  framework.loaded = {"/venv/lib/libnccl.so.2", "/venv/lib/libcudart.so.13"};
  framework.extensions = {{"transformers", "5.0", ""}};
  for (int i = 0; i < 2; ++i) {
    const std::string address = i == 0 ? "0000:01:00.0" : "0000:02:00.0";
    framework.devices.push_back({i, "RTX 3090", "8.6", address, "made-" + std::to_string(i), 24e9});
    GpuWork work;
    work.index = i;
    work.pci = address;
    work.correct = true;
    if (static_cast<std::size_t>(i) < facts.devices.pci.size())
      work.loaded_hops = facts.devices.pci[static_cast<std::size_t>(i)].hops;
    facts.work.push_back(work);
  }
  LauncherFacts& launcher = facts.launcher;
  launcher.host = "rig";
  launcher.addresses = Strings{"192.168.1.5"};
  launcher.interfaces = {"enp5s0", "lo"};
  launcher.ports_in_use = listening_ports(machine.root(), {29500, 29400});
  for (const char* name : {"torchrun", "accelerate", "deepspeed"}) {
    LauncherTry one;
    one.name = name;
    one.command = std::string(name) + " SCRIPT";
    one.answered = one.world = 2;
    one.together = true;
    launcher.tries.push_back(one);
  }
  for (const char* backend : {"gloo", "nccl"}) {
    CollectiveTry one;
    one.backend = backend;
    one.command = std::string("torchrun SCRIPT ") + backend;
    one.ranks = 3;
    one.complete = true;
    one.reduce_bytes = 64e6;
    one.reduce_s = 0.1;
    for (int from = 0; from < 3; ++from) {
      for (int to = 0; to < 3; ++to) {
        if (from != to) one.pairs.push_back({from, to, 64e6, 0.01});
      }
    }
    facts.collective.tries.push_back(one);
  }
  StorageTry disk;
  disk.path = "/data/runs";
  disk.mount = "/data";
  disk.fs_type = "ext4";
  disk.free_bytes = 500e9;
  disk.total_bytes = 1000e9;
  disk.free_files = 5e6;
  disk.total_files = 6e6;
  disk.test_bytes = 64.0 * (1 << 20);
  disk.write_bytes_per_s = 900e6;
  disk.read_bytes_per_s = 2e9;
  disk.named = disk.need_said = disk.need_here = true;
  disk.need_bytes = 50e9;
  disk.need_from = "--need";
  facts.storage.dirs = {disk};
  return facts;
}

inline SmokeResult well_smoked() {
  SmokeResult smoke;
  smoke.run = "20261129-080000-smoke";
  smoke.dir = "/data/runs/20261129-080000-smoke";
  smoke.program = "train";
  smoke.unix_s = 1e9;
  smoke.passed = true;
  smoke.steps_asked = 20;
  smoke.steps_seen = 20;
  smoke.last_loss = 2.1;
  smoke.ranks_asked = smoke.ranks_trained = 2;
  return smoke;
}

}  // namespace rigwise::doctor
