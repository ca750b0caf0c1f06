// Rows that stack samples carry. The runs are made by hand: two ranks of one host, spans as the
// recorder writes them.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "rigwise/ledger.h"
#include "unit/ledger_made_run.h"

namespace rigwise {
namespace {

using made::Folder;
using made::Maker;

struct Slept {
  double frac = 0;    // of the span, asleep
  double queued = 0;  // of the span, in a run queue
};

/// One rank's main thread, span after span.
class Thread {
 public:
  Thread(Maker& run, int rank, double from_s = 0) : run_(run), rank_(rank), t_s_(from_s) {}

  Thread& does(const std::string& work, double lasts_s, Slept slept = {}) {
    // As the recorder does: no span is much longer than a second.
    while (lasts_s > 1e-9) {
      const double piece_s = std::min(lasts_s, 1.0);
      StackSpan span;
      span.t_s = t_s_;
      span.t_end_s = t_s_ + piece_s;
      span.pid = 100 + rank_;
      span.role = "rank";
      span.rank = rank_;
      span.work = work;
      span.samples = std::max<std::int64_t>(1, std::llround(piece_s / 0.05));
      span.running_s = piece_s * (1 - slept.frac - slept.queued);
      span.queued_s = piece_s * slept.queued;
      span.stack = 1;
      run_.writer().append(run_.info.host, span);
      t_s_ += piece_s;
      lasts_s -= piece_s;
    }
    return *this;
  }
  [[nodiscard]] double now_s() const { return t_s_; }

 private:
  Maker& run_;
  int rank_;
  double t_s_;
};

Ledger ledger_of(const Run& run) {
  auto ledger = make_ledger(run);
  EXPECT_TRUE(ledger.ok()) << (ledger.ok() ? "" : ledger.error().message);
  double sum_s = 0;
  for (const auto& row : ledger->rows) {
    EXPECT_GE(row.seconds.value_or(0), 0) << to_string(row.cls);
    EXPECT_GE(row.high_s.value_or(0), row.seconds.value_or(0)) << to_string(row.cls);
    EXPECT_LE(row.low_s.value_or(0), row.seconds.value_or(0)) << to_string(row.cls);
    sum_s += row.seconds.value_or(0);
  }
  EXPECT_NEAR(sum_s, ledger->wall_s, 1e-9);
  return *ledger;
}
double seconds(const std::vector<LedgerRow>& rows, LedgerClass cls) {
  const LedgerRow* row = row_of(rows, cls);
  return row != nullptr && row->seconds ? *row->seconds : std::nan("");
}
double seconds(const Ledger& ledger, LedgerClass cls) {
  return seconds(ledger.rows, cls);
}

/// The log of a run whose step k ends at `ends_s[k - 1]`.
void log_steps(Maker& run, const std::vector<double>& ends_s) {
  std::int64_t step = 0;
  for (const double t_s : ends_s) run.line(t_s, ++step);
}

TEST(LedgerWork, ALoneRankWaitsForDataAndForACpu) {
  Folder folder;
  Maker run(folder.path(), "one");
  run.host(100);
  Thread rank(run, 0);
  rank.does("import", 4).does("load", 2);
  std::vector<double> ends_s;
  for (int step = 0; step < 40; ++step) {
    rank.does("input", 0.6)
        .does("forward", 0.4)
        .does("backward", 0.8, {0, 0.25})
        .does("optimizer", 0.2);
    ends_s.push_back(rank.now_s());
  }
  log_steps(run, ends_s);
  rank.does("none", 1);
  const Ledger ledger = ledger_of(run.finish(rank.now_s() + 0.5));
  EXPECT_NEAR(seconds(ledger, LedgerClass::startup), 6, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::input), 24, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::host), 8, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 48, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 1.5, 0.1);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::input);
  EXPECT_NE(row_of(ledger.rows, LedgerClass::startup)->note.find("imports 4"), std::string::npos);
}

TEST(LedgerWork, TheRunFollowsTheRankThatTheOthersWaitFor) {
  Folder folder;
  Maker run(folder.path(), "two");
  run.info.ranks_asked = run.info.ranks_trained = 2;
  run.host(100);
  Thread fast(run, 0), slow(run, 1);
  std::vector<double> ends_s;
  fast.does("import", 3);
  slow.does("import", 3);
  for (int step = 0; step < 40; ++step) {
    // Both compute for 0.8 s and exchange for 0.2 s; the slow one reads for a second before.
    slow.does("input", 1)
        .does("forward", 0.2)
        .does("backward", 0.6, {1.0 / 3, 0})
        .does("optimizer", 0.2);
    fast.does("forward", 0.2).does("backward", 1.6, {0.75, 0}).does("optimizer", 0.2);
    ends_s.push_back(slow.now_s());
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(slow.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::input), 40, 1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::sync), 8, 1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 32, 1);
  ASSERT_EQ(ledger.ranks.size(), 2U);
  EXPECT_NEAR(seconds(ledger.ranks[0].rows, LedgerClass::sync), 48, 1);
  EXPECT_NEAR(seconds(ledger.ranks[0].rows, LedgerClass::input), 0, 0.1);
  EXPECT_NEAR(seconds(ledger.ranks[1].rows, LedgerClass::input), 40, 1);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::input);
  EXPECT_NE(row_of(ledger.rows, LedgerClass::input)->note.find("rank 1"), std::string::npos);
}

TEST(LedgerWork, RanksWithoutNumbersAreToldApart) {
  // torch.multiprocessing.spawn: the parent was taken for a rank at first, its children have no
  // number that is seen from outside.
  Folder folder;
  Maker run(folder.path(), "spawn");
  run.info.ranks_asked = run.info.ranks_trained = 2;
  run.host(60);
  const auto span = [&](int pid, const char* role, const char* work, double from_s, double to_s) {
    StackSpan row;
    row.t_s = from_s;
    row.t_end_s = to_s;
    row.pid = pid;
    row.role = role;
    if (pid == 99) row.rank = 0;
    row.work = work;
    row.samples = std::llround((to_s - from_s) / 0.05);
    row.running_s = std::string_view(work) == "input" ? 0 : to_s - from_s;
    row.queued_s = 0;
    run.writer().append(run.info.host, row);
  };
  span(99, "rank", "import", 0, 1);
  std::vector<double> ends_s;
  for (int step = 0; step < 40; ++step) {
    const double t_s = 1 + step;
    span(99, "launcher", "python", t_s, t_s + 1);
    span(100, "rank", "forward", t_s, t_s + 0.3);
    span(100, "rank", "sync", t_s + 0.3, t_s + 0.7);
    span(100, "rank", "backward", t_s + 0.7, t_s + 1);
    span(101, "rank", "input", t_s, t_s + 0.4);
    span(101, "rank", "forward", t_s + 0.4, t_s + 0.7);
    span(101, "rank", "backward", t_s + 0.7, t_s + 1);
    ends_s.push_back(t_s + 1);
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(41));
  EXPECT_NEAR(seconds(ledger, LedgerClass::input), 16, 1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 24, 1);
  ASSERT_EQ(ledger.ranks.size(), 2U);
  EXPECT_NEAR(seconds(ledger.ranks[0].rows, LedgerClass::sync), 16, 1);
  EXPECT_NEAR(seconds(ledger.ranks[1].rows, LedgerClass::input), 16, 1);
}

TEST(LedgerWork, ASaveOfOneRankIsNotTheOthersWait) {
  Folder folder;
  Maker run(folder.path(), "save");
  run.info.ranks_asked = run.info.ranks_trained = 2;
  run.host(60);
  Thread writes(run, 0), waits(run, 1);
  std::vector<double> ends_s;
  for (int step = 0; step < 20; ++step) {
    for (Thread* rank : {&writes, &waits})
      rank->does("forward", 0.3).does("backward", 0.5).does("optimizer", 0.2);
    if (step % 5 == 4) {
      writes.does("checkpoint", 3);
      waits.does("forward", 0.3).does("backward", 2.7, {1, 0});
      writes.does("forward", 0.3).does("backward", 0.5).does("optimizer", 0.2);
      waits.does("backward", 0.8, {0.9, 0}).does("optimizer", 0.2);
    }
    ends_s.push_back(writes.now_s());
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(writes.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::checkpoint), 12, 0.3);
  EXPECT_LT(seconds(ledger, LedgerClass::sync), 0.5);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::checkpoint);
}

TEST(LedgerWork, TrainingThatTheLogDoesNotTellOf) {
  Folder folder;
  Maker run(folder.path(), "silent");
  run.host(50);
  Thread rank(run, 0);
  rank.does("import", 5);
  for (int step = 0; step < 30; ++step) {
    rank.does("forward", 0.4).does("backward", 0.8).does("optimizer", 0.1);
  }
  rank.does("none", 1);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 39, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::startup), 5, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 1, 0.1);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::compute);
  EXPECT_FALSE(ledger.steps.has_value());
}

TEST(LedgerWork, ForwardPassesAloneAreAnEvaluation) {
  Folder folder;
  Maker run(folder.path(), "unnamed");
  run.host(80);
  Thread rank(run, 0);
  std::vector<double> ends_s;
  for (int step = 0; step < 30; ++step) {
    rank.does("forward", 0.3).does("backward", 0.6).does("optimizer", 0.1);
    if (step % 10 == 9) {
      for (int batch = 0; batch < 10; ++batch) rank.does("python", 0.1).does("forward", 0.4);
    }
    ends_s.push_back(rank.now_s());
  }
  rank.does("forward", 0.3).does("backward", 0.6).does("optimizer", 0.1);
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::evaluation), 15, 1.5);
}

TEST(LedgerWork, OneSlowStepIsNoEvaluation) {
  Folder folder;
  Maker run(folder.path(), "hiccup");
  run.host(40);
  Thread rank(run, 0);
  std::vector<double> ends_s;
  for (int step = 0; step < 30; ++step) {
    if (step == 20) rank.does("forward", 0.9).does("input", 0.3).does("forward", 0.9);
    rank.does("forward", 0.2).does("backward", 0.6).does("optimizer", 0.1);
    ends_s.push_back(rank.now_s());
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_EQ(seconds(ledger, LedgerClass::evaluation), 0);
}

TEST(LedgerWork, QueuesOfAnEvaluationAreNoTeams) {
  // One thread: what it queued outside the steps' arithmetic is nobody else's.
  Folder folder;
  Maker run(folder.path(), "alone");
  run.host(80);
  Thread rank(run, 0);
  std::vector<double> ends_s;
  for (int step = 0; step < 30; ++step) {
    rank.does("forward", 0.4).does("backward", 0.5, {0, 0.2}).does("optimizer", 0.1);
    rank.does("evaluation", 1, {0, 0.5});
    ends_s.push_back(rank.now_s());
  }
  for (int t = 0; t <= 60; ++t) {
    ProcSample sample;
    sample.t_s = t;
    sample.pid = 100;
    sample.role = "rank";
    sample.rank = 0;
    sample.cpu_s = sample.main_cpu_s = t * 0.7;
    sample.run_delay_s = sample.main_run_delay_s = t * 0.3;
    run.add(sample);
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::host), 3, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::evaluation), 30, 1.1);
}

TEST(LedgerWork, SwappedPagesAreWaitedForInTheArithmetic) {
  Folder folder;
  Maker run(folder.path(), "swapping");
  run.host(60, [](HostSample& sample) {
    sample.swap_used_bytes = 1e7 * sample.t_s;
    sample.psi_mem_some_s = sample.psi_mem_full_s = 0.005 * sample.t_s;
  });
  Thread rank(run, 0);
  std::vector<double> ends_s;
  for (int step = 0; step < 40; ++step) {
    rank.does("forward", 0.4, {0.25, 0}).does("backward", 0.5).does("optimizer", 0.1);
    ends_s.push_back(rank.now_s());
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::memory), 4, 0.2);
}

TEST(LedgerWork, AStoppedRankIsTheHostsAndSleepNobodyNamesIsUnexplained) {
  Folder folder;
  Maker run(folder.path(), "stopped");
  run.host(60);
  Thread rank(run, 0);
  std::vector<double> ends_s;
  for (int step = 0; step < 20; ++step) {
    rank.does("forward", 0.4).does("backward", 0.5).does("optimizer", 0.1);
    if (step % 5 == 0) rank.does("stopped", 2);
    if (step % 5 == 1) rank.does("python", 1.5, {1, 0});
    ends_s.push_back(rank.now_s());
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::host), 8, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::unexplained), 6, 0.1);
  EXPECT_NE(row_of(ledger.rows, LedgerClass::host)->note.find("stopped"), std::string::npos);
}

TEST(LedgerWork, StepsThatStateTheirPhases) {
  Folder folder;
  Maker run(folder.path(), "engine");
  run.host(60);
  double t_s = 2;
  for (int step = 1; step <= 20; ++step) {
    t_s += step % 10 == 0 ? 3 : 1;  // a save of two seconds before the tenth
    StepRecord record;
    record.t_s = t_s;
    record.step = step;
    record.loss = 2.0;
    record.step_time_s = 1.0;
    record.input_s = 0.1;
    record.forward_s = 0.3;
    record.backward_s = 0.4;
    record.sync_s = 0.15;
    record.optimizer_s = 0.05;
    record.log_file = "log/out.log";
    record.log_format = "jsonl";
    run.add(record);
    if (step % 10 == 0) run.checkpoint(t_s - 3, t_s - 1);
  }
  const Ledger ledger = ledger_of(run.finish(t_s + 1));
  EXPECT_NEAR(seconds(ledger, LedgerClass::input), 2, 0.01);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 15, 0.05);
  EXPECT_NEAR(seconds(ledger, LedgerClass::checkpoint), 4, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 1, 0.1);
}

/// A step of rigwise-engine that takes a second.
StepRecord phased(int rank, std::int64_t step, double sync_s, const std::string& file) {
  StepRecord record;
  record.t_s = static_cast<double>(step);
  record.step = step;
  record.rank = rank;
  record.loss = 2.0;
  record.step_time_s = 1.0;
  record.input_s = 0;
  record.forward_s = 0.3;
  record.backward_s = 0.6 - sync_s;
  record.sync_s = sync_s;
  record.optimizer_s = 0.1;
  record.log_file = file;
  record.log_format = "jsonl";
  return record;
}

TEST(LedgerWork, PhasesOfSeveralRanksFollowTheOneThatWaitsLeast) {
  Folder folder;
  Maker run(folder.path(), "pair");
  run.info.ranks_asked = run.info.ranks_trained = 2;
  run.info.untimed = {"OUT/log.rank1.jsonl"};
  run.host(30);
  for (int step = 1; step <= 20; ++step) {
    const bool first_leads = step % 2 == 0;
    run.add(phased(0, step, first_leads ? 0.1 : 0.4, "log/out.log"));
    run.add(phased(1, step, first_leads ? 0.3 : 0.1, "OUT/log.rank1.jsonl"));
  }
  const Ledger ledger = ledger_of(run.finish(21));
  EXPECT_NEAR(seconds(ledger, LedgerClass::sync), 2, 0.01);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 18, 0.05);
}

TEST(LedgerWork, StopsAreAsLongAsTheThreadNeitherRanNorQueued) {
  // Stopped for 1.5 s in every 4 s, at an offset where every other second's tick sees it.
  Folder folder;
  Maker run(folder.path(), "stops");
  run.host(50);
  const auto ran_by = [](double t_s) {
    double ran_s = 0;
    for (double at_s = 0; at_s < t_s - 1e-9; at_s += 0.25) {
      const double phase_s = std::fmod(at_s, 4.0);
      ran_s += phase_s >= 2.25 && phase_s < 3.75 ? 0 : 0.25;
    }
    return ran_s;
  };
  for (int t = 0; t <= 41; ++t) {
    ProcSample sample;
    sample.t_s = t;
    sample.pid = 100;
    sample.role = "rank";
    sample.rank = 0;
    sample.cpu_s = sample.main_cpu_s = ran_by(t);
    sample.run_delay_s = sample.main_run_delay_s = 0;
    sample.main_state = t % 4 == 3 ? "T" : "R";
    run.add(sample);
  }
  for (int step = 1; step <= 40; ++step) run.add(phased(0, step, 0, "log/out.log"));
  const Ledger ledger = ledger_of(run.finish(41));
  EXPECT_NEAR(seconds(ledger, LedgerClass::host), 15, 1);
}

/// The busiest GPU's readings, once a second.
void gpu(Maker& run, double to_s, double util_frac) {
  for (int t = 0; t <= static_cast<int>(to_s); ++t) {
    GpuSample sample;
    sample.t_s = t + 0.02;
    sample.util_frac = util_frac;
    sample.tree_processes = 1;
    run.add(sample);
  }
}

TEST(LedgerWork, ADeviceThatGoesOnIsNotWaitingForData) {
  Folder folder;
  for (const bool dry : {false, true}) {
    Maker run(folder.path(), dry ? "dry" : "fed");
    run.host(80);
    Thread rank(run, 0);
    std::vector<double> ends_s;
    for (int step = 0; step < 40; ++step) {
      rank.does("input", 0.5).does("forward", 0.4).does("backward", 0.5).does("optimizer", 0.1);
      ends_s.push_back(rank.now_s());
    }
    log_steps(run, ends_s);
    gpu(run, rank.now_s(), dry ? 0.6 : 1.0);
    const Ledger ledger = ledger_of(run.finish(rank.now_s()));
    EXPECT_NEAR(seconds(ledger, LedgerClass::input), dry ? 20 : 0, 2) << dry;
    EXPECT_EQ(ledger.bottleneck.cls, dry ? LedgerClass::input : LedgerClass::compute);
  }
}

TEST(LedgerWork, TracesOfADeviceSplitItsTime) {
  Folder folder;
  Maker run(folder.path(), "traced");
  run.info.ranks_asked = run.info.ranks_trained = 2;
  run.host(80);
  Thread one(run, 0), other(run, 1);
  std::vector<double> ends_s;
  for (int step = 0; step < 40; ++step) {
    for (Thread* rank : {&one, &other}) {
      rank->does("input", 0.2).does("forward", 0.6).does("backward", 1.0).does("optimizer", 0.2);
    }
    ends_s.push_back(one.now_s());
  }
  log_steps(run, ends_s);
  gpu(run, one.now_s(), 0.99);
  for (int rank = 0; rank < 2; ++rank) {
    TraceWindow window;
    window.t_s = 40;
    window.t_end_s = 42;
    window.rank = rank;
    window.device = "gpu";
    window.communication_s = 0.9;
    window.exposed_communication_s = 0.5;
    window.launch_s = 0.1;
    window.input_s = 0.2;
    window.exposed_input_s = 0.05;
    run.writer().append(window);
  }
  const Ledger ledger = ledger_of(run.finish(one.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::sync), 19.5, 1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::host), 3.9, 0.5);
  EXPECT_NEAR(seconds(ledger, LedgerClass::input), 2, 0.5);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::sync);
}

/// Seconds of short steps, as the recorder keeps them: one span a work and path.
struct Piece {
  std::string work = {};
  double lasts_s = 0;
  std::int64_t stack = 1;
  std::int64_t samples = 1, asleep = 0;
  double running_s = 0;
};
double add_pieces(Maker& run, double t_s, const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    StackSpan span;
    span.t_s = t_s;
    span.t_end_s = t_s += piece.lasts_s;
    span.pid = 100;
    span.role = "rank";
    span.rank = 0;
    span.work = piece.work;
    span.samples = span.stretches.emplace(piece.samples);
    span.asleep = piece.asleep;
    span.running_s = piece.running_s;
    span.queued_s = 0;
    span.stack = piece.stack;
    run.writer().append(run.info.host, span);
  }
  return t_s;
}

TEST(LedgerWork, TheSchedulersSleepSharpensAWaitForData) {
  // Twenty samples a second; 0.3 s of it the loop waits, asleep. The samples saw it in 4 to 8.
  Folder folder;
  Maker run(folder.path(), "waits");
  run.host(120);
  double t_s = 0;
  std::vector<double> ends_s;
  for (int second = 0; second < 100; ++second) {
    const std::int64_t seen = second % 2 == 0 ? 8 : 5;  // by chance too many: 0.325 s a second
    const double input_s = 0.05 * static_cast<double>(seen), rest_s = 1 - input_s;
    t_s = add_pieces(run, t_s,
                     {{"input", input_s, 1, seen, seen, 0.1},
                      {"forward", 0.4 * rest_s, 2, 5, 0, 0.2},
                      {"backward", 0.6 * rest_s, 3, 20 - 5 - seen, 0, 0.4}});
    ends_s.push_back(t_s);
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(t_s));
  const LedgerRow& input = *row_of(ledger.rows, LedgerClass::input);
  EXPECT_NEAR(*input.seconds, 30, 0.5);
  EXPECT_LT(*input.high_s - *input.low_s, 4);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 70, 0.7);
}

TEST(LedgerWork, ShortStretchesAreKnownByTheirNumber) {
  // Work that never sleeps: the scheduler says nothing of it, and each stretch is one sample.
  Folder folder;
  Maker run(folder.path(), "busy");
  run.host(120);
  double t_s = 0;
  std::vector<double> ends_s;
  for (int second = 0; second < 100; ++second) {
    t_s = add_pieces(run, t_s,
                     {{"input", 0.3, 1, 6, 0, 0.3},
                      {"forward", 0.3, 2, 6, 0, 0.3},
                      {"backward", 0.4, 3, 8, 0, 0.4}});
    ends_s.push_back(t_s);
  }
  log_steps(run, ends_s);
  const Ledger ledger = ledger_of(run.finish(t_s));
  const LedgerRow& input = *row_of(ledger.rows, LedgerClass::input);
  EXPECT_NEAR(*input.seconds, 30, 0.1);
  // 600 stretches of half a distance squared: 0.87 s, and 2 % beside it.
  EXPECT_NEAR((*input.high_s - *input.low_s) / 2, 1.96 * std::hypot(0.87, 0.6), 0.2);
}

TEST(LedgerWork, ForwardPassesOfAnotherCallerAreAnEvaluation) {
  for (const bool has_backward : {false, true}) {
    Folder folder;
    Maker run(folder.path(), has_backward ? "phases" : "checks");
    run.host(120);
    for (const auto& [id, caller] :
         {std::pair(2, "train.py:main"), std::pair(4, "train.py:check")}) {
      StackFrames frames;
      frames.stack = id;
      frames.work = "forward";
      frames.frames = std::string(caller) + ";torch/nn/modules/module.py:_call_impl";
      run.writer().append(run.info.host, frames);
    }
    double t_s = 0;
    std::vector<double> ends_s;
    for (int second = 0; second < 100; ++second) {
      std::vector<Piece> pieces = {{"forward", 0.4, 2, 8, 0, 0.4},
                                   {"backward", 0.6, 3, 12, 0, 0.6}};
      if (second % 20 == 19) {
        pieces = {{"forward", 0.2, 2, 4, 0, 0.2},
                  {"forward", has_backward ? 0.2 : 0.5, 4, 10, 0, 0.5},
                  {"backward", has_backward ? 0.6 : 0.3, 3, 6, 0, 0.3}};
      }
      t_s = add_pieces(run, t_s, pieces);
      ends_s.push_back(t_s);
    }
    log_steps(run, ends_s);
    const Ledger ledger = ledger_of(run.finish(t_s));
    EXPECT_NEAR(seconds(ledger, LedgerClass::evaluation), has_backward ? 0 : 2.5, 0.01);
  }
}

TEST(LedgerWork, AnEvaluationBehindTheLastStepIsNoTeardown) {
  Folder folder;
  Maker run(folder.path(), "last");
  run.host(60);
  Thread rank(run, 0);
  std::vector<double> ends_s;
  for (int step = 0; step < 20; ++step) {
    rank.does("forward", 0.5).does("backward", 1).does("optimizer", 0.2);
    ends_s.push_back(rank.now_s());
  }
  log_steps(run, ends_s);
  rank.does("forward", 12).does("none", 1);
  const Ledger ledger = ledger_of(run.finish(rank.now_s()));
  EXPECT_NEAR(seconds(ledger, LedgerClass::evaluation), 12, 0.1);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 1, 0.1);
}

NcclSeconds nccl_row(int rank, double communication_s, double late_s, int last) {
  NcclSeconds row;
  row.t_s = 10;
  row.t_end_s = 60;
  row.pid = 100 + rank;
  row.rank = rank;
  row.observed_s = 2;
  row.communication_s = communication_s;
  row.late_s = late_s;
  row.matched = 50;
  row.last = last;
  row.file = "profile/nccl-rig-" + std::to_string(row.pid) + ".bin";
  return row;
}

bool has_finding(const Ledger& ledger, std::string_view id) {
  return std::any_of(ledger.findings.begin(), ledger.findings.end(),
                     [&](const Finding& one) { return one.id == id; });
}

TEST(LedgerWork, WithoutATraceNcclBoundsTheExchange) {
  Folder folder;
  Maker run(folder.path(), "nccl");
  run.info.ranks_asked = run.info.ranks_trained = 2;
  run.host(80);
  Thread one(run, 0), other(run, 1);
  std::vector<double> ends_s;
  for (int step = 0; step < 40; ++step) {
    for (Thread* rank : {&one, &other}) {
      rank->does("forward", 0.7).does("backward", 1.1).does("optimizer", 0.2);
    }
    ends_s.push_back(one.now_s());
  }
  log_steps(run, ends_s);
  gpu(run, one.now_s(), 0.99);
  run.writer().append(nccl_row(0, 0.8, 0.0, 5));
  run.writer().append(nccl_row(1, 0.4, 0.5, 45));
  const Ledger ledger = ledger_of(run.finish(one.now_s()));
  // 0.6 of 2 s in NCCL: between none and all of 0.3 of the steps were exposed.
  const LedgerRow& sync = *row_of(ledger.rows, LedgerClass::sync);
  EXPECT_NEAR(*sync.seconds, 0.15 * 80, 0.5);
  EXPECT_NEAR(*sync.low_s, 0, 0.5);
  EXPECT_NEAR(*sync.high_s, 0.3 * 80, 1);
  EXPECT_EQ(sync.how, How::derived);
  EXPECT_FALSE(sync.would_measure.empty());
  ASSERT_TRUE(has_finding(ledger, "rank-straggles"));
  for (const Finding& one_of : ledger.findings) {
    if (one_of.id != "rank-straggles") continue;
    EXPECT_NE(one_of.claim.find("for rank 1"), std::string::npos) << one_of.claim;
  }
}

TEST(LedgerWork, NamesTheRankThatOthersWaitFor) {
  for (const bool slow : {true, false}) {
    Folder folder;
    Maker run(folder.path(), slow ? "slow" : "even");
    run.info.ranks_asked = run.info.ranks_trained = 2;
    run.host(80);
    Thread one(run, 0), other(run, 1);
    std::vector<double> ends_s;
    for (int step = 0; step < 40; ++step) {
      one.does("input", 0.1).does("forward", 0.5).does("backward", 0.5);
      one.does("backward", slow ? 0.7 : 0.05, {1, 0}).does("optimizer", 0.2);
      other.does("input", slow ? 0.8 : 0.15).does("forward", 0.5).does("backward", 0.5);
      other.does("optimizer", 0.2);
      ends_s.push_back(one.now_s());
    }
    log_steps(run, ends_s);
    const Ledger ledger = ledger_of(run.finish(one.now_s()));
    EXPECT_EQ(has_finding(ledger, "rank-straggles"), slow);
    for (const Finding& found : ledger.findings) {
      if (found.id != "rank-straggles") continue;
      EXPECT_NE(found.claim.find("for rank 1, which had more of input"), std::string::npos)
          << found.claim;
    }
  }
}

TEST(LedgerWork, HostileSpansNeverBreakTheSum) {
  std::mt19937 random(7);
  const std::vector<std::string> works = {"input",    "forward",    "backward", "optimizer",
                                          "python",   "",           "stopped",  "sync",
                                          "nonsense", "evaluation", "none"};
  for (int round = 0; round < 40; ++round) {
    Folder folder;
    Maker run(folder.path(), "hostile" + std::to_string(round));
    std::uniform_real_distribution<double> when(-5, 60), lasts(-1, 5), part(-1, 8);
    for (int i = 0; i < 200; ++i) {
      StackSpan span;
      span.t_s = when(random);
      span.t_end_s = span.t_s + lasts(random);
      span.pid = static_cast<int>(random() % 3);
      span.role = random() % 4 != 0 ? "rank" : "loader";
      if (random() % 3 != 0) span.rank = static_cast<int>(random() % 3);
      span.work = works[random() % works.size()];
      span.samples = static_cast<std::int64_t>(random() % 30) - 5;
      if (random() % 2 != 0) span.running_s = part(random);
      if (random() % 2 != 0) span.queued_s = part(random);
      span.stack = static_cast<std::int64_t>(random() % 5);
      run.writer().append(run.info.host, span);
    }
    for (int step = 1; step < 20; ++step) run.line(step * 2.0, step);
    ledger_of(run.finish(50));
  }
}

}  // namespace
}  // namespace rigwise
