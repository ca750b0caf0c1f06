// NVML through the stand-in library (tests/fakes): loaded here by its path first, so that the
// ordinary dlopen("libnvidia-ml.so.1") finds it whatever LD_LIBRARY_PATH says.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/clock.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "host/gpu_sources.h"
#include "rigwise/host.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
const fs::path kFakes = fs::path(RIGWISE_BINARY_DIR) / "fakes";

void nap(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

Json gpu_values() {
  return Json::parse(R"({"utilization_gpu": 97, "utilization_memory": 41,
    "memory_total": 25769803776, "memory_used": 2e10, "temperature": 71,
    "temperature_slowdown": 95, "temperature_shutdown": 98, "power": 331500, "power_limit": 350000,
    "power_limit_max": 366000, "energy": 5000000, "clock_sm": 1695, "clock_mem": 9501,
    "clock_sm_max": 2100, "pcie_gen": 1, "pcie_gen_max": 4, "pcie_width": 4, "pcie_width_max": 16,
    "reasons": 36, "fan": 62, "field_74": 2500000000, "field_76": 0, "field_269": 1500000000,
    "field_82": 88, "field_197": 1000, "field_198": 2000})");
}

class Nvml : public testing::Test {
 protected:
  void SetUp() override {
    library_ = ::dlopen((kFakes / "libnvidia-ml.so.1").c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << ::dlerror();
    restart_ = reinterpret_cast<void (*)()>(::dlsym(library_, "rigwise_fake_nvml_restart"));
    if (restart_ == nullptr) GTEST_SKIP() << "a real NVIDIA library is loaded in this process";
    file_ = fs::temp_directory_path() / ("rigwise-nvml-" + std::to_string(::getpid()) + ".json");
  }
  void TearDown() override {
    std::error_code error;
    fs::remove(file_, error);
    ::unsetenv("RIGWISE_FAKE_NVML");
  }
  void use(const Json& spec) {
    std::ofstream(file_) << spec.dump();
    ::setenv("RIGWISE_FAKE_NVML", file_.c_str(), 1);
    restart_();
  }
  static Json one_gpu() { return {{"count", 1}, {"devices", {{{"values", gpu_values()}}}}}; }
  static std::unique_ptr<GpuSource> open() {
    auto source = open_nvml({}, 0);
    EXPECT_TRUE(source.ok()) << (source.ok() ? "" : source.error().message);
    return source.ok() ? std::move(source).value() : nullptr;
  }

  void* library_ = nullptr;
  void (*restart_)() = nullptr;
  fs::path file_;
};

TEST_F(Nvml, FourGpusInOneTick) {
  Json spec = one_gpu();
  spec["count"] = 4;
  use(spec);
  SamplerOptions options;
  options.source_limit = std::chrono::seconds(20);
  HostSampler sampler({}, options);
  const HostReading reading = sampler.tick(0);
  EXPECT_EQ(reading.dropped, std::vector<std::string>());
  ASSERT_EQ(reading.gpus.size(), 4u);
  EXPECT_TRUE(sampler.why_no_gpu().empty());
  const GpuSample& gpu = reading.gpus[3];
  EXPECT_EQ(gpu.gpu, 3);
  EXPECT_DOUBLE_EQ(gpu.util_frac.value(), 0.97);
  EXPECT_DOUBLE_EQ(gpu.mem_util_frac.value(), 0.41);
  EXPECT_DOUBLE_EQ(gpu.used_bytes.value(), 2e10);
  EXPECT_DOUBLE_EQ(gpu.total_bytes.value(), 25769803776.0);
  EXPECT_DOUBLE_EQ(gpu.temp_c.value(), 71);
  EXPECT_DOUBLE_EQ(gpu.temp_mem_c.value(), 88);
  EXPECT_DOUBLE_EQ(gpu.power_w.value(), 331.5);
  EXPECT_DOUBLE_EQ(gpu.power_limit_w.value(), 350);
  EXPECT_DOUBLE_EQ(gpu.energy_j.value(), 5000);
  EXPECT_DOUBLE_EQ(gpu.sm_clock_mhz.value(), 1695);
  EXPECT_DOUBLE_EQ(gpu.mem_clock_mhz.value(), 9501);
  EXPECT_DOUBLE_EQ(gpu.sm_clock_max_mhz.value(), 2100);
  EXPECT_DOUBLE_EQ(gpu.pcie_gen.value(), 1);
  EXPECT_DOUBLE_EQ(gpu.pcie_gen_max.value(), 4);
  EXPECT_DOUBLE_EQ(gpu.pcie_width.value(), 4);
  EXPECT_DOUBLE_EQ(gpu.pcie_width_max.value(), 16);
  EXPECT_DOUBLE_EQ(gpu.throttle_reasons.value(), 36);
  EXPECT_DOUBLE_EQ(gpu.held_power_s.value(), 2.5);
  EXPECT_DOUBLE_EQ(gpu.held_sync_s.value(), 0);
  EXPECT_DOUBLE_EQ(gpu.held_sw_thermal_s.value(), 1.5);
  EXPECT_FALSE(gpu.held_hw_thermal_s);  // not in the file: not supported, so absent and not 0
  EXPECT_DOUBLE_EQ(gpu.pcie_tx_bytes.value(), 1000);
  EXPECT_DOUBLE_EQ(gpu.pcie_rx_bytes.value(), 2000);
  EXPECT_DOUBLE_EQ(gpu.fan_frac.value(), 0.62);
}

TEST_F(Nvml, FanAndProcessesAtTheSlowTierOnly) {
  use(one_gpu());
  const auto source = open();
  EXPECT_TRUE(source->read(0, {}, true)[0].fan_frac);
  const auto fast = source->read(1, {}, false)[0];
  EXPECT_FALSE(fast.fan_frac);
  EXPECT_FALSE(fast.tree_processes);
  EXPECT_TRUE(fast.power_limit_w);  // repeated from the slow tier
}

TEST_F(Nvml, Devices) {
  Json spec = one_gpu();
  spec["driver_version"] = "560.35.03";
  spec["devices"][0]["name"] = "Fake RTX";
  spec["devices"][0]["uuid"] = "GPU-1";
  spec["devices"][0]["pci"] = "00000000:06:00.0";
  use(spec);
  // The PCI path is the recorded machine's: the second card is wired x4.
  const HostRoot root{.root = fs::path(RIGWISE_FIXTURES) / "hosts/two-cards-one-x4",
                      .nvml_stands_in = true};
  const Rig rig = read_rig_of(root, {});
  ASSERT_EQ(rig.gpus.size(), 1u);
  const GpuDevice& device = rig.gpus[0];
  EXPECT_EQ(device.name, "Fake RTX");
  EXPECT_EQ(device.uuid, "GPU-1");
  EXPECT_EQ(device.pci_address, "0000:06:00.0");
  EXPECT_EQ(device.slowdown_c, 95);
  EXPECT_EQ(device.shutdown_c, 98);
  EXPECT_EQ(device.power_limit_max_w, 366);
  EXPECT_EQ(device.pcie_width_max, 16);
  EXPECT_EQ(device.numa_node, 0);
  EXPECT_EQ(device.pci_path,
            (std::vector<std::string>{"0000:00:1c.0 x4 8.0 GT/s",
                                      "0000:06:00.0 x4 2.5 GT/s (max x16 16.0 GT/s)"}));
  EXPECT_EQ(open()->version(), "560.35.03");
}

TEST_F(Nvml, UnsupportedIsAbsent) {
  Json spec = one_gpu();
  spec["devices"][0]["unsupported"] = {"nvmlDeviceGetUtilizationRates",
                                       "nvmlDeviceGetMemoryInfo_v2",
                                       "nvmlDeviceGetTotalEnergyConsumption", "field:197"};
  use(spec);
  const auto source = open();
  for (int tick = 0; tick < 2; ++tick) {
    const auto gpu = source->read(tick, {}, tick == 0)[0];
    EXPECT_FALSE(gpu.util_frac);
    EXPECT_FALSE(gpu.energy_j);
    EXPECT_FALSE(gpu.pcie_tx_bytes);
    EXPECT_TRUE(gpu.pcie_rx_bytes);
    EXPECT_TRUE(gpu.used_bytes);  // by the older call
  }
  EXPECT_TRUE(source->problems().empty());
}

TEST_F(Nvml, ALostGpuIsAbsentNamedAndComesBack) {
  Json spec = one_gpu();
  spec["devices"].push_back(spec["devices"][0]);
  spec["devices"][1]["lost_at_s"] = 0.1;
  spec["devices"][1]["back_at_s"] = 0.4;
  spec.erase("count");
  use(spec);
  const auto source = open();
  auto gpus = source->read(0, {}, true);
  EXPECT_TRUE(gpus[1].util_frac);
  nap(150);
  gpus = source->read(1, {}, false);
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_TRUE(gpus[0].util_frac);
  EXPECT_FALSE(gpus[1].util_frac);
  EXPECT_FALSE(gpus[1].power_limit_w);
  EXPECT_EQ(gpus[1].gpu, 1);
  ASSERT_EQ(source->problems().size(), 1u);
  EXPECT_NE(source->problems()[0].find("GPU 1: the GPU is lost"), std::string::npos);
  nap(400);
  gpus = source->read(2, {}, false);
  EXPECT_TRUE(gpus[1].util_frac);
  EXPECT_TRUE(source->problems().empty());
}

TEST_F(Nvml, AHangIsDroppedCountedAndOver) {
  Json spec = one_gpu();
  spec["hang"] = {{"at_s", 0.3}, {"for_s", 0.6}, {"function", "nvmlDeviceGetUtilizationRates"}};
  use(spec);
  SamplerOptions options;
  options.source_limit = std::chrono::milliseconds(100);
  HostSampler sampler({}, options);
  const double start = monotonic_s();
  bool during = false, after = false;
  double longest = 0;
  for (int i = 0; i < 400 && !after; ++i) {
    const double begin = monotonic_s();
    const HostReading reading = sampler.tick(begin - start);
    longest = std::max(longest, monotonic_s() - begin);
    const bool has_gpu = !reading.gpus.empty();
    bool named = false;
    for (const auto& what : reading.dropped) named = named || what.starts_with("nvml: no answer");
    if (named) {
      during = true;
      EXPECT_FALSE(has_gpu);
      EXPECT_TRUE(reading.host->cpu_busy_s);  // everything else goes on
    }
    if (has_gpu && during) {
      after = true;
      EXPECT_EQ(reading.gpus[0].t_s, reading.host->t_s);  // never a stale answer
    }
    nap(20);
  }
  EXPECT_TRUE(during);
  EXPECT_TRUE(after);
  EXPECT_LT(longest, 10.0);
}

TEST_F(Nvml, ASlowDriverDoesNotHoldTheFirstTicks) {
  Json spec = one_gpu();
  spec["init_delay_s"] = 0.4;
  use(spec);
  SamplerOptions options;
  options.source_limit = std::chrono::milliseconds(50);
  HostSampler sampler({}, options);
  HostReading reading = sampler.tick(0);
  EXPECT_TRUE(reading.gpus.empty());
  bool named = false;
  for (const auto& what : reading.dropped) named = named || what == "gpu: still being opened";
  EXPECT_TRUE(named);
  for (int i = 1; i < 400 && reading.gpus.empty(); ++i) {
    nap(20);
    reading = sampler.tick(i);
  }
  EXPECT_EQ(reading.gpus.size(), 1u);
}

TEST_F(Nvml, ProcessesOfTheRunAndOfOthers) {
  Json spec = one_gpu();
  spec["count"] = 2;
  spec["devices"].push_back(spec["devices"][0]);
  spec["devices"][0]["processes"] = {{{"pid", ::getpid()}, {"used_bytes", 5e9}},
                                     {{"pid", 1}, {"used_bytes", 1e9}}};
  use(spec);
  const auto source = open();
  const auto gpus = source->read(0, {::getpid()}, true);
  EXPECT_EQ(gpus[0].tree_processes, 1);
  EXPECT_EQ(gpus[0].other_processes, 1);
  EXPECT_EQ(gpus[0].tree_used_bytes, 5e9);
  EXPECT_EQ(gpus[1].tree_processes, 0);  // the pids are shown to be ours, so none is none
}

TEST_F(Nvml, PidsOfAnotherNamespaceAreNotCounted) {
  Json spec = one_gpu();
  spec["devices"][0]["processes"] = {{{"pid", 41002}, {"used_bytes", 5e9}}};
  use(spec);
  // A recorded machine with no /proc/self/ns: nothing shows that the driver's pids are its own.
  const fs::path made = fs::temp_directory_path() / ("rigwise-ns-" + std::to_string(::getpid()));
  fs::create_directories(made / "proc/7");
  std::ofstream(made / "proc/7/status") << "Name:\tpython\nNSpid:\t7\t41\n";
  auto source = open_nvml({.root = made, .nvml_stands_in = true}, 0);
  ASSERT_TRUE(source.ok());
  auto gpus = source.value()->read(0, {7}, true);
  EXPECT_FALSE(gpus[0].tree_processes);
  EXPECT_FALSE(gpus[0].other_processes);
  EXPECT_FALSE(gpus[0].tree_used_bytes);
  // Through NSpid they are.
  std::ofstream(made / "proc/7/status") << "Name:\tpython\nNSpid:\t7\t41002\n";
  gpus = source.value()->read(1, {7}, true);
  EXPECT_EQ(gpus[0].tree_processes, 1);
  EXPECT_EQ(gpus[0].other_processes, 0);
  fs::remove_all(made);
}

TEST_F(Nvml, ScreensPartsAndLinks) {
  Json spec = one_gpu();
  spec["count"] = 2;
  spec["devices"][0]["graphics"] = {{{"pid", 1}}, {{"pid", 2}}};
  spec["devices"][0]["values"]["mig"] = 1;
  spec["devices"].push_back(spec["devices"][0]);
  spec["devices"][0]["nvlink"] = true;
  spec["devices"][1].erase("graphics");
  spec["devices"][1]["values"].erase("mig");
  use(spec);
  const auto source = open();
  const auto gpus = source->read(0, {}, true);
  EXPECT_EQ(gpus[0].graphics_processes, 2);
  EXPECT_EQ(gpus[1].graphics_processes, 0);
  EXPECT_FALSE(source->read(1, {}, false)[0].graphics_processes);
  const auto devices = source->devices();
  EXPECT_EQ(devices[0].mig, true);
  EXPECT_FALSE(devices[1].mig);
  EXPECT_EQ(devices[0].nvlink_to_all, true);
  EXPECT_EQ(devices[1].nvlink_to_all, false);
  use(one_gpu());
  EXPECT_FALSE(open()->devices()[0].nvlink_to_all);  // there is no other
}

TEST_F(Nvml, AGpuWhoseHandleIsRefusedIsNamedAndHasNoFigures) {
  Json spec = one_gpu();
  spec["devices"].push_back(spec["devices"][0]);
  spec["devices"][1]["handle"] = 999;
  spec.erase("count");
  use(spec);
  const auto source = open();
  const auto gpus = source->read(0, {}, true);
  EXPECT_TRUE(gpus[0].temp_c);
  EXPECT_FALSE(gpus[1].temp_c);
  EXPECT_EQ(source->problems(), std::vector<std::string>{"nvml GPU 1: error 999"});
  EXPECT_EQ(source->devices()[1].pci_address, "");
}

// NVML's own failure counts beside a card of another kind.
TEST_F(Nvml, EachKindKeepsItsReason) {
  use({{"init", 9}});
  const HostRoot root{.root = fs::path(RIGWISE_FIXTURES) / "hosts/amd-radeon",
                      .nvml_stands_in = true};
  std::vector<std::string> why;
  EXPECT_EQ(open_gpu_sources(root, &why).size(), 1u);
  ASSERT_EQ(why.size(), 2u);
  EXPECT_EQ(why[0], "nvml: the NVIDIA driver is not loaded");
  EXPECT_TRUE(read_rig_of(root, {}).missing.empty());
}

TEST_F(Nvml, MemoryOfAProcessThatTheDriverDoesNotTell) {
  Json spec = one_gpu();
  spec["devices"][0]["processes"] = {{{"pid", ::getpid()}}};
  use(spec);
  const auto gpus = open()->read(0, {::getpid()}, true);
  EXPECT_EQ(gpus[0].tree_processes, 1);
  EXPECT_FALSE(gpus[0].tree_used_bytes);
}

TEST_F(Nvml, NoDriverIsAReasonInWords) {
  use({{"init", 18}});
  std::vector<std::string> why;
  const auto sources = open_gpu_sources({}, &why);
  if (!sources.empty()) GTEST_SKIP() << "this machine has GPUs of its own";
  ASSERT_FALSE(why.empty());
  EXPECT_NE(why[0].find("versions differ"), std::string::npos);
}

TEST_F(Nvml, ADriverWithoutTheNewerSymbols) {
  // A process of its own, since this one already holds the newer library.
  std::ofstream(file_) << R"({"devices": [{"values": {"utilization_gpu": 5, "utilization_memory": 1,
    "memory_total": 100, "memory_used": 40, "reasons": 4}, "processes": [{"pid": 1}]}]})";
  ProcessOptions options;
  options.limit = std::chrono::seconds(60);
  options.extra_env = {"LD_LIBRARY_PATH=" + (kFakes / "old").string(),
                       "RIGWISE_FAKE_NVML=" + file_.string(), "GTEST_ALSO_RUN_DISABLED_TESTS=1"};
  std::error_code error;
  const std::string self = fs::read_symlink("/proc/self/exe", error).string();
  const auto result = run_process({self, "--gtest_filter=OldNvml.*"}, options);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->exit_status, 0) << result->out;
  EXPECT_NE(result->out.find("1 test"), std::string::npos) << result->out;
}

/// Run by the test above, with the old library on LD_LIBRARY_PATH.
TEST(OldNvml, DISABLED_IsReadByTheOlderCalls) {
  auto source = open_nvml({}, 0);
  ASSERT_TRUE(source.ok()) << source.error().message;
  const auto gpu = source.value()->read(0, {1}, true)[0];
  EXPECT_EQ(gpu.util_frac, 0.05);
  EXPECT_EQ(gpu.used_bytes, 40);
  EXPECT_EQ(gpu.throttle_reasons, 4);
  EXPECT_EQ(gpu.tree_processes, 1);
}

}  // namespace
}  // namespace rigwise
