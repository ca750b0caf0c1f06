// Hangs: what is a silence too long, who is at work, and whose doing it is.
#include <gtest/gtest.h>

#include "record/hang_verdict.h"
#include "record/hang_watch.h"
#include "record/hangs.h"

namespace rigwise {
namespace {

// ----------------------------------------------------------------------------- a run, made by hand

class MadeRun {
 public:
  explicit MadeRun(HangOptions options = {}) : watch(options, HangLimits{}) {
    tree.push_back(process(10, "launcher", std::nullopt));
    tree.push_back(process(11, "rank", 0));
    tree.push_back(process(12, "rank", 1));
    for (const int pid : {11, 12}) places.push_back({.pid = pid, .work = "sync"});
    for (StackPlace& place : places) place.samples = 1000;
  }

  static ProcSample process(int pid, const std::string& role, std::optional<int> rank) {
    ProcSample row;
    row.pid = pid;
    row.role = role;
    row.rank = rank;
    row.main_state = "S";
    row.cpu_s = 0;
    row.read_bytes = row.write_bytes = 0;
    return row;
  }

  /// A second: the processes take `cpu` each, and stay where they are unless they `move`.
  HangChange second(double cpu0 = 0, double cpu1 = 0, bool move0 = false, bool move1 = false) {
    t_s += 1;
    *tree[1].cpu_s += cpu0;
    *tree[2].cpu_s += cpu1;
    for (StackPlace& place : places) place.last_s = t_s;
    if (move0) places[0].held_s = places[0].still_s = t_s;
    if (move1) places[1].held_s = places[1].still_s = t_s;
    HangSight sight;
    sight.tree = &tree;
    sight.places = &places;
    sight.gpus = &gpus;
    sight.nets = &nets;
    sight.paused = paused;
    sight.network_files = network_files;
    if (own_bytes_per_s) sight.traffic = [this] { return Traffic{{7, *own_bytes_per_s * t_s}}; };
    return watch.tick(t_s, sight);
  }

  void train(int steps, double step_s = 1) {
    for (int i = 0; i < steps; ++i) {
      for (double done_s = 0; done_s < step_s; done_s += 1) {
        EXPECT_EQ(second(1, 1, true, true), HangChange::none);
      }
      watch.note(Progress::step, t_s);
    }
  }

  /// Seconds until a hang is found; nothing within `most_s`.
  std::optional<double> silent(double most_s, double cpu0 = 0, double cpu1 = 0, bool move0 = false,
                               bool move1 = false) {
    const double from_s = t_s;
    while (t_s - from_s < most_s) {
      if (second(cpu0, cpu1, move0, move1) == HangChange::found) return t_s - from_s;
    }
    return std::nullopt;
  }

  HangWatch watch;
  std::vector<ProcSample> tree;
  std::vector<StackPlace> places;
  std::vector<GpuSample> gpus;
  std::vector<NetSample> nets;
  double t_s = 0;
  bool paused = false, network_files = true;
  std::optional<double> own_bytes_per_s = {};
};

TEST(RecordHang, ASilentIdleRunIsFoundAfterTheFloor) {
  MadeRun run;
  run.train(100);
  const auto found_s = run.silent(1000);
  ASSERT_TRUE(found_s);
  EXPECT_GE(*found_s, 60);
  EXPECT_LE(*found_s, 62);
  EXPECT_EQ(run.watch.began_s(), 100);
}

TEST(RecordHang, BeforeTheFirstStepItHasLonger) {
  MadeRun run;
  run.watch.note(Progress::log, 1);
  const auto found_s = run.silent(1000);
  ASSERT_TRUE(found_s);
  EXPECT_GE(*found_s, 300);
}

TEST(RecordHang, LongStepsRaiseTheThreshold) {
  MadeRun run;
  run.train(10, 30);
  EXPECT_EQ(run.watch.threshold_s(), 480);  // 20 steps would be 600 s: NCCL gives up before
  MadeRun quick;
  quick.train(10, 5);
  EXPECT_EQ(quick.watch.threshold_s(), 100);
}

TEST(RecordHang, AWishGoesBeforeHistory) {
  MadeRun run({.watch = true, .after_s = 8, .stop = false});
  run.train(10, 30);
  const auto found_s = run.silent(100);
  ASSERT_TRUE(found_s);
  EXPECT_LE(*found_s, 10);
  MadeRun off({.watch = false, .after_s = {}, .stop = false});
  off.train(3);
  EXPECT_FALSE(off.silent(5000));
}

TEST(RecordHang, AnEvaluationOfOneRankIsNone) {
  MadeRun run;
  run.train(50);
  run.places[0].work = "evaluation";
  EXPECT_FALSE(run.silent(479, 1, 0, true, false));  // rank 1 waits at the barrier
}

// Rank 1's collective is about to give up, and whether rank 0 works or loops for ever is not to be
// seen: it is told as that.
TEST(RecordHang, ARankThatOthersWaitForTooLongIsToldAsAtWork) {
  MadeRun run;
  run.train(50);
  run.places[0].work = "python";
  const auto found_s = run.silent(3000, 1, 0, true, false);
  ASSERT_TRUE(found_s);
  EXPECT_GE(*found_s, 480);
  EXPECT_LE(*found_s, 482);
  EXPECT_TRUE(run.watch.at_work());
  // it went on: as long a silence is nothing new
  run.silent(60, 1, 0, true, false);
  for (int i = 0; i < 100; ++i) {
    run.second(1, 1, true, true);
    run.watch.note(Progress::step, run.t_s);
  }
  EXPECT_FALSE(run.watch.hung());
  EXPECT_FALSE(run.silent(530, 1, 0, true, false));
  EXPECT_TRUE(run.silent(100, 1, 0, true, false));
}

TEST(RecordHang, RanksOfOtherHostsMayBeAtWork) {
  MadeRun run;
  run.watch.expect_ranks(4);
  run.train(50);
  const auto found_s = run.silent(1000);  // both wait; who is to come is not of this host
  ASSERT_TRUE(found_s);
  EXPECT_GE(*found_s, 480);
  MadeRun input;
  input.watch.expect_ranks(4);
  input.train(50);
  input.places[0].work = "input";
  EXPECT_LE(input.silent(1000).value_or(1000), 62);
}

TEST(RecordHang, ACallThatWaitsForTheDeviceSpinsInTheUsersLine) {
  GpuSample gpu;
  gpu.tree_processes = 2;
  gpu.util_frac = 1;
  gpu.mem_util_frac = 0;
  MadeRun item;  // loss.item(): no frame of its own, so its work is plain Python
  item.train(50);
  for (StackPlace& place : item.places) place.work = "python";
  item.gpus = {gpu};
  EXPECT_LE(item.silent(1000, 1, 1).value_or(1000), 62);
  EXPECT_TRUE(item.watch.gpus_spin());
  MadeRun computes;  // a long call of C on the CPU leaves the GPU idle
  computes.train(50);
  for (StackPlace& place : computes.places) place.work = "python";
  gpu.util_frac = 0;
  computes.gpus = {gpu};
  EXPECT_FALSE(computes.silent(1000, 1, 1));
}

TEST(RecordHang, OwnConnectionsAreLifeAndEverybodysAreNot) {
  const auto loading = [](double own_bytes, bool network_files) {
    MadeRun run;
    run.network_files = network_files;
    run.own_bytes_per_s = own_bytes;
    run.train(50);
    run.places[0].work = "input";
    run.nets = {NetSample{}};
    run.nets[0].interface = "eth0";
    run.nets[0].rx_bytes = 0;
    for (int i = 0; i < 200; ++i) {
      *run.nets[0].rx_bytes += 1e6;  // somebody on this machine downloads
      if (run.second() == HangChange::found) return true;
    }
    return false;
  };
  EXPECT_TRUE(loading(0, false));
  EXPECT_FALSE(loading(1e6, false));  // a stream of rows, an upload
  EXPECT_FALSE(loading(0, true));     // it may read from that network
}

TEST(RecordHang, ASaveToAFileSystemWithoutBlocksIsProgress) {
  const auto stands = [](const std::string& work) {
    MadeRun run;
    run.train(50);
    run.places[0].work = work;
    run.tree[1].written_bytes = 0;
    for (int i = 0; i < 100; ++i) {
      *run.tree[1].written_bytes += 1e6;
      if (run.second() == HangChange::found) return true;
    }
    return false;
  };
  EXPECT_FALSE(stands("checkpoint"));
  EXPECT_TRUE(stands("sync"));  // a socket, a pipe
}

TEST(RecordHang, HelpersThatComeAndGoAreNoLife) {
  MadeRun run;
  run.train(50);
  std::optional<double> found_s;
  for (int i = 0; i < 200 && !found_s; ++i) {
    if (i % 10 == 0) {  // a loop of `sleep 10` beside the training
      if (run.tree.size() > 3) run.tree.pop_back();
      run.tree.push_back(MadeRun::process(100 + i, "other", std::nullopt));
    }
    if (run.second() == HangChange::found) found_s = i;
  }
  ASSERT_TRUE(found_s);
  EXPECT_LE(*found_s, 62);
}

TEST(RecordHang, TheNextProgramOfACommandHasAHistoryOfItsOwn) {
  MadeRun run;
  run.train(50);
  EXPECT_EQ(run.watch.threshold_s(), 60);
  run.tree[1].pid = 21, run.tree[2].pid = 22;
  run.places[0].pid = 21, run.places[1].pid = 22;
  run.second(1, 1, true, true);
  EXPECT_EQ(run.watch.threshold_s(), 300);  // it loads its model
  EXPECT_TRUE(run.watch.lost_ranks(run.tree).empty());
}

TEST(RecordHang, WhatLoadingTookIsNoSilenceOfSteps) {
  MadeRun run;
  run.watch.note(Progress::log, 1);
  for (int i = 0; i < 290; ++i) run.second(1, 1, true, true);
  run.train(50);
  EXPECT_EQ(run.watch.threshold_s(), 60);
}

TEST(RecordHang, LinesThatRepeatAreNoNews) {
  LogNews news;
  EXPECT_TRUE(news.take("epoch 1\n"));
  EXPECT_TRUE(news.take("still waiting (40 s)\n"));
  EXPECT_TRUE(news.take("still waiting (80 s)\n"));
  EXPECT_FALSE(news.take("still waiting (120 s)\n"));
  EXPECT_TRUE(news.take("still wai"));  // a line that is not at its end
  EXPECT_FALSE(news.take("ting (160 s)\n"));
  EXPECT_TRUE(news.take("still waiting (200 s)\nloss is nan\n"));
  EXPECT_TRUE(news.take(std::string(70000, '\n')));
  news.forget();  // a step
  EXPECT_TRUE(news.take("still waiting (240 s)\n"));
  for (int i = 0; i < 3; ++i) news.take("eval:  10%|#  | 10/100 [00:10]\r");
  EXPECT_FALSE(news.take("eval:  20%|## | 20/100 [00:20]\r"));
}

TEST(RecordHang, ALongStepThatComputesIsNone) {
  MadeRun run;
  run.train(50);
  for (StackPlace& place : run.places) place.work = "forward";
  EXPECT_FALSE(run.silent(3000, 1, 1));  // one operator of an hour: nothing moves but the CPU
}

TEST(RecordHang, SpinningInAWaitIsNoLife) {
  MadeRun run;
  run.train(50);
  EXPECT_TRUE(run.silent(100, 1, 1));  // both at 100 %, at the same instruction in all samples
  MadeRun moves;
  moves.train(50);
  EXPECT_FALSE(moves.silent(1000, 1, 1, true, true));
}

TEST(RecordHang, AFullQueueOfAGpuSpinsInForward) {
  MadeRun run;
  run.train(50);
  GpuSample gpu;
  gpu.tree_processes = 2;
  gpu.util_frac = 1;  // a kernel of NCCL counts as use
  gpu.mem_util_frac = 0;
  run.gpus = {gpu};
  run.places[0].work = "forward";
  EXPECT_TRUE(run.silent(200, 1, 1));
  MadeRun works;
  works.train(50);
  gpu.mem_util_frac = 0.4;
  works.gpus = {gpu};
  EXPECT_FALSE(works.silent(2000));  // the CPU only waits for it
}

TEST(RecordHang, WorkersAndWhatTheyReadAreLife) {
  MadeRun run;
  run.train(50);
  run.tree.push_back(MadeRun::process(20, "loader", 0));
  run.places.push_back({.pid = 20, .samples = 1000, .work = "input"});
  for (int i = 0; i < 300; ++i) {
    *run.tree[3].cpu_s += 0.9;
    EXPECT_EQ(run.second(), HangChange::none);
  }
  MadeRun reads;
  reads.train(50);
  for (int i = 0; i < 300; ++i) {
    *reads.tree[1].read_bytes += 1e6;
    EXPECT_EQ(reads.second(), HangChange::none);
  }
  EXPECT_EQ(reads.watch.last_progress(), Progress::bytes);
  MadeRun heartbeat;
  heartbeat.train(50);
  bool found = false;
  for (int i = 0; i < 300 && !found; ++i) {
    *heartbeat.tree[1].write_bytes += 4096;
    found = heartbeat.second() == HangChange::found;
  }
  EXPECT_TRUE(found);
}

TEST(RecordHang, WaitingForACpuIsNoIdleness) {
  MadeRun run;
  run.train(50);
  for (StackPlace& place : run.places) place.work = "forward";
  for (int i = 0; i < 300; ++i) {  // other programs have all the cores
    run.tree[1].main_run_delay_s = run.tree[1].main_run_delay_s.value_or(0) + 0.98;
    EXPECT_EQ(run.second(0.02, 0), HangChange::none);
  }
}

TEST(RecordHang, AStoppedJobIsNotWatched) {
  MadeRun run;
  run.train(50);
  run.paused = true;
  EXPECT_FALSE(run.silent(1000));
  run.paused = false;
  EXPECT_EQ(run.second(), HangChange::none);
  EXPECT_TRUE(run.silent(100));
}

TEST(RecordHang, AStoppedRankIsNoLife) {
  MadeRun run;
  run.train(50);
  run.tree[2].main_state = "T";
  run.places[1].work = "forward";
  EXPECT_TRUE(run.silent(100));
}

TEST(RecordHang, StepsEndItAndWordsDoNot) {
  MadeRun run;
  run.train(50);
  ASSERT_TRUE(run.silent(100));
  run.watch.note(Progress::log, run.t_s);  // "still waiting …"
  EXPECT_EQ(run.second(), HangChange::none);
  EXPECT_TRUE(run.watch.hung());
  EXPECT_FALSE(run.silent(200));  // and silent again: the same hang, not another
  EXPECT_TRUE(run.watch.hung());
  const double went_on_s = run.t_s;
  run.watch.note(Progress::step, went_on_s);
  EXPECT_EQ(run.second(), HangChange::over);
  EXPECT_EQ(run.watch.over_s(), went_on_s);
  EXPECT_EQ(run.watch.threshold_s(), 60);  // the hang was no ordinary silence
}

TEST(RecordHang, ATracebackBeforeTheEndDoesNotEndIt) {
  MadeRun run;
  run.train(50);
  ASSERT_TRUE(run.silent(100));
  run.watch.note(Progress::log, run.t_s);
  EXPECT_EQ(run.watch.finish(run.t_s + 1, false), HangChange::none);
  MadeRun well;
  well.train(50);
  ASSERT_TRUE(well.silent(100));
  well.watch.note(Progress::log, well.t_s);
  EXPECT_EQ(well.watch.finish(well.t_s + 1, true), HangChange::over);
}

TEST(RecordHang, RanksThatWentAreRemembered) {
  MadeRun run;
  run.train(5);
  const ProcSample lost = run.tree[2];
  run.tree.pop_back();
  run.second();
  const auto ranks = run.watch.lost_ranks(run.tree);
  ASSERT_EQ(ranks.size(), 1U);
  EXPECT_EQ(ranks[0].pid, lost.pid);
}

TEST(RecordHang, EndsPolitely) {
  PoliteEnd end;
  EXPECT_FALSE(end.due(10, 0));
  end.begin(10);
  const auto first = end.due(10, 0);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->signal, SIGINT);
  EXPECT_FALSE(first->everybody);
  EXPECT_FALSE(end.due(54, 0));
  EXPECT_FALSE(end.due(60, 50));  // it saves
  EXPECT_EQ(end.due(96, 50)->signal, SIGTERM);
  EXPECT_FALSE(end.due(97, 50));
  EXPECT_EQ(end.due(116, 50)->signal, SIGKILL);
  EXPECT_FALSE(end.due(117, 50));
  EXPECT_EQ(end.due(119, 50)->signal, SIGKILL);
}

// ------------------------------------------------------------------------------------- whose doing

constexpr const char* kTorch = "/venv/lib/python3.11/site-packages/torch/";

ProcessLook rank(int number, std::string work, std::vector<LookFrame> innermost_first) {
  ProcessLook process;
  process.pid = 100 + number;
  process.role = "rank";
  process.rank = number;
  process.comm = "python3";
  process.state = "S";
  process.read = "whole";
  process.work = std::move(work);
  process.frames = std::move(innermost_first);
  return process;
}

ProcessLook in_all_reduce(int number, int line = 30) {
  return rank(number, "sync",
              {{std::string(kTorch) + "distributed/distributed_c10d.py", "all_reduce", 2800},
               {std::string(kTorch) + "distributed/c10d_logger.py",
                "_exception_logger.<locals>.wrapper", 81},
               {"/home/me/train.py", "main", line}});
}

ProcessLook in_loader(int number) {
  auto process =
      rank(number, "input",
           {{"/home/me/data.py", "Rows.__getitem__", 12},
            {std::string(kTorch) + "utils/data/dataloader.py",
             "_SingleProcessDataLoaderIter._next_data", 5},
            {std::string(kTorch) + "utils/data/dataloader.py", "_BaseDataLoaderIter.__next__", 741},
            {"/home/me/train.py", "main", 41}});
  process.syscall = "read";
  process.waits_on = "/data/part-3";
  return process;
}

TEST(RecordHang, NamesTheRankWhoseInputItIs) {
  const auto verdict = judge_hang({in_all_reduce(0), in_loader(1), in_all_reduce(2)});
  EXPECT_EQ(
      verdict.claim(),
      "rank 1 sits in DataLoader.__next__ on /data/part-3 (data.py:12), ranks 0 and 2 wait in "
      "all_reduce (train.py:30): the cause is rank 1's input");
  EXPECT_EQ(verdict.cause, HangCause::input);
  EXPECT_EQ(verdict.ranks, std::vector<int>{1});
  EXPECT_FALSE(verdict.advice.empty());
}

TEST(RecordHang, AStoppedRankGoesBeforeOneThatReads) {
  auto stopped = rank(2, "forward", {{"/home/me/model.py", "forward", 9}});
  stopped.state = "T";
  const auto verdict = judge_hang({in_all_reduce(0), in_loader(1), stopped});
  EXPECT_EQ(verdict.cause, HangCause::stopped);
  EXPECT_EQ(verdict.ranks, std::vector<int>{2});
}

TEST(RecordHang, AStoppedRankInACollectiveIsStillTheCause) {
  auto stopped = in_all_reduce(1);
  stopped.state = "T";
  const auto verdict = judge_hang({in_all_reduce(0), stopped});
  EXPECT_EQ(verdict.cause, HangCause::stopped);
}

TEST(RecordHang, DifferentCallsAreTheCause) {
  const auto verdict = judge_hang({in_all_reduce(0, 30), in_all_reduce(1, 55)});
  EXPECT_EQ(verdict.cause, HangCause::mismatch);
  EXPECT_TRUE(verdict.ranks.empty());
  EXPECT_EQ(verdict.where,
            "rank 0 waits in all_reduce (train.py:30), rank 1 waits in all_reduce (train.py:55)");
}

TEST(RecordHang, CallsMayDifferWhereNotAllRanksAreSeen) {
  const auto elsewhere =
      judge_hang({in_all_reduce(0, 30), in_all_reduce(1, 55)}, {.ranks_elsewhere = true});
  EXPECT_EQ(elsewhere.cause, HangCause::collective);
  EXPECT_NE(elsewhere.because.find("not seen here"), std::string::npos);
  auto sends = in_all_reduce(0);  // a pipeline's stages are never in the same call
  sends.frames.front().function = "send";
  EXPECT_EQ(judge_hang({sends, in_all_reduce(1, 55)}).cause, HangCause::collective);
}

TEST(RecordHang, WhoIsAtWorkIsWaitedForNotAccused) {
  const auto busy = rank(1, "python", {{"/home/me/eval.py", "score_all", 12}});
  const auto verdict = judge_hang({in_all_reduce(0), busy}, {.at_work = true});
  EXPECT_TRUE(verdict.at_work);
  EXPECT_EQ(verdict.ranks, std::vector<int>{1});
  EXPECT_EQ(verdict.claim(),
            "rank 1 sits in score_all (eval.py:12), rank 0 waits in all_reduce (train.py:30): the "
            "others wait for rank 1, which is at work: long work, or a loop without end");
}

TEST(RecordHang, ACallThatSpinsOnTheDeviceIsNobodysOwnCode) {
  auto item = rank(0, "python", {{"/home/me/train.py", "log_loss", 9}});
  item.state = "R";
  item.holds_gpu = item.spins_on_gpu = true;
  const auto verdict = judge_hang({item, in_loader(1)});
  EXPECT_EQ(verdict.cause, HangCause::input);
  EXPECT_EQ(verdict.ranks, std::vector<int>{1});
}

TEST(RecordHang, TheSameCallShowsNothing) {
  const auto verdict = judge_hang({in_all_reduce(0), in_all_reduce(1)});
  EXPECT_EQ(verdict.cause, HangCause::collective);
  EXPECT_EQ(verdict.where, "ranks 0 and 1 wait in all_reduce (train.py:30)");
  EXPECT_NE(verdict.because.find("not shown"), std::string::npos);
  auto closed = in_all_reduce(1);
  closed.closed_by_peer = 1;
  EXPECT_NE(judge_hang({in_all_reduce(0), closed}).because.find("closed"), std::string::npos);
}

TEST(RecordHang, AFullGpuQueueIsNobodysOwnCode) {
  auto queue = rank(0, "forward", {{"/home/me/model.py", "forward", 9}});
  queue.state = "R";
  queue.holds_gpu = true;
  const auto verdict = judge_hang({queue, in_loader(1)});
  EXPECT_EQ(verdict.ranks, std::vector<int>{1});
  EXPECT_EQ(verdict.cause, HangCause::input);
  auto elsewhere = queue;
  elsewhere.rank = 1;
  elsewhere.frames.front().line = 31;
  EXPECT_EQ(judge_hang({queue, elsewhere}).cause, HangCause::collective);
  queue.holds_gpu = false;  // on a CPU forward is work of its own
  EXPECT_EQ(judge_hang({queue, in_all_reduce(1)}).cause, HangCause::elsewhere);
}

TEST(RecordHang, ARankThatIsGone) {
  ProcessLook gone;
  gone.role = "rank";
  gone.rank = 1;
  gone.read = "gone";
  const auto verdict = judge_hang({in_all_reduce(0), gone});
  EXPECT_EQ(
      verdict.claim(),
      "rank 1 has ended, rank 0 waits in all_reduce (train.py:30): the cause is rank 1, gone");
  auto saves = rank(0, "checkpoint", {{"/home/me/train.py", "save", 50}});
  EXPECT_EQ(judge_hang({saves, gone}).cause, HangCause::checkpoint);  // nobody waits for rank 1
}

TEST(RecordHang, AsksAtTheTerminal) {
  auto asks = rank(0, "python", {{"/home/me/train.py", "main", 3}});
  asks.syscall = "read";
  asks.waits_fd = 0;
  asks.waits_on = "/dev/pts/3";
  const auto verdict = judge_hang({asks});
  EXPECT_EQ(
      verdict.claim(),
      "rank 0 waits for an answer at the terminal in main (train.py:3): the cause is rank 0's "
      "question at the terminal");
  asks.waits_on = "a pipe";  // cat rows | train.py
  EXPECT_EQ(judge_hang({asks}).cause, HangCause::elsewhere);
  const LookFrame debugger = {"/usr/lib/python3.11/pdb.py", "interaction", 400};
  auto inside = rank(0, "python", {debugger, {"/home/me/train.py", "main", 3}});
  EXPECT_EQ(judge_hang({inside}).cause, HangCause::terminal);
  auto outside = rank(0, "python", {{"/home/me/train.py", "main", 3}, debugger});  // -m pdb
  EXPECT_EQ(judge_hang({outside}).cause, HangCause::elsewhere);
}

TEST(RecordHang, AWorkerThatHoldsALockIsNamed) {
  auto waits = in_loader(0);
  waits.syscall = "poll";
  waits.waits_on.clear();
  waits.frames.erase(waits.frames.begin());  // its rows are read elsewhere
  auto idle = rank(0, "input",
                   {{"/usr/lib/python3.11/multiprocessing/queues.py", "Queue.get", 113},
                    {std::string(kTorch) + "utils/data/_utils/worker.py", "_worker_loop", 275}});
  auto stuck = rank(0, "python", {{"/home/me/data.py", "Rows.__getitem__", 9}});
  idle.role = stuck.role = "loader";
  idle.ppid = stuck.ppid = waits.pid;
  stuck.pid = 300;
  stuck.syscall = "futex";
  const auto verdict = judge_hang({waits, idle, stuck});
  EXPECT_NE(verdict.where.find("its worker (pid 300) waits for a lock or another thread in "
                               "Rows.__getitem__ (data.py:9)"),
            std::string::npos)
      << verdict.where;
  EXPECT_EQ(verdict.cause, HangCause::input);
}

TEST(RecordHang, WhatCannotBeSeenIsNotAccused) {
  ProcessLook unread;
  unread.role = "rank";
  unread.rank = 1;
  unread.state = "S";
  unread.read = "unavailable";
  const auto verdict = judge_hang({in_all_reduce(0), unread});
  EXPECT_EQ(verdict.cause, HangCause::unknown);
  EXPECT_TRUE(verdict.because.empty());
  EXPECT_TRUE(judge_hang({}).where.empty());
}

TEST(RecordHang, AProgramWithoutPython) {
  ProcessLook sleep;
  sleep.pid = 9;
  sleep.role = "other";
  sleep.comm = "sleep";
  sleep.state = "S";
  sleep.read = "unavailable";
  sleep.syscall = "nanosleep";
  const auto verdict = judge_hang({sleep});
  EXPECT_EQ(verdict.claim(), "sleep (pid 9) waits in the kernel's nanosleep");
}

}  // namespace
}  // namespace rigwise
