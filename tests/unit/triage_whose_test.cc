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

/// A watchdog's two lines of one rank.
std::string timed_out(int rank, int work, int elements, int enqueued) {
  const std::string tag = "[rank" + std::to_string(rank) + "]:[E901 05:20:03.12 P.cpp:632] ";
  return tag + "[Rank " + std::to_string(rank) +
         "] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=" + std::to_string(work) +
         ", OpType=ALLREDUCE, NumelIn=" + std::to_string(elements) +
         ", NumelOut=" + std::to_string(elements) + ", Timeout(ms)=600000) ran for 600020 ms\n" +
         tag + "[PG ID 0 PG GUID 0(default_pg) Rank " + std::to_string(rank) +
         "]  failure detected by watchdog at work sequence id: " + std::to_string(work) +
         " PG status: last enqueued work: " + std::to_string(enqueued) +
         ", last completed work: " + std::to_string(work - 1) + "\n";
}

TEST(TriageWhose, TheRankThatDidNotComeToACollective) {
  const std::string late =
      "[rank0]:[E901 05:20:03.11 P.cpp:1746] [PG ID 0 PG GUID 0(default_pg) Rank 0] Received a "
      "dump signal due to a collective timeout from  rank 2 and we will try our best to dump the "
      "debug info. Last enqueued NCCL work: 8, last completed NCCL work: 8.\n";
  EXPECT_EQ(of(timed_out(2, 9, 1, 9) + timed_out(1, 9, 1, 9) + late).rank, 0);
  // all came
  EXPECT_FALSE(of(timed_out(2, 9, 1, 9) + timed_out(1, 9, 1, 9) + timed_out(0, 9, 1, 9)).rank);
}

TEST(TriageWhose, TheRankThatCameWithAnotherSize) {
  const std::string most = timed_out(3, 9, 500, 11) + timed_out(1, 9, 500, 11);
  EXPECT_EQ(of(most + timed_out(2, 9, 100, 11)).rank, 2);
  EXPECT_FALSE(of(timed_out(1, 9, 500, 9) + timed_out(2, 9, 100, 9)).rank) << "one against one";
}

TEST(TriageWhose, TheFirstRankOfAHostMakesItsDataReady) {
  EXPECT_EQ(of("===== worker-1 =====\nProcess rank: 9, device: cuda:1\nProcess rank: 8, device: "
               "cuda:0\nRunning tokenizer on dataset:  46%| 1685000/3634744 [29:06<33:38]\n"
               "===== worker-0 =====\n" +
               timed_out(1, 2, 1, 2))
                .rank,
            8);
}

TEST(TriageWhose, WhichProcessIsWhichRank) {
  const std::string killed =
      "===== dmesg of the host =====\n[Wed Mar 19 16:33:07 2025] Out of memory: Killed process "
      "4213 (python3.11) total-vm:252080468kB, anon-rss:107551220kB\n";
  EXPECT_EQ(of("[2025-03-19 14:20:30,413] [INFO] [launch.py:256:main] process 4213 spawned with "
               "command: ['/bin/python', '-u', 'train.py', '--local_rank=2', '--lr', '1']\n" +
               killed)
                .rank,
            2);
  const std::string ray =
      "(TorchTrainer pid=43377) - (node_id=0d, ip=10.0.0.1, pid=43511) world_rank=1, "
      "local_rank=1, node_rank=0\n";
  EXPECT_EQ(
      of(ray + "(RayTrainWorker pid=43511) OSError: [Errno 28] No space left on device\n").rank, 1);
  EXPECT_EQ(of(ray + "(raylet) 1 Workers (tasks / actors) killed due to memory pressure (OOM)\n"
                     "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing "
                     "this task.\n\tclass_name: RayTrainWorker\n\tpid: 43511\n")
                .rank,
            1);
  EXPECT_EQ(of("slurmstepd: error: Detected 1 oom_kill event in StepId=9.0.\nsrun: error: gpu20: "
               "task 3: Out Of Memory\nsrun: error: gpu20: tasks 0-2: Terminated\n")
                .rank,
            3);
}

TEST(TriageWhose, TheRankOfAGpuByItsAddress) {
  const std::string first =
      "cn-2:48110:48502 [0] NCCL INFO comm 0x55d2 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 2000 "
      "commId 0x8a - Init COMPLETE\n";
  const std::string second =
      "cn-2:48111:48503 [1] NCCL INFO comm 0x55aa rank 1 nranks 2 cudaDev 1 nvmlDev 1 busId 83000 "
      "commId 0x8a - Init COMPLETE\n";
  const auto fell = [](const std::string& address) {
    return "--- evidence\n[Thu Jan  2 02:17:41 2025] NVRM: Xid (PCI:" + address +
           "): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n";
  };
  EXPECT_EQ(of(first + second + fell("0000:83:00")).rank, 1);
  EXPECT_FALSE(of(first + second + fell("0000:84:00")).rank);
  EXPECT_FALSE(of(first + second + fell("")).rank);
}

TEST(TriageWhose, TheOnlyOneWhomANamelessLineStopped) {
  const std::string asserted =
      "Indexing.cu:1308: block: [58,0,0], thread: [9,0,0] Assertion `srcIndex < srcSelectDimSize` "
      "failed.\n";
  const std::string stopped = "]: RuntimeError: CUDA error: device-side assert triggered\n";
  EXPECT_EQ(of("[rank0] step 1 loss 0.5\n" + asserted + asserted + "[rank1" + stopped).rank, 1);
  EXPECT_FALSE(of(asserted + asserted + "[rank0" + stopped + "[rank1" + stopped).rank);
}

TEST(TriageWhose, TheOnlyRankThatSpeaksOnThatHost) {
  const std::string said =
      "[node0] rank0[41102][MainThread]: INFO: Setting seed to 17\n"
      "[node1] rank1[40877][MainThread]: INFO: Loading checkpoint\n";
  EXPECT_EQ(
      of(said + "[node1] Traceback (most recent call last):\n[node1]   File \"/t.py\", line 1, "
                "in f\n[node1] KeyError: 'mixed'\n")
          .rank,
      1);
}

TEST(TriageSurvived, ABarIsDrawnOnceMore) {
  const std::string bar = "Steps:   0%|          | 5/15000 [00:03<?, ?it/s, step_loss=0.04]";
  const std::string raised =
      "Traceback (most recent call last):\nNameError: name 'x' is not defined\n";
  EXPECT_EQ(of(bar + "\n" + raised + bar + "\n").layer, FailureLayer::user_code);
  const std::string next = "Steps:   0%|          | 6/15000 [00:04<?, ?it/s, step_loss=0.03]\n";
  EXPECT_EQ(of(bar + "\n" + raised + next).layer, FailureLayer::none);
}

TEST(TriageSurvived, AnElasticRestartThatFinished) {
  const std::string killed =
      "E0830 12:19:42.206000 6110 api.py:874] failed (exitcode: -9) local_rank: 1 (pid: 6172) of "
      "binary: python\n";
  EXPECT_EQ(of(killed).layer, FailureLayer::host_oom);
  EXPECT_EQ(
      of(killed + "I0830 12:49:02.901000 6110 api.py:879] [default] worker group successfully "
                  "finished. Waiting 300 seconds for other agents to finish.\n")
          .layer,
      FailureLayer::none);
}

TEST(TriageSurvived, ADriversWarningIsTheCauseOfWhatThenMissesTheGpu) {
  const std::string warning = "torch/cuda/__init__.py:789: UserWarning: Can't initialize NVML\n";
  EXPECT_EQ(of(warning + "RuntimeError: Attempting to deserialize object on a CUDA device\n").layer,
            FailureLayer::driver);
  EXPECT_EQ(of(warning + "KeyError: 'mixed'\n").layer, FailureLayer::user_code);
  EXPECT_EQ(of(warning + "{'loss': 0.5}\n").layer, FailureLayer::none);
}

TEST(TriageSurvived, NoFigureFillsAGpu) {
  const std::string figures = "{'loss': nan, 'epoch': 0.1}\n";
  EXPECT_EQ(
      of(figures + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 72 MiB.\n").layer,
      FailureLayer::gpu_oom);
  EXPECT_EQ(of(figures + "RuntimeError: probability tensor contains either `inf`, `nan` or element "
                         "< 0\n")
                .layer,
            FailureLayer::numerics);
}

TEST(TriageSurvived, AWarningIsNoFailureWhereTheTrainingWentOn) {
  const std::string steps = "{'loss': 0.5, 'epoch': 0.1}\n{'loss': 0.4, 'epoch': 0.2}\n";
  const std::string warning =
      "trainer.py:280: RuntimeWarning: CUDA out of memory detected. Train microbatch size will be "
      "decreased from 16 -> 8.\n";
  EXPECT_EQ(of(steps + warning).layer, FailureLayer::none);
  EXPECT_EQ(of(steps + warning +
               "E0830 12:19:42.206000 6110 api.py:874] failed (exitcode: 1) "
               "local_rank: 1 (pid: 6172) of binary: python\n")
                .layer,
            FailureLayer::gpu_oom);
}

TEST(TriageSurvived, ALossThatIsNoNumberIsMoreThanAWarning) {
  EXPECT_EQ(of("WARNING:root:step 1 loss 2.1\nWARNING:root:step 2 loss nan\n").layer,
            FailureLayer::numerics);
}

TEST(TriageSurvived, AThreadThatReportsToSomebodyIsNotTheTraining) {
  const auto thread = [](const std::string& file) {
    return "Exception in thread ChkStopThr:\nTraceback (most recent call last):\n  File \"" + file +
           "\", line 151, in send\nRuntimeError: can't send\n";
  };
  EXPECT_EQ(of(thread("/env/site-packages/wandb/sdk/lib/sock_client.py")).layer,
            FailureLayer::none);
  EXPECT_NE(of(thread("/env/site-packages/torch/utils/data/_utils/pin_memory.py")).layer,
            FailureLayer::none);
}

TEST(TriageSurvived, AProgramsOwnErrorOnAGpuIsNotOnlyTheKernels) {
  const std::string steps = "step 1 loss 0.5\nstep 2 loss 0.4\n";
  const std::string record =
      "--- evidence\nNVRM: Xid (PCI:0000:cb:00): 13, pid=771520, name=python3, Graphics SM Warp "
      "Exception\n";
  EXPECT_EQ(of(steps + record).layer, FailureLayer::none) << "somebody else's";
  EXPECT_NE(
      of("RuntimeError: CUDA error: an illegal memory access was encountered\n" + record).layer,
      FailureLayer::none);
}

TEST(TriageWhose, TheRankThatTalkedWhileTheOthersWaited) {
  const std::string timeouts =
      "[rank1]: RuntimeError: [gloo/unbound_buffer.cc:78] Timed out waiting 600000ms for recv "
      "operation to complete\n[rank2]: RuntimeError: [gloo/unbound_buffer.cc:78] Timed out waiting "
      "600000ms for recv operation to complete\n";
  const std::string all = "[rank 3] waiting\n[rank 2] waiting\n[rank 1] waiting\n";
  EXPECT_EQ(
      of(all + "[rank 0] uploaded 3.9/14.8 GB\n[rank 0] uploaded 7.7/14.8 GB\n" + timeouts).rank,
      0);
  // the steps that one rank logs are everyone's
  EXPECT_FALSE(of(all + "[rank 0] step 1 loss 0.5\n[rank 0] step 2 loss 0.4\n" + timeouts).rank);
}

TEST(TriageWhose, TheOnlyOneThatWasKilledForMemory) {
  EXPECT_EQ(of("slurmstepd: error: Detected 1 oom_kill event in StepId=9.0.\nsrun: error: gpu14: "
               "task 2: Out Of Memory\n0: [rank0]: RuntimeError: NCCL error: remote process exited "
               "or there was a network error\nsrun: error: gpu14: task 0: Exited with exit code 1\n"
               "srun: error: gpu14: tasks 1,3: Terminated\n")
                .rank,
            2);
  EXPECT_EQ(
      of(kKey + "Global rank 0 (PID 310) exited with code -15\nGlobal rank 4 (PID 314) exited "
                "with code 1\n")
          .rank,
      4);
}

TEST(TriageWhose, AShellThatCouldNotStartItOnAHost) {
  const Failure failure =
      of("10.0.0.18: bash: line 1: /env/bin/python: No such file or directory\npdsh@node17: "
         "10.0.0.18: ssh exited with exit code 127\n" +
         std::string("10.0.0.17: using world size: 8\n10.0.0.17: > initializing\n10.0.0.17: a\n"
                     "10.0.0.17: b\n10.0.0.17: c\n10.0.0.17: d\n10.0.0.17: e\n"));
  ASSERT_TRUE(failure.first_meaningful);
  EXPECT_EQ(failure.first_meaningful->line, 1);
  EXPECT_EQ(failure.host, "10.0.0.18");
}

TEST(TriageSurvived, AKillOfAStrangerBesideATrainingThatGoesOn) {
  const auto killed = [](const std::string& name) {
    return "step 1 loss 0.5\nstep 2 loss 0.4\n--- evidence\nMemory cgroup out of memory: Killed "
           "process 7710 (" +
           name + ") total-vm:41811204kB, anon-rss:33544120kB\n";
  };
  EXPECT_EQ(of(killed("chrome")).layer, FailureLayer::none);
  EXPECT_EQ(of(killed("pt_main_thread")).layer, FailureLayer::host_oom);
}

TEST(TriageChoice, AProgramMaySayWhatIsWrongBeforeItRaisesIt) {
  const std::string said = "[E 12/20/24 08:45:40 driver.h] CUDA Error: out of memory at a.cpp:62\n";
  const std::string raised = "RuntimeError: CUDA Error: out of memory at a.cpp:62\n";
  EXPECT_EQ(of(said + raised).first_meaningful->line, 1);
  const std::string reported =
      "watchdog thread terminated with exception: CUDA Error: out of memory at a.cpp:62\n";
  EXPECT_EQ(of(reported + raised).first_meaningful->line, 2);
}

TEST(TriageWhose, ReplicasAndLoggersPrefixes) {
  EXPECT_EQ(
      of("i.pretrain/0 [rank3]: Traceback (most recent call last):\ni.pretrain/0 [rank3]:   File "
         "\"/t.py\", line 1, in f\ni.pretrain/0 [rank3]: KeyError: 'mixed'\n")
          .rank,
      3);
  EXPECT_EQ(
      of("[rank 1] waiting\n[rank 2] waiting\nINFO:torchtune.utils._logging:[rank 0] writing a\n"
         "INFO:torchtune.utils._logging:[rank 0] writing b\n" +
         timed_out(1, 2, 1, 2))
          .rank,
      0);
}

TEST(TriageSurvived, ARecordFromLongBeforeTheRun) {
  const auto record = [](const std::string& time) {
    return "2024-09-11 17:50:01,114 INFO step 1 loss 0.5\n===== dmesg of the host =====\n[Wed Sep "
           "11 " +
           time + " 2024] NVRM: Xid (PCI:0000:c1:00): 79, GPU has fallen off the bus.\n";
  };
  EXPECT_EQ(of(record("16:07:44")).layer, FailureLayer::none);
  EXPECT_EQ(of(record("17:55:44")).layer, FailureLayer::hardware_fault);
}

}  // namespace
}  // namespace rigwise
