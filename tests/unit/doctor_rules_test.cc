// Every finding code: what provokes it on a hand-made machine, and that nothing does on one that is
// well. The table of rules, docs/doctor.md and these cases hold the same codes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>

#include "base/files.h"
#include "base/text.h"
#include "doctor_made.h"

namespace rigwise::doctor {
namespace {

struct Case {
  std::string code;
  std::function<void(MadeMachine&)> machine = {};
  std::function<void(DoctorFacts&)> facts = {};
  std::function<void(SmokeResult&)> smoke = {};
  bool no_smoke = false;
};

using M = MadeMachine&;
using F = DoctorFacts&;
using S = SmokeResult&;

std::vector<Check> judged(const DoctorFacts& facts, const SmokeResult& smoke, bool kept) {
  std::vector<Check> checks;
  Judge judge(checks);
  judge_host(facts, judge);
  if (!judge_left_out(facts, judge)) {
    judge_devices(facts, judge);
    judge_links(facts, judge, false);
  }
  judge_framework(facts, judge);
  judge_launcher(facts, judge);
  judge_collective(facts, judge);
  judge_storage(facts, judge);
  judge_smoke(smoke, judge);
  judge_ready(kept ? std::optional(smoke) : std::nullopt, 1e9 + 3600,
              {{"runs", "/data/runs"}, {"command", "'python train.py'"}}, judge);
  return checks;
}

std::set<std::string> failed_codes(const std::vector<Check>& checks) {
  std::set<std::string> codes;
  for (const auto& check : checks) {
    if (check.state == CheckState::fail) codes.insert(check.finding.id);
  }
  return codes;
}

const std::string kCard = MadeMachine::card_folder(0);

/// Somebody's job keeps the first card busy.
void work(DoctorFacts& facts) {
  GpuSample& sample = facts.devices.driver[0].sample;
  sample.util_frac = 0.9;
  sample.other_processes = 1;
  sample.sm_clock_mhz = 1600;
}

std::vector<Case> host_cases() {
  return {
      {"shm-small", [](M m) { m.shared_memory("65536k"); }},
      {"memory-short", [](M m) { m.memory(64e6, 3e6, 8e6, 8e6); }},
      {"swap-in-use", [](M m) { m.memory(64e6, 50e6, 8e6, 1e6); }},
      {"locked-memory-low",
       [](M m) {
         m.put("sys/class/infiniband/mlx5_0/node_type", "1: CA\n");
         m.limits("65536", "8388608");
       }},
      {"open-files-low", [](M m) { m.limits("256", "unlimited"); }},
      {"kernel-old", [](M m) { m.put("proc/sys/kernel/osrelease", "5.4.0-150-generic\n"); }},
      {"clock-unsynced", {}, [](F f) { f.host.clock_synced = false; }},
  };
}

std::vector<Case> device_cases() {
  return {
      {"driver-not-bound", [](M m) { m.take(kCard + "/driver"); }},
      {"nouveau-bound",
       [](M m) { m.link(kCard + "/driver", "../../../../bus/pci/drivers/nouveau"); }},
      {"passed-through",
       [](M m) { m.link(kCard + "/driver", "../../../../bus/pci/drivers/vfio-pci"); }},
      {"gpu-off-bus", [](M m) { m.put(kCard + "/config", std::string(64, '\xff')); }},
      {"driver-hung",
       {},
       [](F f) {
         f.devices.driver_hung = true;
         f.devices.driver_trouble = "asking the drivers: no answer within 15000 ms";
         f.devices.driver.clear();
       }},
      {"driver-fails",
       {},
       [](F f) {
         f.devices.driver_trouble = "asking the drivers: ended by signal 11";
         f.devices.driver.clear();
       }},
      {"driver-library-missing",
       {},
       [](F f) {
         f.devices.driver.clear();
         f.devices.why_no_driver = {"nvml: no libnvidia-ml.so.1 (no NVIDIA driver)"};
       }},
      {"driver-versions-differ",
       [](M m) {
         m.take("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.14");
         m.put("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.86.10", "");
       },
       [](F f) {
         f.devices.driver.clear();
         f.devices.why_no_driver = {"nvml: driver and library versions differ (a reboot is due)"};
       }},
      {"gpu-count-differs", {}, [](F f) { f.devices.driver.pop_back(); }},
      {"gpu-lost",
       {},
       [](F f) {
         f.devices.problems = {
             "nvml GPU 1: the GPU is lost (it fell off the bus or needs a reset)"};
       }},
      {"device-nodes-missing", [](M m) { m.take("dev/nvidiactl"); }},
      {"uvm-node-missing", [](M m) { m.take("dev/nvidia-uvm"); }},
      {"device-nodes-denied", {}, [](F f) { f.devices.nodes_denied = {"/dev/nvidia0"}; }},
      {"visible-devices-bad",
       [](M m) { m.put("proc/self/environ", std::string("CUDA_VISIBLE_DEVICES=0,5\0", 25)); }},
      {"gpus-left-out", {}, [](F f) { f.cpu_meant = "CUDA_VISIBLE_DEVICES=-1"; }},
      {"device-order-unset", {}, [](F f) { f.devices.driver[1].device.name = "RTX 3060"; }},
      {"models-differ", {}, [](F f) { f.devices.driver[1].device.name = "RTX 3060"; }},
      {"xid-hardware",
       [](M m) {
         m.put("var/log/dmesg",
               "[ 812.1] NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', GPU has fallen off the "
               "bus.\n");
       }},
      {"xid-software",
       [](M m) {
         m.put("var/log/dmesg",
               "[ 812.1] NVRM: Xid (PCI:0000:01:00): 31, pid=4127, name=python, MMU Fault\n");
       }},
      {"pcie-errors",
       [](M m) { m.put(kCard + "/aer_dev_correctable", "RxErr 250\nTOTAL_ERR_COR 250\n"); }},
      {"gpu-in-use", {}, [](F f) { f.devices.driver[0].sample.other_processes = 1; }},
      {"gpu-memory-held", {}, [](F f) { f.devices.driver[0].sample.used_bytes = 20e9; }},
      {"gpu-leased", {}, [](F f) { f.devices.leased = {"gpu-GPU-made-0"}; }},
      {"power-limits-differ", {}, [](F f) { f.devices.driver[1].device.power_limit_w = 280; }},
      {"power-limit-low", {}, [](F f) { f.devices.driver[0].device.power_limit_w = 200; }},
      {"gpu-hot", {}, [](F f) { f.devices.driver[0].sample.temp_c = 90; }},
      {"gpu-fan-stopped",
       {},
       [](F f) {
         f.devices.driver[0].sample.temp_c = 75;
         f.devices.driver[0].sample.fan_frac = 0;
       }},
      {"gpu-slowed", {}, [](F f) { f.devices.driver[0].sample.throttle_reasons = 0x80; }},
      {"link-narrow", [](M m) { m.put(kCard + "/current_link_width", "4\n"); }, work},
      {"link-slow", [](M m) { m.put(kCard + "/current_link_speed", "2.5 GT/s PCIe\n"); }, work},
      {"slot-narrow",
       [](M m) { m.put("sys/devices/pci0000:00/0000:00:01.1/max_link_width", "4\n"); }},
      {"chipset-lanes",
       [](M m) { m.put("sys/devices/pci0000:00/0000:00:01.1/device", "0x43c7\n"); }},
      {"uplink-shared",
       [](M m) {
         m.device("sys/devices/pci0000:00/0000:00:01.1/0000:03:00.0", "0000:03:00.0", "0x010802",
                  "0x144d", "0xa80a");
       }},
      {"iommu-translates",
       [](M m) {
         m.put("sys/kernel/iommu_groups/14/type", "DMA-FQ\n");
         m.link(kCard + "/iommu_group", "../../../../kernel/iommu_groups/14");
       }},
      {"acs-redirects",
       [](M m) { m.put("sys/devices/pci0000:00/0000:00:01.1/config", MadeMachine::config(true)); }},
      {"rebar-off",
       [](M m) {
         m.put(kCard + "/resource", "0x0000007000000000 0x000000700fffffff 0x000000000014220c\n");
         m.put(kCard + "/resource1_resize", "0000000000007fc0\n");
       }},
  };
}

std::vector<Case> framework_cases() {
  return {
      {"python-missing",
       {},
       [](F f) {
         f.framework = {};
         f.framework.trouble = "python3 is not on PATH";
       }},
      {"framework-hung",
       {},
       [](F f) {
         f.framework = {.python = "/venv/bin/python"};
         f.framework.trouble = "no answer within 120 s";
         f.framework.last_step = "import torch";
       }},
      {"framework-crashed",
       {},
       [](F f) {
         f.framework = {.python = "/venv/bin/python"};
         f.framework.trouble = "ended by signal 4";
       }},
      {"torch-missing",
       {},
       [](F f) {
         f.framework = {.python = "/venv/bin/python"};
         f.framework.torch_error = "ModuleNotFoundError: No module named 'torch'";
       }},
      {"torch-import-fails",
       {},
       [](F f) {
         f.framework = {.python = "/venv/bin/python"};
         f.framework.torch_error = "ImportError: libcudart.so.13: cannot open shared object file";
       }},
      {"torch-without-gpu",
       {},
       [](F f) {
         f.framework.torch = "2.13.0+cpu";
         f.framework.cuda = "";
         f.framework.gpus = 0;
       }},
      {"torch-sees-no-gpu",
       {},
       [](F f) {
         f.framework.gpus = 0;
         f.framework.gpu_error = "RuntimeError: The NVIDIA driver on your system is too old";
       }},
      {"fabric-manager-stopped",
       {},
       [](F f) {
         f.framework.gpus = 0;
         f.framework.gpu_error =
             "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet "
             "initialized";
       }},
      {"torch-count-differs", {}, [](F f) { f.framework.gpus = 1; }},
      {"torch-call-fails",
       {},
       [](F f) {
         f.framework.devices.clear();
         f.framework.device_error = "RuntimeError: CUDA error: unspecified launch failure";
       }},
      {"torch-arch-missing",
       {},
       [](F f) {
         f.framework.arch_list = {"sm_90", "sm_100", "compute_120"};
       }},
      {"gpu-work-hung",
       {},
       [](F f) {
         f.work[1].hung = true;
         f.work[1].last_step = "256 MB of device memory";
       }},
      {"gpu-work-fails",
       {},
       [](F f) { f.work[1].trouble = "OutOfMemoryError: CUDA out of memory"; }},
      {"gpu-work-wrong", {}, [](F f) { f.work[1].correct = false; }},
      {"nccl-missing", {}, [](F f) { f.framework.nccl = ""; }},
      {"nccl-versions-differ", {}, [](F f) { f.framework.nccl_loaded = "2.28.9"; }},
      {"cuda-libraries-mixed",
       {},
       [](F f) { f.framework.packages["nvidia-cublas-cu12"] = "12.4"; }},
      {"extension-fails",
       {},
       [](F f) {
         f.framework.extensions.push_back(
             {"bitsandbytes", "0.49", "RuntimeError: CUDA setup failed"});
       }},
      {"peer-access-missing", {}, [](F f) { f.framework.no_peer = {"0-1"}; }},
  };
}

std::vector<Case> group_cases() {
  return {
      {"hostname-unresolved", {}, [](F f) { f.launcher.addresses.reset(); }},
      {"hostname-loopback", {}, [](F f) { f.launcher.addresses = Strings{"127.0.1.1"}; }},
      {"resolver-hung", {}, [](F f) { f.launcher.resolver_hung = true; }},
      {"gloo-interface-bad",
       {},
       [](F f) { f.launcher.variables["GLOO_SOCKET_IFNAME"] = "^docker0"; }},
      {"nccl-interface-bad", {}, [](F f) { f.launcher.variables["NCCL_SOCKET_IFNAME"] = "=eth0"; }},
      {"port-in-use",
       [](M m) {
         m.put("proc/net/tcp", std::string(MadeMachine::kTcpHead) +
                                   "   0: 0100007F:733C 00000000:0000 0A 00000000:00000000\n");
       }},
      {"rank-variables-left", {}, [](F f) { f.launcher.variables["WORLD_SIZE"] = "4"; }},
      {"torchrun-fails",
       {},
       [](F f) {
         f.launcher.tries[0].exit_status = 1;
         f.launcher.tries[0].answered = 0;
         f.launcher.tries[0].tail = {"RendezvousConnectionError"};
       }},
      {"accelerate-fails", {}, [](F f) { f.launcher.tries[1].exit_status = 2; }},
      {"deepspeed-fails", {}, [](F f) { f.launcher.tries[2].exit_status = 1; }},
      {"launcher-hung",
       {},
       [](F f) {
         f.launcher.tries[0].hung = true;
         f.launcher.tries[0].last_step = "join the group";
       }},
      {"ranks-apart",
       {},
       [](F f) {
         f.launcher.tries[0].world = 1;
         f.launcher.tries[0].together = false;
       }},
      {"gloo-fails", {}, [](F f) { f.collective.tries[0].complete = false; }},
      {"gloo-hangs", {}, [](F f) { f.collective.tries[0].hung = true; }},
      {"nccl-fails", {}, [](F f) { f.collective.tries[1].exit_status = 1; }},
      {"nccl-hangs", {}, [](F f) { f.collective.tries[1].hung = true; }},
      {"bytes-differ",
       {},
       [](F f) { f.collective.tries[1].wrong = {"send 0 to 1, 16777216 bytes"}; }},
      {"pair-slow", {}, [](F f) { f.collective.tries[1].pairs[2].seconds = 0.05; }},
  };
}

std::vector<Case> run_cases() {
  return {
      {"storage-hung",
       {},
       [](F f) {
         f.storage.dirs[0].hung = true;
         f.storage.dirs[0].error = "no answer within 20000 ms";
       }},
      {"storage-unwritable",
       {},
       [](F f) { f.storage.dirs[0].error = "cannot make a file: Read-only file system"; }},
      {"storage-wrong-bytes", {}, [](F f) { f.storage.dirs[0].wrong = true; }},
      {"storage-missing", {}, [](F f) { f.storage.dirs[0].place = "/data"; }},
      {"storage-short", {}, [](F f) { f.storage.dirs[0].need_bytes = 480e9; }},
      {"storage-tight",
       {},
       [](F f) {
         f.storage.dirs[0].need_bytes = 480e9;
         f.storage.dirs[0].need_said = false;
       }},
      {"storage-nearly-full",
       {},
       [](F f) {
         f.storage.dirs[0].free_bytes = 10e9;
         f.storage.dirs[0].need_bytes = 1e9;
       }},
      {"storage-inodes", {}, [](F f) { f.storage.dirs[0].free_files = 1000; }},
      {"storage-slow", {}, [](F f) { f.storage.dirs[0].write_bytes_per_s = 30e6; }},
      {"storage-in-memory",
       {},
       [](F f) {
         f.storage.dirs[0].in_memory = true;
         f.storage.dirs[0].fs_type = "tmpfs";
       }},
      {"storage-network",
       {},
       [](F f) {
         f.storage.dirs[0].network = true;
         f.storage.dirs[0].fs_type = "nfs4";
       }},
      {"smoke-fails",
       {},
       {},
       [](S s) {
         s.exit_status = 1;
         s.steps_seen = 3;
         s.trouble = "torch.OutOfMemoryError: CUDA out of memory.";
       }},
      {"smoke-late",
       {},
       {},
       [](S s) {
         s.late = true;
         s.steps_seen = 2;
       }},
      {"smoke-no-steps",
       {},
       {},
       [](S s) {
         s.exit_status = 0;
         s.steps_seen.reset();
       }},
      {"smoke-short",
       {},
       {},
       [](S s) {
         s.exit_status = 0;
         s.steps_seen = 3;
       }},
      {"smoke-loss-bad", {}, {}, [](S s) { s.last_loss = NAN; }},
      {"smoke-ranks-missing", {}, {}, [](S s) { s.ranks_trained = 1; }},
      {.code = "smoke-missing", .no_smoke = true},
      {"smoke-stale", {}, {}, [](S s) { s.unix_s = 1e9 - 30 * 86400.0; }},
  };
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& part :
       {host_cases(), device_cases(), framework_cases(), group_cases(), run_cases()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<Check> examined(const Case& one) {
  MadeMachine machine;
  if (one.machine) one.machine(machine);
  DoctorFacts facts = well(machine);
  if (one.facts) one.facts(facts);
  SmokeResult smoke = well_smoked();
  if (one.smoke) one.smoke(smoke);
  return judged(facts, smoke, !one.no_smoke);
}

TEST(DoctorRules, NothingIsFoundOnAMachineThatIsWell) {
  for (const auto& check : examined({}))
    EXPECT_NE(check.state, CheckState::fail) << check.finding.id << ": " << check.finding.claim;
}

TEST(DoctorRules, EveryCodeIsProvoked) {
  std::set<std::string> provoked;
  for (const Case& one : cases()) {
    const auto checks = examined(one);
    EXPECT_TRUE(failed_codes(checks).contains(one.code)) << one.code << " was not provoked";
    provoked.insert(one.code);
    for (const auto& check : checks) {
      if (check.state != CheckState::fail || check.finding.id != one.code) continue;
      EXPECT_FALSE(check.finding.claim.empty()) << one.code;
      EXPECT_FALSE(check.finding.evidence.empty()) << one.code;
      EXPECT_FALSE(check.finding.next_step.empty() || check.by_hand.empty()) << one.code;
      for (const char* hole :
           {"{bdf}", "{gpu}", "{python}", "{path}", "{name}", "{run}", "{runs}", "{command}"})
        EXPECT_EQ((check.by_hand + check.finding.next_step).find(hole), std::string::npos)
            << one.code;
    }
  }
  for (const DoctorRule& rule : doctor_rules())
    EXPECT_TRUE(provoked.contains(std::string(rule.code))) << rule.code << " has no case";
}

TEST(DoctorRules, CodesAreDistinctAndDocumented) {
  const auto text =
      read_file(std::filesystem::path(RIGWISE_FIXTURES) / "../../docs/doctor.md", 1 << 20);
  ASSERT_TRUE(text.ok());
  std::set<std::string> documented, known;
  for (const auto line : split(*text, '\n')) {
    if (!line.starts_with("| `")) continue;
    const auto cells = split(line, '|');
    if (cells.size() < 6) continue;
    const std::string code(trim(cells[1]));
    const std::string bare = code.substr(1, code.size() - 2);
    documented.insert(bare);
    for (const DoctorRule& rule : doctor_rules()) {
      if (rule.code != bare) continue;
      EXPECT_EQ(trim(cells[2]), to_string(rule.severity)) << bare;
      EXPECT_EQ(trim(cells[3]), rule.condition) << bare;
    }
  }
  for (const DoctorRule& rule : doctor_rules()) {
    EXPECT_TRUE(known.insert(std::string(rule.code)).second) << rule.code << " twice";
    EXPECT_TRUE(documented.contains(std::string(rule.code)))
        << rule.code << " is not in docs/doctor.md";
  }
  for (const auto& code : documented) EXPECT_TRUE(known.contains(code)) << code << " is no rule";
}

// An idle card saves power by a slow, and on some boards narrow, link: that is no finding.
TEST(DoctorRules, AnIdleLinkIsNotABadSlot) {
  MadeMachine machine;
  machine.put(kCard + "/current_link_width", "4\n");
  machine.put(kCard + "/current_link_speed", "2.5 GT/s PCIe\n");
  DoctorFacts facts = well(machine);
  facts.work.clear();
  std::vector<Check> checks;
  Judge judge(checks);
  judge_links(facts, judge, false);
  bool told = false;
  for (const auto& check : checks) {
    if (check.finding.id != "link-narrow" && check.finding.id != "link-slow") continue;
    EXPECT_EQ(check.state, CheckState::not_judged);
    told = told || check.why.find("idle") != std::string::npos;
  }
  EXPECT_TRUE(told);
}

TEST(DoctorRules, ALinkIsJudgedByWhatItDidUnderTheProbesLoad) {
  MadeMachine machine;
  machine.put(kCard + "/current_link_speed", "2.5 GT/s PCIe\n");  // idle when the bus was read
  DoctorFacts facts = well(machine);
  for (auto& hop : facts.work[0].loaded_hops) hop.speed_gts = 16;
  std::vector<Check> checks;
  Judge judge(checks);
  judge_links(facts, judge, true);
  EXPECT_TRUE(failed_codes(checks).empty());
  for (auto& hop : facts.work[0].loaded_hops) hop.width = 8;
  checks.clear();
  judge_links(facts, judge, true);
  EXPECT_EQ(failed_codes(checks), std::set<std::string>{"link-narrow"});
}

// A switch on the card has two ports with no link between them.
TEST(DoctorRules, PortsOfASwitchAreNotComparedWithEachOther) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  const PciHop wide{"", 16, 16, 16.0, 16.0};
  PciHop port{"0000:00:01.1", 8, 8, 16.0, 16.0}, up = wide, down = wide, gpu = wide;
  up.width = 8;
  facts.work[0].loaded_hops = {port, up, down, gpu};
  std::vector<Check> checks;
  Judge judge(checks);
  judge_links(facts, judge, true);
  EXPECT_TRUE(failed_codes(checks).empty());
}

TEST(DoctorRules, AHungDriverLeavesTheRestUnjudged) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.devices.driver_hung = true;
  facts.devices.driver.clear();
  std::vector<Check> checks;
  Judge judge(checks);
  judge_devices(facts, judge);
  EXPECT_EQ(failed_codes(checks), std::set<std::string>{"driver-hung"});
}

TEST(DoctorRules, WhatCannotBeReadIsNotJudged) {
  DoctorFacts facts;
  std::vector<Check> checks;
  Judge judge(checks);
  judge_host(facts, judge);
  for (const auto& check : checks)
    EXPECT_TRUE(check.state == CheckState::not_judged || check.state == CheckState::skipped)
        << check.finding.id;
  checks.clear();
  judge_devices(facts, judge);
  ASSERT_EQ(checks.size(), 1u);
  EXPECT_EQ(checks[0].state, CheckState::skipped);
}

// CUDA C Programming Guide: binaries serve their major version from their minor on, PTX all later
// ones; an architecture with an 'a' serves itself alone.
TEST(DoctorRules, ArchitecturesThatServeACard) {
  const auto missing = [](Strings arches, const char* capability) {
    MadeMachine machine;
    DoctorFacts facts = well(machine);
    facts.framework.arch_list = std::move(arches);
    for (auto& device : facts.framework.devices) device.capability = capability;
    std::vector<Check> checks;
    Judge judge(checks);
    judge_framework(facts, judge);
    return failed_codes(checks).contains("torch-arch-missing");
  };
  EXPECT_FALSE(missing({"sm_80"}, "8.6"));
  EXPECT_TRUE(missing({"sm_86"}, "8.0"));
  EXPECT_TRUE(missing({"sm_80", "sm_90"}, "12.0"));
  EXPECT_FALSE(missing({"compute_90"}, "12.0"));
  EXPECT_TRUE(missing({"sm_90a"}, "9.2"));
  EXPECT_FALSE(missing({"sm_90a"}, "9.0"));
  EXPECT_TRUE(missing({"sm_75", "sm_80"}, "6.1"));
}

TEST(DoctorRules, TheKernelsLogIsReadFromAnyBytes) {
  const std::string text =
      "[1.0] NVRM: Xid (PCI:0000:01:00): 79, pid=1\n"
      "[2.0] NVRM: Xid (PCI:0000:01:00\n[3.0] NVRM: Xid (): x\n[4.0] NVRM: Xid (a): "
      "99999999999999\n"
      "[5.0] pci 0000:01:00.0: 31.504 Gb/s available PCIe bandwidth, limited by 8.0 GT/s PCIe x4 "
      "link at 0000:00:1c.0 (capable of 252.048 Gb/s)\n\xff\xfe\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    DeviceFacts facts;
    read_kernel_log(text.substr(0, cut), facts);
    EXPECT_LE(facts.xids.size(), 1u);
  }
  DeviceFacts facts;
  read_kernel_log(text, facts);
  ASSERT_EQ(facts.xids.size(), 1u);
  EXPECT_EQ(facts.xids[0].xid, 79);
  EXPECT_EQ(facts.downtrained.size(), 1u);
}

}  // namespace
}  // namespace rigwise::doctor
