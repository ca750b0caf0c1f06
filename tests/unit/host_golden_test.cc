// Recorded and hand-made machines (tests/fixtures/hosts): what rigwise makes of each, as JSON,
// against expected.json. UPDATE_GOLDEN=1 rewrites it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/files.h"
#include "base/json.h"
#include "rigwise/host.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
const fs::path kHosts = fs::path(RIGWISE_FIXTURES) / "hosts";

template <class T>
void put_text(Json& json, const char* key, const T& value) {
  if (!value.empty()) json[key] = value;
}

Json to_json(const Rig& rig) {
  Json out;
  out["host"] = rig.host;
  out["cpu_model"] = rig.cpu_model;
  put(out, "sockets", rig.sockets);
  put(out, "cores", rig.cores);
  put(out, "threads", rig.threads);
  put(out, "numa_nodes", rig.numa_nodes);
  put(out, "cpus_allowed", rig.cpus_allowed);
  put(out, "mem_bytes", rig.mem_bytes);
  for (const auto& gpu : rig.gpus) {
    Json one;
    one["gpu"] = gpu.gpu;
    one["name"] = gpu.name;
    put_text(one, "uuid", gpu.uuid);
    one["pci_address"] = gpu.pci_address;
    one["vendor"] = gpu.vendor;
    put(one, "total_bytes", gpu.total_bytes);
    put(one, "power_limit_w", gpu.power_limit_w);
    put(one, "power_limit_max_w", gpu.power_limit_max_w);
    put(one, "slowdown_c", gpu.slowdown_c);
    put(one, "shutdown_c", gpu.shutdown_c);
    put(one, "pcie_gen_max", gpu.pcie_gen_max);
    put(one, "pcie_width_max", gpu.pcie_width_max);
    put(one, "numa_node", gpu.numa_node);
    one["pci_path"] = gpu.pci_path;
    out["gpus"].push_back(one);
  }
  for (const auto& disk : rig.disks) {
    Json one = {{"device", disk.device}, {"model", disk.model}, {"rotational", disk.rotational}};
    put(one, "size_bytes", disk.size_bytes);
    out["disks"].push_back(one);
  }
  for (const auto& nic : rig.nics) {
    Json one = {{"interface", nic.interface}, {"driver", nic.driver}};
    put(one, "link_bytes_per_s", nic.link_bytes_per_s);
    out["nics"].push_back(one);
  }
  out["missing"] = rig.missing;
  return out;
}

Json to_json(const HostReading& reading) {
  Json out;
  const HostSample& host = *reading.host;
  Json& h = out["host"];
  put(h, "cpu_busy_s", host.cpu_busy_s);
  put(h, "cpu_iowait_s", host.cpu_iowait_s);
  put(h, "cpu_steal_s", host.cpu_steal_s);
  put(h, "tree_cpu_s", host.tree_cpu_s);
  put(h, "others_cpu_s", host.others_cpu_s);
  put(h, "tree_run_delay_s", host.tree_run_delay_s);
  put(h, "tree_processes", host.tree_processes);
  put(h, "tree_threads", host.tree_threads);
  put(h, "load1", host.load1);
  put(h, "mem_total_bytes", host.mem_total_bytes);
  put(h, "mem_available_bytes", host.mem_available_bytes);
  put(h, "swap_used_bytes", host.swap_used_bytes);
  put(h, "dirty_bytes", host.dirty_bytes);
  put(h, "writeback_bytes", host.writeback_bytes);
  put(h, "psi_cpu_some_s", host.psi_cpu_some_s);
  put(h, "psi_io_some_s", host.psi_io_some_s);
  put(h, "psi_io_full_s", host.psi_io_full_s);
  put(h, "psi_mem_some_s", host.psi_mem_some_s);
  put(h, "psi_mem_full_s", host.psi_mem_full_s);
  put(h, "temp_cpu_c", host.temp_cpu_c);
  put(h, "package_energy_j", host.package_energy_j);
  for (const auto& gpu : reading.gpus) {
    Json one;
    one["gpu"] = gpu.gpu;
    put(one, "util_frac", gpu.util_frac);
    put(one, "mem_util_frac", gpu.mem_util_frac);
    put(one, "used_bytes", gpu.used_bytes);
    put(one, "total_bytes", gpu.total_bytes);
    put(one, "temp_c", gpu.temp_c);
    put(one, "temp_mem_c", gpu.temp_mem_c);
    put(one, "power_w", gpu.power_w);
    put(one, "power_limit_w", gpu.power_limit_w);
    put(one, "energy_j", gpu.energy_j);
    put(one, "sm_clock_mhz", gpu.sm_clock_mhz);
    put(one, "mem_clock_mhz", gpu.mem_clock_mhz);
    put(one, "sm_clock_max_mhz", gpu.sm_clock_max_mhz);
    put(one, "pcie_gen", gpu.pcie_gen);
    put(one, "pcie_gen_max", gpu.pcie_gen_max);
    put(one, "pcie_width", gpu.pcie_width);
    put(one, "pcie_width_max", gpu.pcie_width_max);
    put(one, "throttle_reasons", gpu.throttle_reasons);
    put(one, "fan_frac", gpu.fan_frac);
    out["gpus"].push_back(one);
  }
  for (const auto& disk : reading.disks) {
    Json one = {{"device", disk.device}};
    put(one, "read_bytes", disk.read_bytes);
    put(one, "write_bytes", disk.write_bytes);
    put(one, "reads", disk.reads);
    put(one, "writes", disk.writes);
    put(one, "read_time_s", disk.read_time_s);
    put(one, "write_time_s", disk.write_time_s);
    put(one, "busy_s", disk.busy_s);
    put(one, "queue_depth", disk.queue_depth);
    out["disks"].push_back(one);
  }
  for (const auto& net : reading.nets) {
    Json one = {{"interface", net.interface}};
    put(one, "rx_bytes", net.rx_bytes);
    put(one, "tx_bytes", net.tx_bytes);
    put(one, "rx_drops", net.rx_drops);
    put(one, "tx_errors", net.tx_errors);
    put(one, "link_bytes_per_s", net.link_bytes_per_s);
    out["nets"].push_back(one);
  }
  for (const auto& process : reading.procs) {
    Json one = {{"pid", process.pid}, {"ppid", process.ppid}, {"role", process.role}};
    put(one, "rank", process.rank);
    one["comm"] = process.comm;
    put(one, "cpu_s", process.cpu_s);
    put(one, "run_delay_s", process.run_delay_s);
    put(one, "read_bytes", process.read_bytes);
    put(one, "write_bytes", process.write_bytes);
    put(one, "threads", process.threads);
    put(one, "threads_running", process.threads_running);
    put(one, "threads_disk_wait", process.threads_disk_wait);
    one["main_state"] = process.main_state;
    out["procs"].push_back(one);
  }
  out["dropped"] = reading.dropped;
  return out;
}

class Hosts : public testing::TestWithParam<const char*> {};

TEST_P(Hosts, AsExpected) {
  const fs::path folder = kHosts / GetParam();
  const HostRoot root{.root = folder};
  SamplerOptions options;
  options.root_pid = 41000;
  options.source_limit = std::chrono::seconds(20);  // a busy test machine is no finding
  Json got;
  got["rig"] = to_json(read_rig_of(root, {}));
  got["tick"] = to_json(HostSampler(root, options).tick(0));
  const std::string text = got.dump(2) + "\n";
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(write_file_atomic(folder / "expected.json", text).ok());
  }
  const auto expected = read_file(folder / "expected.json");
  ASSERT_TRUE(expected.ok());
  EXPECT_EQ(text, *expected);
}

INSTANTIATE_TEST_SUITE_P(Recorded, Hosts,
                         testing::Values("virtual-machine", "two-cards-one-x4", "amd-radeon",
                                         "intel-arc"),
                         [](const auto& machine) {
                           std::string name = machine.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(HostMounts, TouchedPathsOfThisMachine) {
  const Rig rig =
      read_rig_of({}, {fs::temp_directory_path(), fs::temp_directory_path() / "not/made/yet"});
  ASSERT_GE(rig.mounts.size(), 1u);
  EXPECT_GT(rig.mounts[0].total_bytes.value_or(0), 0);
  EXPECT_FALSE(rig.mounts[0].fs_type.empty());
  EXPECT_GE(rig.cpus_allowed.value_or(0), 1);
  EXPECT_GE(rig.threads.value_or(0), 1);
}

}  // namespace
}  // namespace rigwise
