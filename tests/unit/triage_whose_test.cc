// Whose failure it is, and what a run survived: facts that stand in other lines than the cause.
// Logs written by hand after the forms of real ones.
#include <gtest/gtest.h>

#include "rigwise/triage.h"
#include "triage/lines.h"

namespace rigwise {
namespace {

Failure of(const std::string& log) {
  return triage({{{"train.log"}, log}}, Signatures::built_in());
}

const std::string kKey =
    "Traceback (most recent call last):\n  File \"/home/u/train.py\", line 9, in <module>\n"
    "KeyError: 'mixed'\n";
const std::string kPeer =
    "Traceback (most recent call last):\n  File \"/home/u/train.py\", line 11, in <module>\n"
    "RuntimeError: [../gloo/pair.cc:598] Connection closed by peer [192.0.2.10]:4980\n";

std::string table(const std::string& entries) {
  return "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
         "Failures:\n" +
         entries;
}

std::string entry(int rank, int code, int pid) {
  return "[" + std::to_string(rank) + "]:\n  rank      : " + std::to_string(rank) +
         " (local_rank: " + std::to_string(rank) + ")\n  exitcode  : " + std::to_string(code) +
         " (pid: " + std::to_string(pid) + ")\n";
}

TEST(TriageWhose, TheOnlyProcessThatEndedByItself) {
  EXPECT_EQ(of(kKey + "Sending process 70 closing signal SIGTERM\n" + table(entry(1, 1, 71))).rank,
            1);
  EXPECT_FALSE(of(kKey + kPeer + table(entry(1, 1, 71) + entry(0, 1, 70))).rank);
  EXPECT_EQ(of(kKey + "srun: error: host-b: task 3: Exited with exit code 1\n").rank, 3);
  EXPECT_FALSE(of(kKey + "srun: error: host-b: tasks 0-3: Exited with exit code 1\n").rank);
  EXPECT_FALSE(of(kKey + "srun: error: host-b: tasks 1,3: Exited with exit code 1\n").rank);
}

TEST(TriageWhose, TheFirstThatALauncherNamesIsNotTheOnlyOne) {
  const std::string first =
      "ERROR:torch.distributed.elastic.multiprocessing.api:failed (exitcode: 1) local_rank: 0 "
      "(pid: 70) of binary: python3\n";
  EXPECT_FALSE(of(kKey + kPeer + first).rank) << "the list of all that ended is cut off";
  EXPECT_EQ(of(kKey + "Sending process 71 closing signal SIGTERM\n" + first).rank, 0);
}

TEST(TriageWhose, PodsStandForRanksWhereNoLineNamesOne) {
  const std::string pods =
      "[pod/job-worker-0/main] step 1 loss 0.5\n[pod/job-worker-1/main] step 1 loss 0.5\n";
  EXPECT_EQ(of(pods + "[pod/job-worker-1/main] OSError: [Errno 28] No space left on device\n").rank,
            1);
  EXPECT_EQ(
      of(pods + "[pod/job-worker-1/main] [rank3]: OSError: [Errno 28] No space left on device\n")
          .rank,
      3);
}

TEST(TriageWhose, MachinesWithNumbersAreNoRanks) {
  const std::string lines =
      "ps-8:795:795 [0] NCCL INFO Bootstrap : Using eth0:192.0.2.8<0>\n"
      "ps-9:811:811 [0] NCCL INFO Bootstrap : Using eth0:192.0.2.9<0>\n"
      "ps-8:795:822 [0] NCCL WARN Net : Connect to 192.0.2.9<54263> failed : No route to host\n";
  EXPECT_FALSE(of(lines).rank);
}

TEST(TriageWhose, TheFirstOfSomeButNotOfAll) {
  const std::string oom = ": torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB\n";
  const std::string two = "[rank3]" + oom + "[rank6]" + oom;
  EXPECT_FALSE(of(two).rank) << "all that spoke";
  EXPECT_EQ(of("[rank0]: step 1 loss 2.0\n" + two).rank, 3);
}

TEST(TriageWhose, TheGpuOfAnAllocation) {
  const auto oom = [](int gpu) {
    return "RuntimeError: CUDA out of memory. Tried to allocate 1.86 GiB (GPU " +
           std::to_string(gpu) + "; 14.76 GiB total capacity)\n";
  };
  const std::string killed = "[INFO] [launch.py:315:sigkill_handler] Killing subprocess 14990\n";
  EXPECT_EQ(of(oom(1) + killed).rank, 1);
  EXPECT_FALSE(of(oom(0) + killed).rank) << "each rank may see its own card only";
  EXPECT_FALSE(of(oom(1)).rank) << "one program may use several cards";
}

TEST(TriageWhose, TheOnlyProcessThatASignalEnded) {
  const Failure failure =
      of("RuntimeError: [enforce fail at inline_container.cc:325] . PytorchStreamWriter failed "
         "writing file data/9: file write failed\nterminate called after throwing\n" +
         kPeer + table(entry(1, 1, 71) + entry(0, -6, 70)));
  EXPECT_EQ(failure.layer, FailureLayer::storage_space);
  EXPECT_EQ(failure.rank, 0);
}

TEST(TriageWhose, TheOnlyRankThatSpeaksInThatSection) {
  const Failure failure = of("===== host-a =====\n[rank0] init ok\n" + kPeer +
                             "===== host-b =====\n[rank1] init ok\n" + kKey);
  EXPECT_EQ(failure.rank, 1);
  EXPECT_EQ(failure.host, "host-b");
  EXPECT_FALSE(of("[rank0] step 1\n" + kKey).rank) << "others may be silent";
}

TEST(TriageWhose, TheRankThatStillMadeDataReady) {
  const Failure failure =
      of("Running tokenizer on dataset:  72%|###   | 21380/29695 [29:58<11:37]\n"
         "[E ProcessGroupNCCL.cpp:474] [Rank 1] Watchdog caught collective operation timeout: "
         "WorkNCCL(SeqNum=1)\n");
  EXPECT_EQ(failure.layer, FailureLayer::collective_timeout);
  EXPECT_EQ(failure.rank, 0);
}

TEST(TriageWhose, NcclsOwnTagNamesTheRank) {
  const Failure failure =
      of("worker-1:946:988 [0] NCCL INFO comm 0x7f5c rank 1 nranks 2 cudaDev 0 - Init COMPLETE\n"
         "worker-1:946:991 [0] net_ib.cc:839 NCCL WARN NET/IB : Got completion with error 12\n");
  EXPECT_EQ(failure.rank, 1);
}

TEST(TriageWhose, FilesThatOneNumberTellsApart) {
  using Ranks = std::vector<std::optional<int>>;
  EXPECT_EQ(triage_parts::ranks_of_files({"out.0.txt", "out.1.txt"}), (Ranks{0, 1}));
  EXPECT_EQ(triage_parts::ranks_of_files({"job7/w1.log", "job7/w2.log"}), (Ranks{0, 1}));
  EXPECT_EQ(triage_parts::ranks_of_files({"host-0.log", "host-1.log"}), (Ranks{{}, {}}));
  EXPECT_EQ(triage_parts::ranks_of_files({"a-2023.log", "a-2024.log"}), (Ranks{{}, {}}));
  EXPECT_EQ(triage_parts::ranks_of_files({"train.log"}), (Ranks{{}}));
}

TEST(TriageSurvived, ProgressWithoutALossIsOneFormWithAGreaterStep) {
  const std::string error = "ConnectionRefusedError: [Errno 111] Connection refused\n";
  EXPECT_EQ(of("step 1 done\n" + error + "step 2 done\n").layer, FailureLayer::none);
  EXPECT_NE(of("step 1 done\n" + error + "the last step was 1\n").layer, FailureLayer::none);
}

TEST(TriageSurvived, ALaterAttemptThatTrains) {
  const std::string first = "rank 0 step 1 loss 0.5\n" + kKey;
  const auto attempts = [&](const std::string& second) {
    return triage({{{"attempt_0/0/stderr.log"}, first}, {{"attempt_1/0/stderr.log"}, second}},
                  Signatures::built_in());
  };
  EXPECT_EQ(attempts("rank 0 step 2 loss 0.4\n").layer, FailureLayer::none);
  EXPECT_EQ(attempts(kKey).layer, FailureLayer::user_code);
}

TEST(TriageSurvived, OneRanksEndIsNotAnothers) {
  EXPECT_EQ(of("[rank1]: OSError: [Errno 28] No space left on device\n"
               "[rank0]: training finished\n")
                .layer,
            FailureLayer::storage_space);
  EXPECT_EQ(of("[rank1]: OSError: [Errno 28] No space left on device\n"
               "[rank1]: training finished\n")
                .layer,
            FailureLayer::none);
}

TEST(TriageSurvived, AStopInOneSectionIsNoStopInAnother) {
  const std::string stop =
      "WARNING:torch.distributed.elastic.agent.server.api:Received 15 death signal, shutting down "
      "workers\n";
  const Failure failure = of("===== host-a =====\n" + stop + "===== host-b =====\n" + kKey);
  EXPECT_EQ(failure.layer, FailureLayer::user_code);
  EXPECT_EQ(of(stop + kKey).layer, FailureLayer::none);
}

TEST(TriageSurvived, AnExceptionThatWasLoggedWasHandled) {
  const std::string logged = "Failed to load a kernel: No module named 'kernels'. Falling back.\n";
  EXPECT_EQ(of(logged + "step 1 loss 0.5\n").layer, FailureLayer::none);
  EXPECT_EQ(of(logged).layer, FailureLayer::none);
  EXPECT_EQ(of(logged + kKey).layer, FailureLayer::user_code);
  EXPECT_EQ(of("ModuleNotFoundError: No module named 'kernels'\n").layer,
            FailureLayer::framework_env);
}

TEST(TriageSurvived, AnExceptionThatEndsAProcessCountsBeforeWhatItToldOnTheWay) {
  const Failure failure =
      of("[W socket.cpp:464] [c10d] The client socket has failed to connect to [host-a]:29500\n"
         "Traceback (most recent call last):\n  File \"/home/u/train.py\", line 9, in <module>\n"
         "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n");
  EXPECT_EQ(failure.layer, FailureLayer::gpu_oom);
}

TEST(TriageSurvived, ARecordOfTheGpuExplainsWhatItsUserSaw) {
  const Failure failure =
      of("RuntimeError: CUDA error: unspecified launch failure\n--- dmesg\n"
         "[ 12.345678] NVRM: Xid (PCI:0000:41:00): 79, pid=7, GPU has fallen off the bus.\n");
  EXPECT_EQ(failure.layer, FailureLayer::hardware_fault);
}

TEST(TriageSurvived, AProgramsOwnWordOfEccStandsWithoutARecord) {
  const std::string ecc = "RuntimeError: CUDA error: uncorrectable ECC error encountered\n";
  const Failure alone = of(ecc + "srun: error: gpu713: tasks 1-3: Killed\n");
  EXPECT_EQ(alone.layer, FailureLayer::hardware_fault);
  EXPECT_EQ(alone.first_meaningful->line, 1);
  const Failure both = of(ecc + "===== dmesg =====\nNVRM: Xid (PCI:0000:17:00): 48, pid=7\n");
  EXPECT_EQ(both.layer, FailureLayer::hardware_fault);
}

TEST(TriageSurvived, AStoreThatIsGoneAfterTheRanksAre) {
  const Failure failure =
      of("[rank2]: RuntimeError: [gloo/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv "
         "operation to complete\n"
         "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to "
         "the C10d store has failed. See inner exception for details.\n");
  EXPECT_EQ(failure.layer, FailureLayer::collective_timeout);
}

TEST(TriageSurvived, TorchtunesLossIsProgress) {
  const Failure failure =
      of("host:1:9 [0] NCCL INFO Channel 00/0 : 3[3] -> 0[0] via P2P/CUMEM/read\n"
         "1|4|Loss: 1.3988:   0%|          | 4/2261 [00:44<6:53:47, 11.04s/it]\n"
         "1|7|Loss: 1.3979:   0%|          | 7/2261 [01:17<6:53:14, 11.07s/it]\n"
         "1|8|Loss: 1.3970:   0%|          | 8/2261 [01:27<6:53:14, 11.07s/it]\n"
         "[rank0]:[E227 23:07:54 ProcessGroupNCCL.cpp:629] [Rank 0] Watchdog caught collective "
         "operation timeout: WorkNCCL(SeqNum=6, OpType=ALLREDUCE) ran for 1800000 ms\n");
  EXPECT_EQ(failure.layer, FailureLayer::collective_timeout);
}

TEST(TriageBounds, WhatIsSaidAgainAndAgainHidesNothing) {
  std::string log;
  for (int i = 0; i < 50000; ++i)
    log += "[rank0]: W Connection reset by peer, trying again\nstep " + std::to_string(i) + "\n";
  const Failure failure = of(log + kKey);
  EXPECT_EQ(failure.layer, FailureLayer::user_code);
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->line, 100003);
}

TEST(TriageBounds, PiecesOfAnySizeGiveTheSame) {
  const std::string log = "\x1b[31m[rank0]: step 1 loss 0.5\x1b[0m\r\n 5%|#  |\r10%|## |\n" + kKey +
                          kPeer + table(entry(1, -9, 71)) + "no end of line";
  const auto read = [&](std::size_t piece) {
    Triage triage(Signatures::built_in());
    triage.begin({"train.log"});
    for (std::size_t at = 0; at < log.size(); at += piece) triage.push(log.substr(at, piece));
    return triage.finish();
  };
  const Failure whole = read(log.size());
  ASSERT_TRUE(whole.first_meaningful);
  for (std::size_t piece = 1; piece < 40; ++piece) {
    const Failure part = read(piece);
    ASSERT_TRUE(part.first_meaningful);
    EXPECT_EQ(part.first_meaningful->line, whole.first_meaningful->line) << piece;
    EXPECT_EQ(part.first_meaningful->text, whole.first_meaningful->text) << piece;
    EXPECT_EQ(part.rank, whole.rank) << piece;
  }
}

TEST(TriageWhose, RanksAndActorsOfLoggers) {
  EXPECT_EQ(of("[2024-01-18 15:46:58,587] [ERROR] [axolotl.load_model:544] [PID:29] [RANK:1] "
               "OSError: [Errno 28] No space left on device\n")
                .rank,
            1);
  const Failure failure =
      of("(Actor pid=9672) Traceback (most recent call last):\n"
         "(Actor pid=9672)   File \"/w/base.py\", line 257, in load_checkpoint\n"
         "(Actor pid=9672)   File "
         "\"/v/lib/python3.11/site-packages/torch/distributed/checkpoint/a.py\""
         ", line 1, in load\n"
         "(Actor pid=9672, ip=10.0.0.2) ValueError: Size mismatch between saved and current\n");
  EXPECT_EQ(failure.layer, FailureLayer::checkpoint);
}

TEST(TriageWhose, OpenMpiTagsEveryPieceOfALine) {
  const Failure failure =
      of("[1,2]<stderr>:Traceback (most recent call last):\n"
         "[1,2]<stderr>:  File \"/tmp/train.py\", line 6, in <module>\n"
         "[1,2]<stderr>:    [1,2]<stderr>:f()[1,2]<stderr>:\n"
         "[1,2]<stderr>:UnboundLocalError[1,2]<stderr>:: [1,2]<stderr>:cannot access 'x'\n");
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->text, "[1,2]<stderr>:UnboundLocalError: cannot access 'x'");
  EXPECT_EQ(failure.rank, 2);
}

TEST(TriageWhose, OpenMpiNamesTheFirstThatEnded) {
  EXPECT_EQ(of("Traceback (most recent call last):\n  File \"/tmp/train.py\", line 4, in <module>\n"
               "IndexError: list index out of range\n"
               "mpirun detected that one or more processes exited with non-zero status\n"
               "  Process name: [[23129,1],1]\n  Exit code:    1\n")
                .rank,
            1);
  EXPECT_EQ(of("mpirun noticed that process rank 2 with PID 0 on node vm exited on signal 9 "
               "(Killed).\n")
                .rank,
            2);
}

TEST(TriageWhose, AParentPrintsWhatItsChildRaised) {
  const Failure failure =
      of("torch.multiprocessing.spawn.ProcessRaisedException: \n\n"
         "-- Process 1 terminated with the following error:\n"
         "Traceback (most recent call last):\n  File \"/tmp/train.py\", line 3, in work\n"
         "ZeroDivisionError: division by zero\n");
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->text, "ZeroDivisionError: division by zero");
  EXPECT_EQ(failure.rank, 1);
}

}  // namespace
}  // namespace rigwise
