// What nvidia-smi -q, pmon, dmon, topo, nvlink and amd-smi print, read into the values of a run.
// The texts are written by hand after the tools' documented forms (tests/fixtures/captured).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "rigwise/captured.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
using Kinds = std::vector<std::string>;
constexpr double kMiB = 1024.0 * 1024.0;

std::string text_of(const std::string& name) {
  std::ifstream file(fs::path(RIGWISE_FIXTURES) / "captured" / name, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

Captured read(const std::string& name) {
  const std::string text = text_of(name);
  EXPECT_FALSE(text.empty()) << name;
  return read_captured(name, text);
}

std::optional<double> value(const Captured& captured, std::string_view subject,
                            std::string_view quantity) {
  for (const auto& [row, unix_s] : captured.observations) {
    if (row.subject == subject && row.quantity == quantity) return row.value;
  }
  return std::nullopt;
}

TEST(CapturedGpu, NvidiaQueryOfAllSections) {
  const Captured all = read("nvidia-smi-q.txt");
  EXPECT_EQ(all.kinds, Kinds{"nvidia-smi -q"});
  EXPECT_EQ(all.reading.malformed, 0);
  EXPECT_EQ(all.environment.versions.at("driver"), "550.127.05");
  EXPECT_EQ(all.environment.facts.at("cuda_of_driver"), "12.4");
  ASSERT_EQ(all.gpus.size(), 2U);
  const GpuSample& first = all.gpus[0].row;
  EXPECT_TRUE(all.gpus[0].unix_s);
  EXPECT_DOUBLE_EQ(*first.util_frac, 0.98);
  EXPECT_DOUBLE_EQ(*first.mem_util_frac, 0.61);
  EXPECT_DOUBLE_EQ(*first.used_bytes, 21041 * kMiB);  // not BAR1's
  EXPECT_DOUBLE_EQ(*first.total_bytes, 24576 * kMiB);
  EXPECT_DOUBLE_EQ(*first.temp_c, 71);
  EXPECT_FALSE(first.temp_mem_c);
  EXPECT_DOUBLE_EQ(*first.power_w, 347.12);  // not the module's
  EXPECT_DOUBLE_EQ(*first.power_limit_w, 350);
  EXPECT_DOUBLE_EQ(*first.sm_clock_mhz, 1695);
  EXPECT_DOUBLE_EQ(*first.mem_clock_mhz, 9501);
  EXPECT_DOUBLE_EQ(*first.sm_clock_max_mhz, 2100);
  EXPECT_DOUBLE_EQ(*first.fan_frac, 0.74);
  EXPECT_DOUBLE_EQ(*first.pcie_gen, 4);
  EXPECT_DOUBLE_EQ(*first.pcie_width, 16);
  EXPECT_DOUBLE_EQ(*first.throttle_reasons, 4);
  EXPECT_DOUBLE_EQ(*first.held_power_s, 91.403239);
  EXPECT_DOUBLE_EQ(*first.held_sw_thermal_s, 0);  // it says so
  EXPECT_FALSE(first.held_hw_thermal_s);          // it does not
  EXPECT_DOUBLE_EQ(*value(all, "gpu 0", "pcie_rx_bytes_per_s"), 310e6);
  EXPECT_DOUBLE_EQ(*value(all, "gpu 0 process 3120 python", "used_bytes"), 20992 * kMiB);
  const GpuSample& second = all.gpus[1].row;
  EXPECT_EQ(second.gpu, 1);
  EXPECT_DOUBLE_EQ(*second.util_frac, 0);
  EXPECT_FALSE(second.mem_util_frac);
  EXPECT_FALSE(second.fan_frac);
  EXPECT_DOUBLE_EQ(*second.power_w, 18.2);
  EXPECT_DOUBLE_EQ(*second.throttle_reasons, 1);
  EXPECT_DOUBLE_EQ(*second.pcie_width, 4);
  EXPECT_FALSE(value(all, "gpu 1", "pcie_rx_bytes_per_s"));
  ASSERT_EQ(all.rig.gpus.size(), 2U);
  EXPECT_EQ(all.rig.gpus[0].name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(all.rig.gpus[0].uuid, "GPU-11111111-2222-3333-4444-555555555555");
  EXPECT_EQ(all.rig.gpus[0].pci_address, "00000000:01:00.0");
  EXPECT_EQ(all.rig.gpus[0].slowdown_c, 95);
  EXPECT_EQ(all.rig.gpus[0].shutdown_c, 98);
  EXPECT_EQ(all.rig.gpus[0].power_limit_max_w, 366);
  EXPECT_EQ(all.rig.gpus[1].pcie_width_max, 16);
  EXPECT_FALSE(all.gpus_numbered);
}

TEST(CapturedGpu, NvidiaQueryOfSomeSectionsTwice) {
  const Captured some = read("nvidia-smi-q-d-470.txt");
  ASSERT_EQ(some.gpus.size(), 2U);
  EXPECT_EQ(some.rig.gpus.size(), 1U);
  EXPECT_NEAR(*some.gpus[1].unix_s - *some.gpus[0].unix_s, 5, 1e-9);
  EXPECT_DOUBLE_EQ(*some.gpus[0].row.power_limit_w, 180);  // the enforced one
  EXPECT_DOUBLE_EQ(*some.gpus[1].row.util_frac, 0.97);
  EXPECT_FALSE(some.gpus[0].row.temp_c);
  EXPECT_DOUBLE_EQ(*value(some, "gpu 0", "util_mean_frac"), 0.09);
  EXPECT_DOUBLE_EQ(*value(some, "gpu 0", "power_mean_w"), 31.11);
}

TEST(CapturedGpu, NvidiaQueryAsXml) {
  const Captured xml = read("nvidia-smi-q.xml");
  EXPECT_EQ(xml.kinds, Kinds{"nvidia-smi -q"});
  ASSERT_EQ(xml.gpus.size(), 1U);
  const GpuSample& gpu = xml.gpus[0].row;
  EXPECT_TRUE(xml.gpus[0].unix_s);
  EXPECT_DOUBLE_EQ(*gpu.power_w, 138.12);
  EXPECT_DOUBLE_EQ(*gpu.power_limit_w, 140);
  EXPECT_DOUBLE_EQ(*gpu.throttle_reasons, 0x24);
  EXPECT_DOUBLE_EQ(*gpu.held_power_s, 91.403239);
  EXPECT_FALSE(gpu.held_sw_thermal_s);
  EXPECT_DOUBLE_EQ(*gpu.pcie_gen, 3);
  EXPECT_DOUBLE_EQ(*gpu.pcie_width, 8);
  EXPECT_DOUBLE_EQ(*gpu.used_bytes, 12001 * kMiB);
  EXPECT_DOUBLE_EQ(*gpu.mem_clock_mhz, 7001);
  EXPECT_EQ(xml.rig.gpus[0].name, "NVIDIA RTX A4000 & friends");
  EXPECT_EQ(xml.rig.gpus[0].slowdown_c, 100);
  EXPECT_DOUBLE_EQ(*value(xml, "gpu 0 process 3120 /usr/bin/python3", "used_bytes"), 11890 * kMiB);
  EXPECT_EQ(xml.environment.versions.at("driver"), "570.86.15");
}

TEST(CapturedGpu, ProcessSharesAreNoGpuSamples) {
  const Captured pmon = read("nvidia-pmon.txt");
  EXPECT_EQ(pmon.kinds, Kinds{"nvidia-smi pmon"});
  EXPECT_TRUE(pmon.gpus.empty());
  EXPECT_DOUBLE_EQ(*value(pmon, "gpu 0 process 3120 python", "util_frac"), 0.98);
  EXPECT_DOUBLE_EQ(*value(pmon, "gpu 0 process 3120 python", "used_bytes"), 20992 * kMiB);
  EXPECT_DOUBLE_EQ(*value(pmon, "gpu 0 process 2011 gnome shell", "util_frac"), 0.01);
  EXPECT_EQ(pmon.observations.size(), 6U);  // none of the idle GPU
  EXPECT_TRUE(pmon.observations[0].unix_s);
  EXPECT_EQ(pmon.reading.malformed, 0);
}

TEST(CapturedGpu, DmonWithEveryGroup) {
  const Captured dmon = read("nvidia-dmon-all.txt");
  EXPECT_EQ(dmon.kinds, Kinds{"nvidia-smi dmon"});
  ASSERT_EQ(dmon.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*dmon.gpus[0].row.used_bytes, 21041 * kMiB);
  EXPECT_DOUBLE_EQ(*value(dmon, "gpu 0", "power_held_frac"), 0.37);
  EXPECT_DOUBLE_EQ(*value(dmon, "gpu 0", "pcie_rx_bytes_per_s"), 310e6);
  EXPECT_FALSE(value(dmon, "gpu 1", "power_held_frac"));
  EXPECT_FALSE(dmon.gpus[0].unix_s);
}

TEST(CapturedGpu, TopologyAndLinks) {
  const Captured topo = read("nvidia-topo.txt");
  EXPECT_EQ(topo.kinds, Kinds{"nvidia-smi topo -m"});
  EXPECT_EQ(value(topo, "gpu 0 to gpu 1", "link_phb"), 1);
  EXPECT_EQ(value(topo, "gpu 1 to nic0", "link_node"), 1);
  EXPECT_EQ(topo.observations.size(), 3U);  // nothing twice
  EXPECT_TRUE(topo.environment.facts.empty());
  const Captured joined = read_captured("t", "\tGPU0\tGPU1\nGPU0\t X \tNV4\nGPU1\tNV4\t X \n");
  EXPECT_EQ(value(joined, "gpu 0 to gpu 1", "nvlinks"), 4);
  ASSERT_EQ(topo.rig.gpus.size(), 2U);
  EXPECT_EQ(topo.rig.gpus[1].numa_node, 1);
  EXPECT_EQ(topo.reading.malformed, 0);
  const Captured links = read("nvidia-nvlink.txt");
  EXPECT_EQ(links.kinds, Kinds{"nvidia-smi nvlink"});
  EXPECT_EQ(links.observations.size(), 7U);
  EXPECT_DOUBLE_EQ(*value(links, "gpu 1 nvlink 2", "link_bytes_per_s"), 14.062e9);
  EXPECT_FALSE(value(links, "gpu 0 nvlink 2", "link_bytes_per_s"));
  EXPECT_EQ(links.rig.gpus[1].name, "NVIDIA GeForce RTX 3090");
}

TEST(CapturedGpu, ComputeApps) {
  const Captured apps = read_captured(
      "apps.csv",
      "pid, process_name, gpu_uuid, used_gpu_memory [MiB]\n"
      "3120, /usr/bin/python3, GPU-11111111, 20992 MiB\n3121, python, GPU-22222222, [N/A]\n");
  EXPECT_EQ(apps.kinds, Kinds{"nvidia-smi compute apps"});
  ASSERT_EQ(apps.observations.size(), 1U);
  EXPECT_EQ(value(apps, "gpu GPU-11111111 process 3120 /usr/bin/python3", "used_bytes"),
            20992 * kMiB);
}

TEST(CapturedGpu, GpustatAsTextAndJson) {
  const Captured text = read("gpustat.txt");
  EXPECT_EQ(text.kinds, Kinds{"gpustat"});
  EXPECT_EQ(text.host, "rig");
  EXPECT_EQ(text.environment.versions.at("driver"), "550.127.05");
  ASSERT_EQ(text.gpus.size(), 2U);
  EXPECT_TRUE(text.gpus[0].unix_s);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.temp_c, 71);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.util_frac, 0.98);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.power_w, 347);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.power_limit_w, 350);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.used_bytes, 21041 * kMiB);
  EXPECT_FALSE(text.gpus[1].row.power_w);  // ??
  EXPECT_EQ(text.rig.gpus[1].name, "NVIDIA GeForce RTX 3090");
  const Captured json = read("gpustat.json");
  EXPECT_EQ(json.kinds, Kinds{"gpustat json"});
  ASSERT_EQ(json.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*json.gpus[0].row.used_bytes, 21041 * kMiB);
  EXPECT_DOUBLE_EQ(*json.gpus[0].row.fan_frac, 0.74);
  EXPECT_FALSE(json.gpus[1].row.power_w);  // null
  EXPECT_TRUE(json.gpus[1].unix_s);
}

TEST(CapturedGpu, AmdSmiStatic) {
  const Captured fixed = read("amd-smi-static.txt");
  EXPECT_EQ(fixed.kinds, Kinds{"amd-smi"});
  EXPECT_TRUE(fixed.gpus.empty());  // nothing of an instant
  EXPECT_EQ(fixed.environment.versions.at("driver"), "amdgpu 6.8.5");
  ASSERT_EQ(fixed.rig.gpus.size(), 2U);
  const GpuDevice& gpu = fixed.rig.gpus[0];
  EXPECT_EQ(gpu.vendor, "amd");
  EXPECT_EQ(gpu.name, "Navi 31 [Radeon RX 7900 XTX]");
  EXPECT_EQ(gpu.pci_address, "0000:03:00.0");
  EXPECT_EQ(gpu.total_bytes, 24560 * kMiB);
  EXPECT_EQ(gpu.power_limit_w, 303);
  EXPECT_EQ(gpu.power_limit_max_w, 339);
  EXPECT_EQ(gpu.slowdown_c, 100);
  EXPECT_EQ(gpu.shutdown_c, 105);
  EXPECT_EQ(gpu.pcie_gen_max, 4);
  EXPECT_EQ(gpu.pcie_width_max, 16);
  EXPECT_EQ(gpu.numa_node, 0);
  EXPECT_FALSE(fixed.rig.gpus[1].power_limit_max_w);
  EXPECT_FALSE(fixed.rig.gpus[1].numa_node);  // -1: none
}

TEST(CapturedGpu, AmdSmiMetricSaysTheSameInEveryForm) {
  for (const char* name : {"amd-smi-metric.txt", "amd-smi-metric.csv", "amd-smi-metric.json"}) {
    const Captured metric = read(name);
    ASSERT_EQ(metric.gpus.size(), 2U) << name;
    const GpuSample& gpu = metric.gpus[0].row;
    EXPECT_DOUBLE_EQ(*gpu.util_frac, 0.98) << name;
    EXPECT_DOUBLE_EQ(*gpu.mem_util_frac, 0.61) << name;
    EXPECT_DOUBLE_EQ(*gpu.power_w, 288) << name;
    EXPECT_DOUBLE_EQ(*gpu.temp_c, 61) << name;
    EXPECT_DOUBLE_EQ(*gpu.used_bytes, 20310 * kMiB) << name;
    EXPECT_DOUBLE_EQ(*metric.rig.gpus[0].total_bytes, 24560 * kMiB) << name;
    EXPECT_FALSE(metric.gpus[1].row.util_frac) << name;
    EXPECT_FALSE(metric.gpus[1].row.power_w) << name;
    EXPECT_DOUBLE_EQ(*metric.gpus[1].row.temp_c, 40) << name;
    EXPECT_EQ(metric.reading.malformed, 0) << name;
  }
  const Captured text = read("amd-smi-metric.txt");
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.energy_j, 43287.125);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.sm_clock_max_mhz, 2525);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.temp_mem_c, 84);
  EXPECT_DOUBLE_EQ(*text.gpus[0].row.fan_frac, 0.451);
}

TEST(CapturedGpu, AmdSmiMonitor) {
  const Captured watch = read("amd-smi-monitor.txt");
  EXPECT_EQ(watch.kinds, Kinds{"amd-smi monitor"});
  EXPECT_EQ(watch.reading.malformed, 0);
  ASSERT_EQ(watch.gpus.size(), 3U);
  EXPECT_DOUBLE_EQ(*watch.gpus[0].unix_s, 1795528995);
  EXPECT_DOUBLE_EQ(*watch.gpus[0].row.sm_clock_mhz, 2482);
  EXPECT_DOUBLE_EQ(*watch.gpus[0].row.used_bytes, 20310 * kMiB);
  EXPECT_FALSE(watch.gpus[1].row.power_w);
  EXPECT_FALSE(watch.gpus[1].row.sm_clock_mhz);
  EXPECT_DOUBLE_EQ(*watch.gpus[1].row.util_frac, 0);
  const Captured seven = read("amd-smi-monitor-7.txt");
  ASSERT_EQ(seven.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*seven.gpus[0].row.util_frac, 0.98);
  EXPECT_DOUBLE_EQ(*seven.gpus[0].row.temp_mem_c, 84);
  EXPECT_NEAR(*seven.gpus[0].row.used_bytes, 19.8 * 1024 * kMiB, 1);
  EXPECT_NEAR(*seven.rig.gpus[1].total_bytes, 24.0 * 1024 * kMiB, 1);
}

TEST(CapturedGpu, ListsOfOthersAreNotAmds) {
  EXPECT_TRUE(read_captured("x.json", R"([{"gpu": 0, "power": 200, "loss": 1.5}])").kinds.empty());
  EXPECT_TRUE(read_captured("x.json", R"([{"gpu": 0}])").rig.gpus.empty());
  EXPECT_TRUE(read_captured("x.csv", "gpu,power\n0,200\n").kinds.empty());
}

TEST(CapturedGpu, HostileOutlines) {
  std::string deep = "GPU 00000000:01:00.0\n";
  for (int i = 1; i < 3000; ++i) deep += std::string(static_cast<std::size_t>(i), ' ') + "a\n";
  deep += std::string(3000, ' ') + "Fan Speed : 50 %\n";
  EXPECT_EQ(read_captured("q.txt", deep).kinds, Kinds{"nvidia-smi -q"});
  std::string xml = "<nvidia_smi_log>\n";
  for (int i = 0; i < 20000; ++i) xml += "<gpu id=\"00000000:01:00.0\"><a>";
  EXPECT_LE(read_captured("q.xml", xml).rig.gpus.size(), 1U);
  std::string many = "==============NVSMI LOG==============\n";
  for (int i = 0; i < 300; ++i) {
    char line[64];
    std::snprintf(line, sizeof line, "GPU 00000000:%02x:00.%x\n    Fan Speed : 5 %%\n", i % 256,
                  i / 256);
    many += line;
  }
  for (const auto& gpu : read_captured("q.txt", many).gpus) EXPECT_LT(gpu.row.gpu, 64);
}

}  // namespace
}  // namespace rigwise
