// AMD's kernel driver for ROCm (KFD), by files made after the kernel's own code (kfd_topology.c,
// kfd_process.c).
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "host/gpu_processes.h"
#include "host/gpu_sources.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

class Kfd : public testing::Test {
 protected:
  void SetUp() override {
    top_ = fs::temp_directory_path() / ("rigwise-kfd-" + std::to_string(::getpid()));
    fs::create_directories(top_);
  }
  void TearDown() override {
    std::error_code error;
    fs::remove_all(top_, error);
  }
  void put(const std::string& path, const std::string& text) {
    fs::create_directories((top_ / path).parent_path());
    std::ofstream(top_ / path) << text;
  }
  void node(const std::string& name, const std::string& properties, const std::string& id) {
    const std::string folder = "sys/class/kfd/kfd/topology/nodes/" + name;
    put(folder + "/properties", properties);
    put(folder + "/gpu_id", id + "\n");
  }
  [[nodiscard]] HostRoot root() const { return {.root = top_}; }
  fs::path top_;
};

TEST_F(Kfd, AKernelWithoutItTellsNothing) {
  EXPECT_FALSE(kfd_gpus(root()));
  EXPECT_FALSE(kfd_processes(root(), "12345"));
}

TEST_F(Kfd, GpusAndWhoHoldsTheirMemory) {
  node("0", "cpu_cores_count 16\nsimd_count 0\nlocation_id 0\n", "0");
  node("1", "cpu_cores_count 0\nsimd_count 192\nlocation_id 768\ndomain 0\n", "12345");
  node("2", "simd_count 304\nlocation_id 50689\ndomain 1\n", "777");  // c6:00, its second part
  node("3", "simd_count 304\n", "778");                               // does not say where
  const auto gpus = kfd_gpus(root());
  ASSERT_TRUE(gpus);
  ASSERT_EQ(gpus->size(), 2u);
  EXPECT_EQ((*gpus)[0].address, "0000:03:00.0");
  EXPECT_EQ((*gpus)[0].gpu_id, "12345");
  EXPECT_EQ((*gpus)[1].address, "0001:c6:00.0");
  EXPECT_FALSE(kfd_processes(root(), "12345"));
  put("sys/class/kfd/kfd/proc/4127/vram_12345", "4294967296\n");
  put("sys/class/kfd/kfd/proc/4127/vram_777", "0\n");
  put("sys/class/kfd/kfd/proc/31/sdma_12345", "5\n");
  const auto held = kfd_processes(root(), "12345");
  ASSERT_TRUE(held);
  ASSERT_EQ(held->size(), 1u);
  EXPECT_EQ((*held)[0].pid, 4127);
  EXPECT_EQ((*held)[0].used_bytes, 4294967296.0);
  EXPECT_TRUE(kfd_processes(root(), "777")->empty());
  EXPECT_FALSE(kfd_processes(root(), ""));
}

TEST_F(Kfd, TheRunsProcessesAndOthers) {
  put("sys/class/drm/card0/x", "");
  const fs::path card = top_ / "sys/bus/pci/devices/0000:03:00.0";
  fs::create_directories(card);
  fs::create_directories(top_ / "sys/bus/pci/drivers/amdgpu");
  fs::create_directory_symlink(top_ / "sys/bus/pci/drivers/amdgpu", card / "driver");
  fs::create_directory_symlink(card, top_ / "sys/class/drm/card0/device");
  node("1", "simd_count 192\nlocation_id 768\n", "12345");
  put("sys/class/kfd/kfd/proc/7/vram_12345", "1000\n");
  put("sys/class/kfd/kfd/proc/8/vram_12345", "2000\n");
  const auto source = open_amdgpu(root(), 0);
  ASSERT_NE(source, nullptr);
  EXPECT_FALSE(source->read(0, {}, true)[0].other_processes);  // whose pids these are is not shown
  const auto sample = source->read(1, {7}, true)[0];
  EXPECT_EQ(sample.tree_processes, 1);
  EXPECT_EQ(sample.other_processes, 1);
  EXPECT_EQ(sample.tree_used_bytes, 1000);
  EXPECT_FALSE(source->read(2, {7}, false)[0].other_processes);
}

}  // namespace
}  // namespace rigwise
