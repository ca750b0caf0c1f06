// Judgements that hang on more than one fact: what is a failure, what is left open, what is
// skipped, and how a finding is told.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "doctor/probes.h"
#include "doctor_made.h"

namespace rigwise::doctor {
namespace {

std::set<std::string> failed_codes(const std::vector<Check>& checks) {
  std::set<std::string> codes;
  for (const auto& check : checks) {
    if (check.state == CheckState::fail) codes.insert(check.finding.id);
  }
  return codes;
}

std::vector<Check> framework_of(const std::function<void(DoctorFacts&)>& change) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  change(facts);
  std::vector<Check> checks;
  Judge judge(checks);
  judge_framework(facts, judge);
  return checks;
}

std::string state_of(const std::vector<Check>& checks, std::string_view code) {
  std::string state = "absent";
  for (const auto& check : checks) {
    if (check.finding.id == code) state = to_string(check.state);
  }
  return state;
}

// What the driver does to torch once it is imported is no pass either.
TEST(DoctorJudge, AnEndBehindTheImportOfTorchIsTold) {
  const auto ended = [](const char* trouble, const char* step) {
    return failed_codes(framework_of([&](DoctorFacts& facts) {
      facts.framework.trouble = trouble;
      facts.framework.last_step = step;
      facts.framework.gpus.reset();
      facts.framework.devices.clear();
    }));
  };
  using Codes = std::set<std::string>;
  EXPECT_EQ(ended("no answer within 120 s", "torch.cuda.init()"), Codes{"framework-hung"});
  EXPECT_EQ(ended("ended by signal 11", "torch.cuda.init()"), Codes{"framework-crashed"});
  EXPECT_EQ(ended("exit 1: AttributeError", "libraries"), Codes{"framework-crashed"});
  EXPECT_TRUE(ended("ended by signal 11", "import flash_attn").contains("extension-fails"));
  EXPECT_FALSE(ended("ended by signal 11", "import flash_attn").contains("framework-crashed"));
}

TEST(DoctorJudge, ARunThatIsMeantForTheCpuIsNotHeldAgainstTheGpus) {
  const auto checks = framework_of([](DoctorFacts& facts) {
    facts.cpu_meant = "--cpu";
    facts.framework.torch = "2.13.0+cpu";
    facts.framework.cuda = "";
    facts.framework.gpus = 0;
    facts.framework.devices.clear();
    facts.work.clear();
  });
  EXPECT_TRUE(failed_codes(checks).empty());
  EXPECT_EQ(state_of(checks, "torch-without-gpu"), "skipped");
}

TEST(DoctorJudge, AnXpuBuildIsNoCpuBuild) {
  const auto checks = framework_of([](DoctorFacts& facts) {
    facts.framework.cuda = "";
    facts.framework.xpu = "20250101";
    facts.framework.gpus = 0;
  });
  EXPECT_EQ(state_of(checks, "torch-without-gpu"), "not_judged");
}

TEST(DoctorJudge, NcclIsHeldAgainstTheLibraryThatIsMapped) {
  const auto built = framework_of([](DoctorFacts& facts) { facts.framework.nccl = "2.27.1"; });
  EXPECT_EQ(state_of(built, "nccl-versions-differ"), "pass");
  const auto inside = framework_of([](DoctorFacts& facts) { facts.framework.nccl_loaded = ""; });
  EXPECT_EQ(state_of(inside, "nccl-versions-differ"), "not_judged");
}

TEST(DoctorJudge, CallsThatRaiseAreNotPassed) {
  const auto checks = framework_of([](DoctorFacts& facts) {
    facts.framework.peer_error = "RuntimeError: out of luck";
    facts.framework.nccl = "", facts.framework.nccl_loaded = "";
    facts.framework.nccl_error = "OSError: libnccl.so.2";
  });
  for (const char* code : {"peer-access-missing", "nccl-missing", "nccl-versions-differ"})
    EXPECT_EQ(state_of(checks, code), "not_judged") << code;
}

TEST(DoctorJudge, AGpuWithoutAPlaceOnTheBusIsFoundByItsUuidOrNotJudged) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  for (auto& device : facts.framework.devices) device.pci = "";
  facts.framework.devices[1].uuid = "another";
  place_on_bus(facts.devices, facts.framework);
  EXPECT_EQ(facts.framework.devices[0].pci, "0000:01:00.0");
  EXPECT_EQ(facts.framework.devices[1].pci, "");
  const auto checks = framework_of([](DoctorFacts& other) { other.work[0].pci = ""; });
  EXPECT_TRUE(std::any_of(checks.begin(), checks.end(), [](const Check& check) {
    return check.finding.id == "link-narrow" && check.state == CheckState::not_judged;
  }));
}

// Of several folders only the one that gets the checkpoints is held against them.
TEST(DoctorJudge, SpaceIsChargedToTheCheckpointsFolder) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  StorageTry home = facts.storage.dirs[0];
  home.path = "/home/me";
  home.free_bytes = 30e9;
  facts.storage.dirs.push_back(home);
  const auto failed = [&] {
    std::vector<Check> checks;
    Judge judge(checks);
    judge_storage(facts, judge);
    return failed_codes(checks);
  };
  EXPECT_EQ(failed(), std::set<std::string>{"storage-short"});
  for (auto& dir : facts.storage.dirs) dir.need_here = false;  // --need and no folder: one has room
  EXPECT_TRUE(failed().empty());
  facts.storage.dirs[0].free_bytes = 40e9;
  EXPECT_EQ(failed(), std::set<std::string>{"storage-short"});
  facts.storage.dirs[0].need_here = true;
  facts.storage.dirs[0].free_bytes = 500e9;
  facts.storage.dirs[1].need_bytes.reset();
  EXPECT_TRUE(failed().empty());
}

// A probe that the level's time cut short, or never let start, hung nowhere.
TEST(DoctorJudge, WhatTheLevelsTimeCutIsNotJudged) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.framework.no_time = facts.work[0].no_time = "time: the level's 3 min are over";
  facts.work[0].hung = facts.launcher.tries[0].hung = facts.collective.tries[1].hung = true;
  facts.launcher.tries[0].no_time = facts.collective.tries[1].no_time = facts.framework.no_time;
  std::vector<Check> checks;
  Judge judge(checks);
  judge_launcher(facts, judge);
  judge_collective(facts, judge);
  judge_framework(facts, judge);
  facts.framework.no_time.clear();
  judge_framework(facts, judge);
  EXPECT_TRUE(failed_codes(checks).empty());
  for (const char* code : {"torchrun-fails", "nccl-hangs", "framework-hung", "gpu-work-hung"})
    EXPECT_TRUE(std::any_of(checks.begin(), checks.end(), [&](const Check& check) {
      return check.finding.id == code && check.state == CheckState::not_judged &&
             check.why.find("3 min") != std::string::npos;
    })) << code;
}

TEST(DoctorJudge, GpusThatTookNoPartAreTold) {
  MadeMachine machine;
  DoctorFacts facts = well(machine);
  facts.collective.tries[1].left_out = 2;
  std::vector<Check> checks;
  Judge judge(checks);
  judge_collective(facts, judge);
  EXPECT_TRUE(std::any_of(checks.begin(), checks.end(), [](const Check& check) {
    return check.state == CheckState::not_judged &&
           check.why.find("2 GPUs took no part") != std::string::npos;
  }));
}

TEST(DoctorJudge, NcclsOwnWordsAreEvidence) {
  const Strings lines = nccl_lines(
      "rig:1:1 [0] NCCL INFO NCCL version 2.30.4+cuda13.0\nrig:1:1 [0] NCCL INFO Bootstrap\n"
      "rig:1:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via SHM/direct/direct\n"
      "rig:1:9 [1] NCCL WARN Call to connect failed\nrig:2:9 [1] NCCL WARN Call to connect failed");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "NCCL WARN Call to connect failed");
  EXPECT_NE(lines[2].find("via SHM"), std::string::npos);
}

TEST(DoctorJudge, VersionsOfNccl) {
  EXPECT_EQ(nccl_version("21805"), "2.18.5");
  EXPECT_EQ(nccl_version("2804"), "2.8.4");
  EXPECT_EQ(nccl_version("23004"), "2.30.4");
  EXPECT_EQ(nccl_version("2.30.4"), "2.30.4");
  EXPECT_EQ(nccl_version(""), "");
}

TEST(DoctorJudge, SecretsAreLeftOut) {
  std::vector<Check> checks;
  Judge judge(checks);
  const std::string token = "hf_abcdefghij0123456789";
  judge.fail("torch-import-fails", "Not " + token + ".", words("401 for " + token));
  judge.not_judged("torch-import-fails", "why " + token);
  EXPECT_EQ(checks[0].finding.claim, "Not ***.");
  EXPECT_EQ(checks[0].finding.evidence[0].what, "401 for ***");
  EXPECT_EQ(checks[1].why, "why ***");
}

// A path with a blank or a quote in it is one word of the command to paste.
TEST(DoctorJudge, CommandsByHandAreQuoted) {
  std::vector<Check> checks;
  Judge judge(checks);
  judge.fail("storage-short", "claim", words("it"), {{"path", "/data/it's mine"}});
  EXPECT_EQ(checks[0].by_hand, "df -h '/data/it'\\''s mine'");
  judge.fail("torchrun-fails", "claim", words("it"), {{"command", "torchrun 'a b'"}});
  EXPECT_EQ(checks[1].by_hand, "torchrun 'a b'");
}

}  // namespace
}  // namespace rigwise::doctor
