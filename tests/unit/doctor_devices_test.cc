// The rung "devices" on hosts that are well and unlike a plain one: graphics of the processor
// beside a card, a container with some of the cards, AMD's cards, NVLink, MIG, a fresh boot, a
// desktop. Each of them was once called broken.
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "base/files.h"
#include "doctor_made.h"

namespace rigwise::doctor {
namespace {

using Checks = std::vector<Check>;

Checks judged(const DoctorFacts& facts) {
  Checks checks;
  Judge judge(checks);
  judge_devices(facts, judge);
  judge_links(facts, judge, false);
  judge_framework(facts, judge);
  return checks;
}

std::set<std::string> failed(const Checks& checks) {
  std::set<std::string> codes;
  for (const auto& check : checks) {
    if (check.state == CheckState::fail) codes.insert(check.finding.id);
  }
  return codes;
}

const std::set<std::string> kNone;

/// The states of one code, in order.
std::vector<CheckState> states(const Checks& checks, std::string_view code) {
  std::vector<CheckState> out;
  for (const auto& check : checks) {
    if (check.finding.id == code) out.push_back(check.state);
  }
  return out;
}

const std::vector<CheckState> kNotJudged = {CheckState::not_judged}, kPass = {CheckState::pass};

std::string why(const Checks& checks, std::string_view code) {
  for (const auto& check : checks) {
    if (check.finding.id == code && check.state == CheckState::not_judged) return check.why;
  }
  return {};
}

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// The host `machine` with AMD's two cards in the place of NVIDIA's.
DoctorFacts amd(MadeMachine& machine) {
  machine.amd_card("0000:00:01.1", "0000:01:00.0", 1);
  machine.amd_card("0000:00:03.1", "0000:02:00.0", 2);
  machine.take("sys/module/nvidia");
  machine.take("dev/nvidia0");
  machine.take("dev/nvidia1");
  DoctorFacts facts = well(machine);
  for (auto& gpu : facts.devices.driver) gpu.device.vendor = "amd";
  facts.framework.torch = "2.13.0+rocm7.0";
  facts.framework.cuda = "";
  facts.framework.hip = "7.0";
  return facts;
}

TEST(DoctorDevices, GraphicsOfTheProcessorIsNoCard) {
  for (const char* driver : {"amdgpu", ""}) {
    MadeMachine machine;
    machine.integrated(driver);
    machine.device("sys/devices/pci0000:00/0000:00:02.0", "0000:00:02.0", "0x030000", "0x8086",
                   "0x4680");
    machine.link("sys/devices/pci0000:00/0000:00:02.0/driver", "../../../bus/pci/drivers/i915");
    machine.screen("sys/devices/pci0000:00/0000:00:02.0", 8);
    DoctorFacts facts = well(machine);
    EXPECT_EQ(facts.devices.pci.size(), 2u);
    EXPECT_EQ(failed(judged(facts)), kNone);
    DeviceFacts asked = read_devices(machine.root());
    ask_drivers(machine.root(), asked);
    EXPECT_TRUE(asked.driver.empty()) << asked.driver.front().device.pci_address;
    ASSERT_FALSE(asked.why_no_driver.empty());
    EXPECT_TRUE(asked.why_no_driver[0].starts_with("nvml: ")) << asked.why_no_driver[0];
  }
}

TEST(DoctorDevices, AHostWithGraphicsOfTheProcessorAloneHasNoGpu) {
  MadeMachine machine;
  machine.take("sys/bus/pci/devices");
  machine.integrated("amdgpu");
  DoctorFacts facts = well(machine);
  facts.devices.driver.clear();
  facts.framework.torch = "2.13.0+cpu";
  facts.framework.cuda = "";
  facts.framework.gpus = 0;
  facts.framework.devices.clear();
  facts.work.clear();
  EXPECT_TRUE(facts.devices.pci.empty());
  EXPECT_EQ(failed(judged(facts)), kNone);
}

// Beside NVIDIA's cards AMD's is a screen's: neither its number nor its files concern a CUDA build.
TEST(DoctorDevices, AScreensCardOfAnotherVendor) {
  MadeMachine machine;
  machine.amd_card("0000:00:07.1", "0000:0b:00.0", 1);
  machine.take("dev/kfd");
  DoctorFacts facts = well(machine);
  DriverGpu screen = made_gpu(2, "0000:0b:00.0");
  screen.device.vendor = "amd";
  screen.device.name = "Navi 24";
  screen.sample.other_processes.reset();
  facts.devices.driver.push_back(screen);
  const Checks checks = judged(facts);
  EXPECT_EQ(failed(checks), kNone);
  EXPECT_EQ(states(checks, "gpu-in-use"),
            (std::vector<CheckState>{CheckState::pass, CheckState::not_judged}));
  EXPECT_TRUE(holds(why(checks, "gpu-in-use"), "Navi 24"));
  // and a build for CUDA on a host with AMD's cards alone is not judged by them
  facts.devices.pci.erase(facts.devices.pci.begin(), facts.devices.pci.begin() + 2);
  facts.devices.driver.erase(facts.devices.driver.begin(), facts.devices.driver.begin() + 2);
  facts.framework.gpus = 0;
  EXPECT_EQ(states(judged(facts), "torch-sees-no-gpu"), kNotJudged);
}

TEST(DoctorDevices, APartOfACardForGuestsIsNoCard) {
  MadeMachine machine;
  machine.card("0000:00:01.1", "0000:01:00.4");
  machine.link("sys/devices/pci0000:00/0000:00:01.1/0000:01:00.4/physfn", "../0000:01:00.0");
  EXPECT_EQ(read_devices(machine.root()).pci.size(), 2u);
}

TEST(DoctorDevices, AGpuWhoseHandleIsRefusedIsNotCounted) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver.pop_back();
  facts.devices.problems = {"nvml GPU 1: error 999"};
  const Checks checks = judged(facts);
  EXPECT_TRUE(failed(checks).contains("gpu-count-differs"));
  EXPECT_TRUE(holds(why(checks, "gpu-lost"), "error 999"));
  facts.framework.gpus = 1;
  facts.devices.problems = {"nvml GPU 1: no permission"};
  EXPECT_EQ(failed(judged(facts)), kNone);
  EXPECT_EQ(states(judged(facts), "gpu-count-differs"), kNotJudged);
}

TEST(DoctorDevices, TheOnlyGpuIsLost) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver.clear();
  facts.devices.problems = {"nvml GPU 0: the GPU is lost (it fell off the bus or needs a reset)"};
  EXPECT_TRUE(failed(judged(facts)).contains("gpu-lost"));
  facts.devices.pci.clear();  // it left the bus too
  const Checks checks = judged(facts);
  EXPECT_TRUE(failed(checks).contains("gpu-lost"));
  for (const auto& check : checks) {
    if (check.finding.id != "gpu-lost") continue;
    EXPECT_TRUE(holds(check.by_hand, "-i 0"));
  }
}

// sysfs shows a container every card of the host.
TEST(DoctorDevices, CardsThatAContainerIsNotGiven) {
  for (const bool told : {true, false}) {
    MadeMachine machine;
    machine.take("dev/nvidia1");
    if (told)
      machine.put("proc/driver/nvidia/gpus/0000:01:00.0/information",
                  "Model: \t\t NVIDIA GeForce RTX 3090\nDevice Minor: \t 0\n");
    DoctorFacts facts = well(machine);
    facts.devices.driver.pop_back();
    facts.devices.nodes_missing.clear();
    read_nodes(machine.root(), facts.devices);
    facts.framework.gpus = 1;
    facts.framework.devices.pop_back();
    facts.work.pop_back();
    const Checks checks = judged(facts);
    EXPECT_EQ(failed(checks), kNone);
    EXPECT_TRUE(holds(why(checks, "gpu-count-differs"), "not given to this container or job"));
    EXPECT_TRUE(holds(why(checks, "gpu-count-differs"), "0000:02:00.0"));
  }
  // a card whose file is there and that NVML does not list is another matter
  MadeMachine machine;
  for (const char* minor : {"0", "1"})
    machine.put(std::string("proc/driver/nvidia/gpus/0000:0") + (*minor == '0' ? "1" : "2") +
                    ":00.0/information",
                std::string("Device Minor: \t ") + minor + "\n");
  DoctorFacts facts = well(machine);
  facts.devices.driver.pop_back();
  read_nodes(machine.root(), facts.devices);
  EXPECT_TRUE(failed(judged(facts)).contains("gpu-count-differs"));
  // none at all: a job of the node that asked for no GPU
  facts.devices.driver.clear();
  facts.devices.why_no_driver = {"nvml: no GPU"};
  machine.take("dev/nvidia0");
  machine.take("dev/nvidia1");
  read_nodes(machine.root(), facts.devices);
  facts.framework.gpus = 0;
  facts.work.clear();
  EXPECT_EQ(failed(judged(facts)), kNone);
}

TEST(DoctorDevices, AFreshBootLacksTheMemoryNodeOnly) {
  MadeMachine machine;
  machine.take("dev/nvidia-uvm");
  const Checks checks = judged(well(machine));
  EXPECT_EQ(failed(checks), std::set<std::string>{"uvm-node-missing"});
  EXPECT_EQ(rule_of("uvm-node-missing").severity, Severity::notice);
}

TEST(DoctorDevices, ALibraryThatAnswersSettlesTheVersions) {
  MadeMachine machine;
  machine.take("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.14");
  machine.put("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.535.10", "");  // an image's stale one
  EXPECT_EQ(failed(judged(well(machine))), kNone);
}

TEST(DoctorDevices, ALibraryThatFailsIsToldWhateverElseIsThere) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver.clear();
  facts.devices.why_no_driver = {"nvml: error 999", "amdgpu: no card"};
  const Checks checks = judged(facts);
  EXPECT_TRUE(failed(checks).contains("driver-fails"));
  EXPECT_EQ(states(checks, "gpu-count-differs"), kNotJudged);
}

TEST(DoctorDevices, OnlyATimeLimitIsAHang) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver.clear();
  facts.devices.driver_trouble = "asking the drivers: ended by signal 11";
  Checks checks;
  Judge judge(checks);
  judge_devices(facts, judge);
  EXPECT_EQ(failed(checks), std::set<std::string>{"driver-fails"});
  EXPECT_EQ(states(checks, "driver-hung"), kNotJudged);
  EXPECT_EQ(states(checks, "xid-hardware"), kPass);  // the kernel's log is there all the same
  DoctorFacts none;
  none.devices.driver_trouble = "reading the PCI bus: ended by signal 6";
  checks.clear();
  judge_devices(none, judge);
  EXPECT_EQ(failed(checks), std::set<std::string>{"driver-fails"});
}

TEST(DoctorDevices, WhatNoDriverTellsIsNotJudged) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  for (auto& gpu : facts.devices.driver) {
    gpu.sample = {};
    gpu.device.power_limit_w.reset();
    gpu.device.slowdown_c.reset();
  }
  for (auto& gpu : facts.devices.pci) {
    gpu.aer_corrected.reset();
    gpu.aer_uncorrected.reset();
  }
  const Checks checks = judged(facts);
  EXPECT_EQ(failed(checks), kNone);
  for (const char* code :
       {"gpu-in-use", "gpu-memory-held", "power-limits-differ", "power-limit-low", "gpu-hot",
        "gpu-fan-stopped", "gpu-slowed", "pcie-errors"})
    EXPECT_EQ(states(checks, code), kNotJudged) << code;
  facts.devices.driver.clear();
  facts.devices.why_no_driver = {"nvml: not asked about a recorded machine"};
  for (const char* code : {"gpu-in-use", "gpu-hot", "gpu-lost", "driver-hung", "models-differ"})
    EXPECT_EQ(states(judged(facts), code), kNotJudged) << code;
}

TEST(DoctorDevices, ADesktopHoldsMemoryAndIsNoStranger) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver[0].sample.used_bytes = 5e9;
  facts.devices.driver[0].sample.graphics_processes = 4;
  EXPECT_EQ(failed(judged(facts)), kNone);
}

TEST(DoctorDevices, MigIsNotCountedAgainstTorch) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver[0].device.mig = true;
  facts.framework.gpus = 1;
  EXPECT_EQ(states(judged(facts), "torch-count-differs"), kNotJudged);
}

// ---- links ------------------------------------------------------------------------------------

// A desktop keeps the utilisation up and the clock down, and the link with it.
TEST(DoctorDevices, ALinkIsJudgedUnderAJobsLoadOnly) {
  MadeMachine machine;
  machine.put(MadeMachine::card_folder(0) + "/current_link_speed", "2.5 GT/s PCIe\n");
  DoctorFacts facts = well(machine);
  facts.work.clear();  // no load of the probe's own
  GpuSample& sample = facts.devices.driver[0].sample;
  sample.util_frac = 0.4;
  EXPECT_FALSE(failed(judged(facts)).contains("link-slow"));
  sample.other_processes = 1;
  EXPECT_FALSE(failed(judged(facts)).contains("link-slow"));  // 210 of 1695 MHz
  sample.sm_clock_mhz = 1500;
  EXPECT_TRUE(failed(judged(facts)).contains("link-slow"));
  // what counts is the link beside the sample, not the one when the bus was read
  for (auto& hop : facts.devices.driver[0].hops) hop.speed_gts = 16;
  EXPECT_FALSE(failed(judged(facts)).contains("link-slow"));
}

// Navi 23 and its like: an edge of eight lanes, a switch, and sixteen inside the card.
TEST(DoctorDevices, LanesInsideACardAreNoSlot) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  auto& hops = facts.devices.pci[0].hops;
  const PciHop wide{"0000:03:00.0", 16, 16, 16.0, 16.0};
  PciHop edge = wide;
  edge.width = edge.width_max = 8;
  hops = {wide, edge, wide, wide};
  EXPECT_FALSE(failed(judged(facts)).contains("slot-narrow"));
  hops[0].width = hops[0].width_max = 4;
  EXPECT_TRUE(failed(judged(facts)).contains("slot-narrow"));
}

TEST(DoctorDevices, TheSwitchOfX570IsAChipset) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.pci[0].hop_names = {"Starship/Matisse GPP Bridge", "Matisse Switch Upstream",
                                    "Matisse PCIe GPP Bridge", "GA102"};
  facts.devices.pci[0].hops.resize(4);
  EXPECT_TRUE(failed(judged(facts)).contains("chipset-lanes"));
}

TEST(DoctorDevices, NvlinkLeavesTheBusAside) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  for (auto& gpu : facts.devices.pci) {
    gpu.iommu_type = "DMA-FQ";
    gpu.acs_redirects = true;
  }
  EXPECT_TRUE(failed(judged(facts)).contains("iommu-translates"));
  facts.devices.driver[0].device.nvlink_to_all = true;
  EXPECT_TRUE(failed(judged(facts)).contains("acs-redirects"));
  facts.devices.driver[1].device.nvlink_to_all = true;
  EXPECT_EQ(failed(judged(facts)), kNone);
}

TEST(DoctorDevices, AWindowThatNobodyCouldEnlarge) {
  MadeMachine machine;
  machine.put(MadeMachine::card_folder(0) + "/resource",
              "0x0000007000000000 0x000000700fffffff 0x000000000014220c\n");
  const Checks checks = judged(well(machine));
  EXPECT_EQ(failed(checks), kNone);
  EXPECT_TRUE(holds(why(checks, "rebar-off"), "no resizing"));
}

// ---- AMD --------------------------------------------------------------------------------------

TEST(DoctorDevices, AmdsCardsAreCountedByTheirOwnDriver) {
  MadeMachine machine;
  DoctorFacts facts = amd(machine);
  EXPECT_EQ(failed(judged(facts)), kNone);
  EXPECT_EQ(states(judged(facts), "gpu-count-differs"), kPass);
  facts.devices.kfd = Strings{"0000:01:00.0"};
  EXPECT_EQ(failed(judged(facts)), std::set<std::string>{"gpu-count-differs"});
  facts.devices.pci[1].name = "Cape Verde";  // too old for ROCm
  EXPECT_EQ(states(judged(facts), "gpu-count-differs"), kNotJudged);
  // a build for the CPU lacks what ROCm could use, and only that
  DoctorFacts plain = amd(machine);
  plain.framework.hip = "";
  plain.framework.gpus = 0;
  plain.work.clear();
  EXPECT_TRUE(failed(judged(plain)).contains("torch-without-gpu"));
  plain.devices.kfd = Strings{};
  EXPECT_EQ(failed(judged(plain)), kNone);
  // torch for ROCm counts the processor's graphics too
  facts.framework.gpus = 3;
  EXPECT_EQ(failed(judged(facts)), kNone);
  facts = amd(machine);  // a container with one of the two
  machine.take("dev/dri/renderD130");
  read_nodes(machine.root(), facts.devices);
  EXPECT_EQ(facts.devices.driver.size(), 1u);
  facts.framework.gpus = 1;
  EXPECT_EQ(failed(judged(facts)), kNone);
}

TEST(DoctorDevices, WordsForAmdsCardsNameAmdsTools) {
  MadeMachine machine;
  DoctorFacts facts = amd(machine);
  facts.devices.kfd = Strings{"0000:01:00.0"};
  facts.devices.nodes_missing = {"/dev/kfd"};
  facts.framework.gpus = 1;
  facts.framework.no_peer = {"0-1"};
  facts.work[1].hung = true;
  DriverGpu& gpu = facts.devices.driver[0];
  gpu.device.name = "Navi 31";
  gpu.device.power_limit_w = 100;
  gpu.sample.other_processes = 1;
  gpu.sample.temp_c = 94;
  gpu.sample.fan_frac = 0;
  gpu.sample.throttle_reasons = 0x40;
  DriverGpu& other = facts.devices.driver[1];
  facts.devices.driver.push_back(other);
  facts.devices.driver.back().device.power_limit_w = 280;
  std::set<std::string> codes;
  for (const auto& check : judged(facts)) {
    if (check.state != CheckState::fail) continue;
    codes.insert(check.finding.id);
    for (const auto& text : {check.finding.next_step, check.by_hand, check.confirms})
      EXPECT_FALSE(holds(text, "nvidia")) << check.finding.id << ": " << text;
  }
  for (const OtherTools& tools : other_tools()) {
    if (tools.code == "torch-sees-no-gpu") continue;  // it would end the rung before the others
    EXPECT_TRUE(codes.contains(std::string(tools.code))) << tools.code;
  }
}

// ---- leases -----------------------------------------------------------------------------------

TEST(DoctorDevices, ALeaseIsSeenBothWaysOfLocking) {
  MadeMachine machine;
  machine.put("run/rigwise/gpu-A.lock", "");
  machine.put("run/rigwise/gpu-B.lock", "");
  EXPECT_TRUE(read_devices(machine.root()).leased.empty());
  const auto held = lock_file(machine.root() / "run/rigwise/gpu-A.lock");
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(read_devices(machine.root()).leased, Strings{"gpu-A"});
  const auto file = machine.root() / "run/rigwise/gpu-B.lock";
  const Fd other(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  const auto locks = read_file("/proc/locks", 1 << 20);
  struct stat status = {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  const std::string inode = ":" + std::to_string(status.st_ino) + " ";
  if (!locks || !holds(*locks, inode)) GTEST_SKIP() << "this kernel hides its locks";
  machine.put("proc/locks", *locks);
  EXPECT_EQ(read_devices(machine.root()).leased, (Strings{"gpu-A", "gpu-B"}));
}

}  // namespace
}  // namespace rigwise::doctor
