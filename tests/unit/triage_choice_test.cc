// Which line is the cause, and whose it is. Logs written by hand after the forms of real ones.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "rigwise/triage.h"
#include "triage/clues.h"
#include "triage/lines.h"

namespace rigwise {
namespace {

Failure of(const std::string& log, const std::string& file = "train.log") {
  return triage({{{file}, log}}, Signatures::built_in());
}

void walk(const std::string& text, const std::function<void(const triage_parts::LogLine&)>& take) {
  triage_parts::Lines lines(take);
  lines.begin({"f"});
  lines.push(text, {});
  lines.end();
}

const std::string kSteps = "[rank0] step 10 loss 0.71\n[rank1] step 10 loss 0.73\n";
const std::string kPeerGone =
    "[rank0]: Traceback (most recent call last):\n"
    "[rank0]:   File \"/home/u/train.py\", line 16, in main\n"
    "[rank0]: RuntimeError: [../third_party/gloo/pair.cc:598] Connection closed by peer "
    "[192.0.2.10]:33956\n";

TEST(Triage, TheTableIsWhole) {
  const auto& rows = Signatures::built_in().all();
  EXPECT_GT(rows.size(), 150u);
  std::set<std::string> ids;
  for (const Signature& row : rows) {
    EXPECT_TRUE(ids.insert(row.id).second) << row.id;
    EXPECT_FALSE(row.source.empty()) << row.id;
    // a line that is the pattern itself bears some signature
    std::string line = row.pattern;
    for (const char* number : {"{rank}", "{self}", "{pid}"}) {
      for (std::size_t at; (at = line.find(number)) != std::string::npos;)
        line.replace(at, std::string(number).size(), "7");
    }
    EXPECT_TRUE(Signatures::built_in().match(line, row.within)) << row.id;
  }
}

TEST(Triage, APeersClosedConnectionIsNotTheCause) {
  const Failure failure = of(kSteps + kPeerGone +
                             "[rank1]: Traceback (most recent call last):\n"
                             "[rank1]:   File \"/home/u/train.py\", line 14, in main\n"
                             "[rank1]: OSError: [Errno 28] No space left on device\n");
  EXPECT_EQ(failure.layer, FailureLayer::storage_space);
  EXPECT_EQ(failure.rank, 1);
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->line, 8);
  EXPECT_EQ(failure.first_meaningful->text, "[rank1]: OSError: [Errno 28] No space left on device");
  ASSERT_EQ(failure.consequences.size(), 1u);
  EXPECT_EQ(failure.consequences[0].ranks, std::vector{0});
}

TEST(Triage, TheLaunchersTableIsReadForProcessIdsAndNotForTheRank) {
  const Failure failure = of(
      kSteps + kPeerGone +
      "ERROR:torch.distributed.elastic.multiprocessing.api:failed (exitcode: -9) local_rank: 1 "
      "(pid: 4243) of binary: /usr/bin/python3\n"
      "Root Cause (first observed failure):\n[0]:\n  rank      : 0 (local_rank: 0)\n"
      "  exitcode  : 1 (pid: 4242)\n"
      "===== dmesg =====\n"
      "[ 3406.593648] Memory cgroup out of memory: Killed process 4243 (python3) total-vm:1kB\n");
  EXPECT_EQ(failure.layer, FailureLayer::host_oom);
  EXPECT_EQ(failure.rank, 1);
  EXPECT_GT(failure.confidence, 0.9);
}

TEST(Triage, WhatTheTrainingSurvivedIsNoFailure) {
  const std::string retried =
      "[rank0] ConnectionRefusedError: [Errno 111] Connection refused\n"
      "[rank0] step 11 loss 0.7\n[rank1] step 11 loss 0.7\n";
  EXPECT_EQ(of(kSteps + retried).layer, FailureLayer::none);
  EXPECT_EQ(of(kSteps + "CUDA out of memory\n" + kSteps + "training finished\n").layer,
            FailureLayer::none);
}

TEST(Triage, AStopOnPurposeIsNoFailure) {
  const Failure failure = of(
      kSteps +
      "WARNING:torch.distributed.elastic.agent.server.api:Received 2 death signal, shutting down "
      "workers\nTraceback (most recent call last):\nKeyboardInterrupt\n" +
      kPeerGone);
  EXPECT_EQ(failure.layer, FailureLayer::none);
  EXPECT_NE(failure.why.find("on purpose"), std::string::npos);
}

TEST(Triage, ALossThatIsNoNumberCountsWhereNoneFollows) {
  EXPECT_EQ(of("step 1 loss 0.5\nstep 2 loss nan\nstep 3 loss nan\n").layer,
            FailureLayer::numerics);
  EXPECT_EQ(of("step 1 loss 0.5\nstep 2 loss nan\nstep 3 loss 0.4\n").layer, FailureLayer::none);
  const Failure failure = of("step 1 loss 0.5\n{'loss': nan, 'epoch': 0.1}\nloss=inf\n");
  EXPECT_EQ(failure.first_meaningful->line, 2);
}

TEST(Triage, AnExceptionOfNoRowIsJudgedByItsTypeAndFrames) {
  const std::string head = "Traceback (most recent call last):\n";
  const std::string own = "  File \"/home/u/train.py\", line 3, in <module>\n";
  EXPECT_EQ(of(head + own + "KeyError: 'mixed'\n").layer, FailureLayer::user_code);
  EXPECT_EQ(of(head + own + "ValueError: rank of LoRA must be positive\n").layer,
            FailureLayer::user_config);
  EXPECT_EQ(of(head + own +
               "  File \"/x/site-packages/torch/utils/data/_utils/fetch.py\", line 5, in fetch\n"
               "KeyError: 'text'\n")
                .layer,
            FailureLayer::data_pipeline);
  EXPECT_EQ(
      of(head + "  File \"/x/site-packages/torch/foo.py\", line 5, in go\nKeyError: 'x'\n").layer,
      FailureLayer::framework_env);
}

TEST(Triage, SourceThatATracebackQuotesWasNotSaid) {
  const Failure failure =
      of("Traceback (most recent call last):\n  File \"/home/u/t.py\", line 3, in f\n"
         "    raise RuntimeError(\"CUDA out of memory\")\nRuntimeError: CUDA out of memory\n");
  EXPECT_EQ(failure.first_meaningful->line, 4);
}

TEST(Triage, SeveralRanksThatSayTheSameFailedTogether) {
  EXPECT_FALSE(of("[rank0]: ImportError: x: undefined symbol: _Z1\n"
                  "[rank1]: ImportError: x: undefined symbol: _Z1\n")
                   .rank);
  EXPECT_EQ(of("[rank1]: ImportError: x: undefined symbol: _Z1\n").rank, 1);
}

TEST(Triage, TheRankThatIsLeftIsTheOneThatOthersWaitFor) {
  const Failure failure =
      of("[rank0] evaluating\n[rank1] step 1\n"
         "[rank1]: [E ProcessGroupNCCL.cpp:1] [Rank 1] Watchdog caught collective operation "
         "timeout: WorkNCCL(SeqNum=1)\n");
  EXPECT_EQ(failure.layer, FailureLayer::collective_timeout);
  EXPECT_EQ(failure.rank, 0);
}

TEST(Triage, FilesOfRanks) {
  using triage_parts::rank_of_file;
  EXPECT_EQ(rank_of_file("logs/rank3.log"), 3);
  EXPECT_EQ(rank_of_file("rank_12.err"), 12);
  EXPECT_EQ(rank_of_file("out/none_x/attempt_0/3/stderr.log"), 3);
  EXPECT_FALSE(rank_of_file("out/3/stderr.log"));
  EXPECT_FALSE(rank_of_file("train.log"));
  const Failure failure =
      triage({{{"rank0.log"}, "RuntimeError: x Connection closed by peer [1]:2\n"},
              {{"rank1.log"}, "OSError: [Errno 28] No space left on device\n"}},
             Signatures::built_in());
  EXPECT_EQ(failure.rank, 1);
  EXPECT_EQ(failure.first_meaningful->file, "rank1.log");
}

struct Prefix {
  const char* text;
  std::optional<int> rank;
  const char* host;
};

TEST(Triage, Prefixes) {
  for (const Prefix& prefix :
       std::initializer_list<Prefix>{{"[rank3]: ", 3, ""},
                                     {"[rank3] ", 3, ""},
                                     {"[default3]:", 3, ""},
                                     {"[1,3]<stderr>:", 3, ""},
                                     {"3: ", 3, ""},
                                     {"rank 3: ", 3, ""},
                                     {"2026-11-23 01:43:44 [rank3] ", 3, ""},
                                     {"[rank3]: 2026-11-23T01:43:44.123Z ", 3, ""},
                                     {"host-a: ", {}, "host-a"},
                                     {"host-a: [rank3]: ", 3, "host-a"},
                                     {"[pod/job-worker-2/pytorch] ", {}, "job-worker-2"},
                                     {"[ 3406.593648] ", {}, ""},
                                     {"\x1b[31m[rank3]: \x1b[0m", 3, ""},
                                     {" 50%|#####     | 1/2 [00:01<00:01]\r[rank3]: ", 3, ""}}) {
    int lines = 0;
    const std::string text = std::string(prefix.text) + "KeyError: 'x'";
    walk(text, [&](const triage_parts::LogLine& line) {
      ++lines;
      EXPECT_EQ(line.message, "KeyError: 'x'") << prefix.text;
      EXPECT_EQ(line.rank, prefix.rank) << prefix.text;
      EXPECT_EQ(line.host, prefix.host) << prefix.text;
    });
    EXPECT_EQ(lines, 1);
  }
  for (const char* whole : {"ERROR: no", "train.py: error: x", "KeyError: 'x'", "srun: error: x"}) {
    walk(whole, [&](const triage_parts::LogLine& line) { EXPECT_EQ(line.message, whole); });
  }
}

TEST(Triage, StampsWithoutAYearTakeThatOfTheOthers) {
  std::vector<double> times;
  walk(
      "[rank1]:[E617 09:00:00.100000000 socket.cpp:752] no year is known yet\n"
      "2025-06-17 09:27:00,000 INFO trainer: step 1\n"
      "[rank1]:[E617 09:27:44.500000000 socket.cpp:752] three digits\n"
      "W0617 09:27:45.250000 8810 torch/distributed/run.py:774] four\n"
      "[W999 09:27:45.250000000 no month] none\n",
      [&](const triage_parts::LogLine& line) { times.push_back(line.unix_s.value_or(0)); });
  ASSERT_EQ(times.size(), 5U);
  EXPECT_EQ(times[0], 0);
  EXPECT_NEAR(times[2] - times[1], 44.5, 1e-3);
  EXPECT_NEAR(times[3] - times[1], 45.25, 1e-3);
  EXPECT_EQ(times[4], times[3]);
}

TEST(Triage, PatternsTakeNumbers) {
  const auto& table = Signatures::built_in();
  const auto kill = table.match("[1.2] Out of memory: Killed process 812 (python3)");
  ASSERT_TRUE(kill);
  EXPECT_EQ(kill->pid, 812);
  EXPECT_FALSE(table.match("Out of memory: Killed process (python3)"));
  const auto rank = table.match("[Rank 0]: Rank 2 failed to pass monitoredBarrier in 8000 ms");
  ASSERT_TRUE(rank);
  EXPECT_EQ(rank->rank, 2);
}

TEST(Triage, TablesOfOnesOwnGoFirstAndAreChecked) {
  const std::string head = "id,role,layer,pattern,within,advice,confirms,source\n";
  const auto own =
      Signatures::parse(head + "mine,root,user_config,\"No space left on device\",,do this,,me\n",
                        &Signatures::built_in());
  ASSERT_TRUE(own.ok());
  const Failure failure = triage({{{"f"}, "OSError: [Errno 28] No space left on device\n"}}, *own);
  EXPECT_EQ(failure.signature, "mine");
  EXPECT_EQ(failure.advice, "do this");
  for (const char* bad :
       {"a,root,user_code\n", "a,boss,user_code,abcdef,,,,\n", "a,root,nowhere,abcdef,,,,\n",
        "a,root,user_code,abc,,,,\n", "a,root,user_code,{rank}abcdef,,,,\n", "a,root\n\"b"}) {
    const auto parsed = Signatures::parse(head + bad);
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_EQ(parsed.error().message.substr(0, 7), "line 2:") << parsed.error().message;
  }
}

TEST(Triage, CutAtEveryByteItNeverFails) {
  const std::string log =
      kSteps + kPeerGone + "[rank1]: OSError: [Errno 28] No space left\n" +
      "Root Cause (first observed failure):\n  rank : 0\n  exitcode : -9 (pid: 7)";
  for (std::size_t end = 0; end <= log.size(); ++end) {
    const Failure failure = of(log.substr(0, end));
    if (failure.first_meaningful) {
      EXPECT_GE(failure.first_meaningful->line, 1);
    }
  }
}

TEST(Triage, HostileBytesAreText) {
  std::string bytes;
  for (int i = 0; i < 100000; ++i) bytes += static_cast<char>((i * 7919) >> 3);
  of(bytes);
  EXPECT_EQ(of("").layer, FailureLayer::none);
  EXPECT_EQ(of(std::string(5000000, '[')).layer, FailureLayer::none);
  const Failure failure = of("OSError: [Errno 28] No space left on device \x1b[31m<script>\xff\n");
  EXPECT_EQ(failure.layer, FailureLayer::storage_space);
  EXPECT_EQ(failure.first_meaningful->text.find('\x1b'), std::string::npos);
}

// Lines that launchers, shells and the C++ runtime write, and what they are worth.

const std::string kTraceback =
    "Traceback (most recent call last):\n  File \"/home/u/train.py\", line 3, in work\n";

TEST(TriageEnding, AnExitCodeCountsOnlyOfAProcessThatSaidNothing) {
  const std::string closing =
      "E1129 07:57:57.1 169 api.py:1002] failed (exitcode: 3) local_rank: 1 (pid: 44) of binary: "
      "python\n";
  const Failure silent = of(kSteps + kPeerGone + closing);
  EXPECT_EQ(silent.layer, FailureLayer::user_code);
  ASSERT_TRUE(silent.first_meaningful);
  EXPECT_NE(silent.first_meaningful->text.find("exitcode: 3"), std::string::npos);
  EXPECT_EQ(silent.rank, 1);
  const Failure told = of(kSteps + "[rank1]: " + "OSError: [Errno 28] No space left on device\n" +
                          kPeerGone + closing);
  EXPECT_EQ(told.layer, FailureLayer::storage_space);
  EXPECT_EQ(of("all workers are done, exit code 0\n").failed, false);
}

TEST(TriageEnding, ASignalHasTheLayerOfItsRow) {
  for (const auto& [line, layer] :
       {std::pair{"[launch.py:434] exits with return code = -9\n", FailureLayer::host_oom},
        {"Exit Code:    139\n", FailureLayer::user_code},
        {"Bus error (core dumped)\n", FailureLayer::storage_space}}) {
    EXPECT_EQ(of(line).layer, layer) << line;
  }
}

TEST(TriageChoice, PeersLastStepsDoNotSayThatARankWentOn) {
  std::string log = "step 1 | loss 0.9\nstep 1 | loss 0.9\nstep 2 | loss 0.8\n" + kTraceback +
                    "ZeroDivisionError: division by zero\nstep 2 | loss 0.8\n";
  EXPECT_EQ(of(log).layer, FailureLayer::none);  // nobody says that it ended badly
  log +=
      "ERROR:torch.distributed.elastic.multiprocessing.api:failed (exitcode: 1) local_rank: 0 "
      "(pid: 7) of binary: python\n";
  const Failure failure = of(log);
  EXPECT_EQ(failure.layer, FailureLayer::user_code);
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->text, "ZeroDivisionError: division by zero");
}

TEST(TriageChoice, WhatWasKeptInABufferComesBehindTheError) {
  std::string steps;
  for (int step = 0; step < 50; ++step) steps += "step " + std::to_string(step) + " loss 0.5\n";
  const Failure failure =
      of(kTraceback + "NameError: name 'opt' is not defined\n" + steps + "exit status 1\n");
  EXPECT_EQ(failure.layer, FailureLayer::user_code);
  EXPECT_LT(failure.confidence, 0.55);
}

TEST(TriageChoice, AMessageMayGoOnBelowItsException) {
  const Failure failure = of(kTraceback +
                             "RuntimeError: \n        CUDA Setup failed despite GPU being "
                             "available. Please run the following command\n");
  EXPECT_EQ(failure.layer, FailureLayer::framework_env);
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->line, 4);
}

TEST(TriageChoice, AnExceptionOfAnyNameWhereATracebackEnds) {
  EXPECT_EQ(of(kTraceback + "queue.Empty\n").layer, FailureLayer::user_code);
  EXPECT_TRUE(of(kTraceback + "BrokenProcessPool: a process was terminated\n").failed);
  EXPECT_FALSE(of("Epoch: 3\nSummary: fine\n").failed);
}

TEST(TriageChoice, AComplaintCountsAtTheEndOfALogInWhichNothingRan) {
  const Failure failure = of("Usage: train.py [OPTIONS]\n\nError: No such option '--bach'.\n");
  EXPECT_EQ(failure.layer, FailureLayer::user_config);
  EXPECT_EQ(of(kSteps + kSteps + "wandb: ERROR error: could not upload\n").layer,
            FailureLayer::none);
  std::string more = "error: optional part not found\n";
  for (int i = 0; i < 20; ++i) more += "loading shard\n";
  EXPECT_EQ(of(more).layer, FailureLayer::none);
}

TEST(TriageChoice, AKillOfAnotherProcessIsNotOurs) {
  const std::string log =
      kSteps + kPeerGone + "failed (exitcode: 1) local_rank: 0 (pid: 44) of binary: python\n";
  const Failure failure = triage(
      {{{"train.log"}, log},
       {{"dmesg.txt"}, "[ 4333.9] Out of memory: Killed process 991 (chrome) total-vm:3kB\n"}},
      Signatures::built_in());
  EXPECT_NE(failure.layer, FailureLayer::host_oom);
}

TEST(TriageChoice, WhatPythonIgnoresIsNoFailure) {
  EXPECT_EQ(of("Exception ignored in: <function Pipe.__del__ at 0x7f>\n" + kTraceback +
               "OSError: [Errno 9] Bad file descriptor\n")
                .layer,
            FailureLayer::none);
}

TEST(TriageChoice, WhoWaitedInVainGivesWayToWhoKnowsWhy) {
  const Failure failure =
      triage({{{"rank0.log"}, kTraceback + "TimeoutError: timed out\n"},
              {{"rank1.log"}, kTraceback + "OSError: [Errno 101] Network is unreachable\n"}},
             Signatures::built_in());
  EXPECT_EQ(failure.layer, FailureLayer::rendezvous_network);
  EXPECT_EQ(failure.rank, 1);
}

TEST(TriageChoice, WhatIsToldToEndDidNotEndBadly) {
  EXPECT_EQ(
      of(kSteps + "slurmstepd: error: *** STEP 13.0 ON vm CANCELLED AT 2026-11-29T08:36:04 ***\n"
                  "srun: error: vm: task 0: Terminated\n")
          .layer,
      FailureLayer::none);
}

TEST(TriageChoice, TabsAreBlanks) {
  EXPECT_EQ(of("--- evidence\n\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+\n").layer,
            FailureLayer::topology_p2p);
}

}  // namespace
}  // namespace rigwise
