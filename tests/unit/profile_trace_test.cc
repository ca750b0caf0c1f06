// Reading of traces: real ones of torch on a CPU (tests/fixtures/traces), and GPU traces made by
// hand here in the form that Kineto writes.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/files.h"
#include "profile/trace_spans.h"
#include "rigwise/trace.h"

namespace rigwise {
namespace {

constexpr double kNs = 1.5e-9;  // sums of doubles that stand for whole nanoseconds

const std::filesystem::path kTraces = std::filesystem::path(RIGWISE_FIXTURES) / "traces";

Result<TraceSummary> read_text(std::string_view text, std::size_t chunk = 1 << 20,
                               TraceOptions options = {}) {
  TraceReader reader(options);
  for (std::size_t from = 0; from < text.size(); from += chunk)
    if (!reader.push(text.substr(from, chunk))) break;
  return reader.finish();
}

TraceSummary must_read(std::string_view text) {
  auto summary = read_text(text);
  EXPECT_TRUE(summary.ok()) << (summary.ok() ? "" : summary.error().message);
  return summary.ok() ? *summary : TraceSummary{};
}

void expect_sums(const TraceSplit& split) {
  EXPECT_NEAR(split.seconds_s,
              split.compute_s + split.exposed_communication_s + split.copy_s + split.idle_s, kNs);
  EXPECT_LE(split.exposed_communication_s, split.communication_s + kNs);
  EXPECT_LE(split.exposed_input_s, split.input_s + kNs);
  EXPECT_LE(split.exposed_input_s, split.idle_s + kNs);
  if (split.forward_s && split.backward_s && split.optimizer_s) {
    EXPECT_LE(*split.forward_s + *split.backward_s + *split.optimizer_s, split.compute_s + kNs);
  }
  EXPECT_LE(split.launch_s.value_or(0) + split.exposed_input_s, split.idle_s + kNs);
}

void expect_same(const TraceSplit& a, const TraceSplit& b) {
  EXPECT_EQ(a.seconds_s, b.seconds_s);
  EXPECT_EQ(a.compute_s, b.compute_s);
  EXPECT_EQ(a.exposed_communication_s, b.exposed_communication_s);
  EXPECT_EQ(a.copy_s, b.copy_s);
  EXPECT_EQ(a.idle_s, b.idle_s);
  EXPECT_EQ(a.input_s, b.input_s);
  EXPECT_EQ(a.exposed_input_s, b.exposed_input_s);
  EXPECT_EQ(a.optimizer_s, b.optimizer_s);
  EXPECT_EQ(a.launch_s, b.launch_s);
}

void expect_same(const TraceSummary& a, const TraceSummary& b) {
  EXPECT_EQ(a.device, b.device);
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_EQ(a.kernels, b.kernels);
  EXPECT_EQ(a.operators, b.operators);
  EXPECT_EQ(a.reading.events, b.reading.events);
  EXPECT_EQ(a.reading.used, b.reading.used);
  EXPECT_EQ(a.reading.malformed, b.reading.malformed);
  EXPECT_EQ(a.reading.first_bad_byte, b.reading.first_bad_byte);
  EXPECT_EQ(a.reading.whole, b.reading.whole);
  EXPECT_EQ(a.collectives.size(), b.collectives.size());
  ASSERT_EQ(a.steps.size(), b.steps.size());
  expect_same(a.total, b.total);
  for (std::size_t i = 0; i < a.steps.size(); ++i) expect_same(a.steps[i].split, b.steps[i].split);
}

// ----------------------------------------------------------------------------------------------
// traces made by hand, in microseconds

std::string event(std::string_view category, std::string_view name, int pid, int tid, double ts,
                  double dur, std::string_view args = "\"External id\": 1") {
  return fmt::format(
      "\n  {{\n    \"ph\": \"X\",\n    \"cat\": \"{}\",\n    \"name\": \"{}\",\n    \"pid\": {},\n"
      "    \"tid\": {},\n    \"ts\": {:.3f},\n    \"dur\": {:.3f}\n    ,\n    \"args\": {{\n"
      "      {}\n    }}\n  }},",
      category, name, pid, tid, ts, dur, args);
}

/// A kernel on a stream of device 0 and the call that launched it.
std::string kernel(int id, std::string_view name, int stream, double launched, double ts,
                   double dur, int thread = 100) {
  const bool copy = name.starts_with("Memcpy");
  return event("cuda_runtime", copy ? "cudaMemcpyAsync" : "cudaLaunchKernel", 100, thread, launched,
               2, fmt::format("\"External id\": {0}, \"cbid\": 211, \"correlation\": {0}", id)) +
         event(copy ? "gpu_memcpy" : "kernel", name, 0, stream, ts, dur,
               fmt::format("\"External id\": {0}, \"queued\": 0, \"device\": 0, \"context\": 1,"
                           "\"stream\": {1}, \"correlation\": {0}, \"grid\": [128, 1, 1]",
                           id, stream));
}

std::string document(std::string_view events, std::string_view more = "") {
  std::string text =
      " {\n  \"schemaVersion\": 1,\n  \"deviceProperties\": [\n    {\"id\": 0, "
      "\"name\": \"made\", \"limits\": {\"]\": [1, {}]}}\n  ],\n";
  text += more;
  text +=
      "  \"displayTimeUnit\": \"ms\",\n  \"baseTimeNanoseconds\": 1700000000000000000,\n"
      "  \"traceEvents\": [\n  ";
  text += events;
  if (text.back() == ',') text.pop_back();
  return text + "\n  ],\"traceName\": \"made.json\" }";
}

/// Two steps: loader, forward and backward kernels, a collective half under the backward pass, a
/// copy, the optimizer.
std::string gpu_events() {
  std::string text;
  for (int step = 0; step < 2; ++step) {
    const double at = 1000 * step;
    const int id = 10 * step;
    text += event("user_annotation", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__",
                  100, 100, at, 100);
    text += kernel(id + 1, "Memcpy HtoD (Pageable -> Device)", 7, at + 105, at + 110, 40);
    text += kernel(id + 2, "void gemm<float>(int*)", 7, at + 112, at + 150, 200);
    text +=
        event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", 100, 101, at + 300, 90);
    text += kernel(id + 3, "void gemm_back<float>(int*)", 7, at + 310, at + 350, 200, 101);
    text += kernel(id + 4, "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)", 20, at + 380,
                   at + 450, 250, 101);
    text += event("user_annotation", "Optimizer.step#AdamW.step", 100, 100, at + 620, 60);
    text += kernel(id + 5, "void adam(float*)", 7, at + 750 - 110, at + 750, 50);
  }
  return text;
}

TEST(TraceGpu, SplitsTheDevicesSeconds) {
  const auto summary = must_read(document(gpu_events()));
  EXPECT_EQ(summary.device, "gpu");
  EXPECT_EQ(summary.devices, 1);
  EXPECT_EQ(summary.pid, 100);
  EXPECT_EQ(summary.kernels, 10);
  EXPECT_EQ(summary.unlaunched, 0);
  EXPECT_EQ(summary.steps_ended, 2);
  ASSERT_TRUE(summary.begin_unix_s);
  EXPECT_NEAR(*summary.begin_unix_s, 1700000000.000110, 1e-6);
  const TraceSplit& total = summary.total;
  expect_sums(total);
  EXPECT_NEAR(total.seconds_s, 1690e-6, kNs);  // 110 to 1800
  EXPECT_NEAR(total.compute_s, 900e-6, kNs);   // 2 × (200 + 200 + 50)
  EXPECT_NEAR(total.communication_s, 500e-6, kNs);
  EXPECT_NEAR(total.exposed_communication_s, 300e-6, kNs);  // 550 to 700
  EXPECT_NEAR(total.copy_s, 80e-6, kNs);
  EXPECT_NEAR(total.idle_s, 410e-6, kNs);   // 700 to 750 twice, 800 to 1110
  EXPECT_NEAR(total.input_s, 100e-6, kNs);  // of the second step: the first lies before the window
  EXPECT_NEAR(total.exposed_input_s, 100e-6, kNs);
  EXPECT_NEAR(total.forward_s.value_or(-1), 400e-6, kNs);
  EXPECT_NEAR(total.backward_s.value_or(-1), 400e-6, kNs);
  EXPECT_NEAR(total.optimizer_s.value_or(-1), 100e-6, kNs);
  // the copy was launched at 1105, behind 800; of that gap the loader's 100 µs are input
  EXPECT_NEAR(total.launch_s.value_or(-1), 210e-6, kNs);
  ASSERT_EQ(summary.steps.size(), 1U);
  expect_sums(summary.steps[0].split);
  EXPECT_NEAR(summary.steps[0].split.seconds_s, 1000e-6, kNs);  // adam's end to adam's end
  EXPECT_NEAR(summary.steps[0].split.compute_s, 450e-6, kNs);
}

TEST(TraceGpu, GapsOfAStreamAreHostWaitKernelWaitOrOther) {
  const auto summary = must_read(document(
      kernel(1, "a", 7, 0, 10, 100) + kernel(2, "b", 7, 50, 112, 100)     // 2 µs: kernel wait
      + kernel(3, "c", 7, 60, 300, 100)                                   // 88 µs, launched: other
      + kernel(4, "d", 7, 450, 500, 10) + kernel(5, "e", 8, 0, 20, 5)));  // 100 µs: host wait
  ASSERT_EQ(summary.streams.size(), 2U);
  EXPECT_EQ(summary.streams[0].stream, 7);
  EXPECT_EQ(summary.streams[0].kernels, 4);
  EXPECT_NEAR(summary.streams[0].busy_s, 310e-6, kNs);
  EXPECT_NEAR(summary.streams[0].kernel_wait_s, 2e-6, kNs);
  EXPECT_NEAR(summary.streams[0].other_s, 88e-6, kNs);
  EXPECT_NEAR(summary.streams[0].host_wait_s, 100e-6, kNs);
  EXPECT_NEAR(summary.total.launch_s.value_or(-1), 100e-6, kNs);
}

TEST(TraceGpu, TailIsIdleOnlyWhereNothingWasOnItsWay) {
  const std::string profiler = event("Trace", "PyTorch Profiler (0)", 1, 1, 0, 1000);
  const std::string ran = kernel(1, "a", 7, 5, 10, 100);
  auto summary = must_read(document(ran + profiler));
  EXPECT_NEAR(summary.total.seconds_s, 990e-6, kNs);
  EXPECT_NEAR(summary.tail_s, 890e-6, kNs);
  EXPECT_NEAR(summary.lead_s, 10e-6, kNs);
  summary = must_read(document(
      ran + event("cuda_runtime", "cudaLaunchKernel", 100, 100, 60, 2, "\"correlation\": 9") +
      profiler));
  EXPECT_NEAR(summary.total.seconds_s, 100e-6, kNs);
  EXPECT_EQ(summary.tail_s, 0);
}

TEST(TraceGpu, WithoutLaunchesNothingIsSaidAboutThem) {
  const auto summary = must_read(document(event("kernel", "a", 0, 7, 10, 5, "\"stream\": 7") +
                                          event("kernel", "b", 0, 7, 30, 5, "\"stream\": 7")));
  EXPECT_EQ(summary.unlaunched, 2);
  EXPECT_FALSE(summary.total.launch_s);
  EXPECT_FALSE(summary.total.optimizer_s);
  EXPECT_NEAR(summary.total.idle_s, 15e-6, kNs);
}

TEST(TraceGpu, OrderAndRepetitionChangeNothing) {
  std::vector<std::string> events;
  const std::string all = gpu_events();
  for (std::size_t from = 0; from < all.size();) {
    const std::size_t next = std::min(all.find("\n  {", from + 1), all.size());
    events.push_back(all.substr(from, next - from));
    from = next;
  }
  ASSERT_EQ(events.size(), 26U);
  std::string backwards, twice;
  for (const auto& text : events) {
    backwards.insert(0, text);
    twice += text + text;
  }
  const auto summary = must_read(document(all));
  expect_same(summary.total, must_read(document(backwards)).total);
  const auto repeated = must_read(document(twice));
  expect_same(summary.total, repeated.total);
  EXPECT_EQ(repeated.steps_ended, 2);
  EXPECT_EQ(repeated.collectives.size(), 2U);
  EXPECT_EQ(repeated.reading.duplicates, 2);
}

TEST(TraceCpu, OptimizersBehindOneBackwardPassAreOneStep) {
  std::string text;
  for (int step = 0; step < 3; ++step) {
    const double at = 100 * step;
    text += event("cpu_op", "aten::mm", 100, 100, at, 20);
    text +=
        event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", 100, 100, at + 30, 20);
    text += event("user_annotation", "Optimizer.step#Muon.step", 100, 100, at + 60, 10);
    text += event("user_annotation", "Optimizer.step#AdamW.step", 100, 100, at + 75, 10);
  }
  const auto summary = must_read(document(text));
  EXPECT_EQ(summary.device, "cpu");
  EXPECT_EQ(summary.steps_ended, 3);
  ASSERT_EQ(summary.steps.size(), 2U);
  EXPECT_NEAR(summary.steps[0].split.seconds_s, 100e-6, kNs);
  EXPECT_NEAR(summary.steps[0].split.compute_s, 60e-6, kNs);
  EXPECT_NEAR(summary.steps[0].split.forward_s.value_or(-1), 20e-6, kNs);
  EXPECT_NEAR(summary.steps[0].split.backward_s.value_or(-1), 20e-6, kNs);
  EXPECT_NEAR(summary.steps[0].split.optimizer_s.value_or(-1), 20e-6, kNs);
}

TEST(TraceCpu, ProfilerStepsServeWhereThereIsNoOptimizer) {
  const auto summary =
      must_read(document(event("user_annotation", "ProfilerStep#3", 9, 9, 0, 100) +
                         event("cpu_op", "aten::mm", 9, 9, 10, 50) +
                         event("user_annotation", "ProfilerStep#4", 9, 9, 100, 100) +
                         event("cpu_op", "aten::mm", 9, 9, 110, 70)));
  EXPECT_EQ(summary.steps_ended, 2);
  ASSERT_EQ(summary.steps.size(), 1U);
  EXPECT_NEAR(summary.steps[0].split.compute_s, 70e-6, kNs);
}

TEST(TraceCpu, CommunicationIsExposedWhereNeitherMainNorAutogradComputes) {
  const auto summary = must_read(document(
      event("cpu_op", "aten::mm", 100, 100, 0, 100) +
      event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", 100, 107, 150, 100) +
      event("cpu_op", "aten::copy_", 100, 108, 0, 1000) +  // a pinning thread
      event("cpu_op", "aten::mm", 555, 555, 0, 1000) +     // another process
      event("user_annotation", "gloo:all_reduce", 100, 120, 200, 200) +
      event("cpu_op", "c10d::allreduce_", 100, 100, 180, 30) +
      event("user_annotation", "enumerate(DataLoader)#_X.__next__", 100, 100, 380, 40) +
      event("cpu_op", "aten::stack", 100, 100, 390, 10) +
      event("user_annotation", "Optimizer.step#SGD.step", 100, 100, 430, 20)));
  const TraceSplit& total = summary.total;
  expect_sums(total);
  EXPECT_NEAR(total.seconds_s, 450e-6, kNs);
  EXPECT_NEAR(total.compute_s, 220e-6, kNs);                // 0–100, 150–250, 430–450
  EXPECT_NEAR(total.communication_s, 220e-6, kNs);          // 180–400
  EXPECT_NEAR(total.exposed_communication_s, 130e-6, kNs);  // 250–380: then the loader
  EXPECT_NEAR(total.input_s, 40e-6, kNs);
  EXPECT_NEAR(total.exposed_input_s, 40e-6, kNs);
  EXPECT_EQ(summary.reading.foreign, 1);
}

// ----------------------------------------------------------------------------------------------
// real traces

TEST(TraceReal, OneProcessOnACpu) {
  const auto read = read_trace(kTraces / "single.json.gz");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->device, "cpu");
  EXPECT_EQ(read->host, "vm");
  EXPECT_FALSE(read->rank);
  EXPECT_EQ(read->backend, "");
  EXPECT_TRUE(read->reading.whole);
  EXPECT_EQ(read->reading.malformed, 0);
  EXPECT_EQ(read->reading.events, 1331);
  EXPECT_EQ(read->operators, 1228);  // as Python's json counts them
  EXPECT_EQ(read->steps_ended, 4);
  ASSERT_EQ(read->steps.size(), 3U);
  expect_sums(read->total);
  for (const auto& step : read->steps) expect_sums(step.split);
  EXPECT_EQ(read->total.communication_s, 0);
  EXPECT_GT(read->total.input_s, 0);
  EXPECT_GT(read->total.backward_s.value_or(0), 0);
  EXPECT_GT(read->total.optimizer_s.value_or(0), 0);
  EXPECT_FALSE(read->total.launch_s);
}

TEST(TraceReal, TwoRanksAndTheLateOneIsNamed) {
  std::vector<TraceSummary> ranks;
  for (const char* name : {"pair-rank0.json.gz", "pair-rank1.json.gz"}) {
    auto read = read_trace(kTraces / name);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->backend, "gloo");
    EXPECT_EQ(read->ranks, 2);
    EXPECT_EQ(read->steps_ended, 4);
    EXPECT_EQ(read->collectives.size(), 6U);  // 4 all_reduce, 2 broadcast
    expect_sums(read->total);
    ranks.push_back(std::move(*read));
  }
  EXPECT_EQ(ranks[0].rank, 0);
  EXPECT_EQ(ranks[1].rank, 1);
  const auto compared = compare_ranks(ranks);
  ASSERT_TRUE(compared.ok()) << compared.error().message;
  EXPECT_EQ(compared->matched, 6);
  EXPECT_EQ(compared->unmatched, 0);
  EXPECT_TRUE(compared->clocks_agree);
  ASSERT_TRUE(compared->straggler);
  EXPECT_EQ(*compared->straggler, 1U);
  EXPECT_GT(compared->ranks[1].caused_wait_s, 0.06);  // 4 × 20 ms slept, less what ranks were apart
  EXPECT_GT(compared->ranks[0].waited_s, 0.06);
  EXPECT_GT(compared->ranks[1].late_s, 0.01);
}

TEST(TraceReal, ShiftedClocksAreNoticedAndTakenOff) {
  std::vector<TraceSummary> ranks;
  for (const char* name : {"pair-rank0.json.gz", "pair-rank1.json.gz"})
    ranks.push_back(read_trace(kTraces / name).value());
  const auto before = compare_ranks(ranks).value();
  ranks[1].begin_unix_s = *ranks[1].begin_unix_s + 37.5;
  const auto after = compare_ranks(ranks);
  ASSERT_TRUE(after.ok()) << after.error().message;
  EXPECT_FALSE(after->clocks_agree);
  EXPECT_NEAR(after->ranks[1].clock_offset_s, 37.5, 0.02);
  ASSERT_TRUE(after->straggler);
  EXPECT_EQ(*after->straggler, 1U);
  ASSERT_EQ(after->notes.size(), 1U);
  EXPECT_NE(after->notes[0].find("ahead"), std::string::npos) << after->notes[0];
  EXPECT_NEAR(after->ranks[1].caused_wait_s, before.ranks[1].caused_wait_s, 0.05);
}

// ----------------------------------------------------------------------------------------------
// ranks, made by hand

TraceSummary rank_with(int rank, double begin_unix_s, std::vector<TraceCollective> collectives) {
  TraceSummary summary;
  summary.rank = rank;
  summary.host = "here";
  summary.device = "cpu";
  summary.begin_unix_s = begin_unix_s;
  summary.reading.whole = true;
  summary.collectives = std::move(collectives);
  return summary;
}

/// One all-reduce a second from `from` on; the rank arrives late_s behind the second, all leave at
/// 0.4 s past it, a little apart.
std::vector<TraceCollective> all_reduces(int from, int until, double late_s, double begin_s,
                                         double leaves_s = 0) {
  std::vector<TraceCollective> rows;
  for (int k = from; k < until; ++k) {
    const double wobble = 0.003 * std::sin(1.7 * k * k);  // steps are never of one length
    rows.push_back({.name = "allreduce",
                    .begin_s = k + late_s - begin_s,
                    .end_s = k + 0.4 + wobble + leaves_s - begin_s});
  }
  return rows;
}

TEST(TraceRanks, WindowsThatBeginAtDifferentCollectives) {
  const std::vector ranks = {rank_with(0, 1e9, all_reduces(0, 8, 0.0, 0)),
                             rank_with(1, 1e9 + 2, all_reduces(2, 10, 0.3, 2, 0.001)),
                             rank_with(2, 1e9 + 1, all_reduces(1, 9, 0.1, 1, 0.002))};
  const auto out = compare_ranks(ranks);
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_TRUE(out->clocks_agree);
  EXPECT_EQ(out->matched, 6);
  EXPECT_EQ(out->unmatched, 24 - 18);
  ASSERT_TRUE(out->straggler);
  EXPECT_EQ(out->ranks[*out->straggler].rank, 1);
  EXPECT_EQ(out->ranks[1].last, 6);
  EXPECT_NEAR(out->ranks[0].waited_s, 6 * 0.3, 1e-6);
  EXPECT_NEAR(out->ranks[2].waited_s, 6 * 0.2, 1e-6);
  EXPECT_NEAR(out->ranks[1].caused_wait_s, 6 * 0.25, 1e-6);
  EXPECT_NEAR(out->ranks[1].late_s, 0.3, 1e-6);
}

TEST(TraceRanks, AnHourBetweenTheClocksOfTwoHosts) {
  auto far = rank_with(1, 1e9 + 3600 + 2, all_reduces(2, 10, 0.3, 2, 0.001));
  far.host = "there";
  const std::vector ranks = {rank_with(0, 1e9, all_reduces(0, 8, 0.0, 0)), far};
  const auto out = compare_ranks(ranks);
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_FALSE(out->clocks_agree);
  EXPECT_NEAR(out->ranks[1].clock_offset_s, 3600.001, 1e-5);
  EXPECT_EQ(out->matched, 6);
  EXPECT_EQ(out->straggler, 1U);
}

TEST(TraceRanks, SequenceNumbersMatchWhateverTheOrder) {
  auto a = all_reduces(0, 8, 0.0, 0), b = all_reduces(4, 12, 0.2, 4);
  for (int k = 0; k < 8; ++k) {
    a[static_cast<std::size_t>(k)].sequence = 100 + k;
    b[static_cast<std::size_t>(k)].sequence = 104 + k;
  }
  std::swap(b[0], b[3]);
  const std::vector ranks = {rank_with(0, 1e9, a), rank_with(1, 1e9 + 4, b)};
  const auto out = compare_ranks(ranks);
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_EQ(out->matched, 4);
  EXPECT_NEAR(out->ranks[0].waited_s, 4 * 0.2, 1e-6);
}

TEST(TraceRanks, EvenRanksHaveNoStraggler) {
  const std::vector ranks = {rank_with(0, 1e9, all_reduces(0, 9, 0.001, 0)),
                             rank_with(1, 1e9, all_reduces(0, 9, 0.0, 0))};
  const auto out = compare_ranks(ranks);
  ASSERT_TRUE(out.ok());
  EXPECT_FALSE(out->straggler);
}

TEST(TraceRanks, SaysWhatIsMissing) {
  EXPECT_EQ(compare_ranks({}).error().code, Errc::usage);
  std::vector ranks = {rank_with(0, 1e9, all_reduces(0, 9, 0, 0)), rank_with(1, 1e9, {})};
  const auto none = compare_ranks(ranks);
  EXPECT_EQ(none.error().code, Errc::unavailable);
  EXPECT_NE(none.error().message.find("rank 1"), std::string::npos);
  ranks[1].collectives = {{.name = "broadcast", .begin_s = 0, .end_s = 1}};
  EXPECT_EQ(compare_ranks(ranks).error().code, Errc::unavailable);
}

// ----------------------------------------------------------------------------------------------
// bad input

std::string unpacked(const char* name) {
  const std::string command = "gzip -dc '" + (kTraces / name).string() + "'";
  std::string text;
  if (FILE* pipe = ::popen(command.c_str(), "r")) {
    char chunk[65536];
    for (std::size_t got; (got = fread(chunk, 1, sizeof chunk, pipe)) > 0;) text.append(chunk, got);
    ::pclose(pipe);
  }
  return text;
}

TEST(TraceHostile, AnyChunksSayTheSame) {
  const std::string real = unpacked("pair-rank1.json.gz");
  ASSERT_GT(real.size(), 300'000U);
  const std::string made = document(gpu_events());
  for (const std::string& text : {real, made}) {
    const auto whole = read_text(text);
    ASSERT_TRUE(whole.ok());
    for (const std::size_t chunk : {1U, 7U, 4096U}) {
      const auto cut = read_text(text, chunk);
      ASSERT_TRUE(cut.ok());
      expect_same(*whole, *cut);
    }
  }
}

TEST(TraceHostile, CutAtEveryByte) {
  const std::string text = document(gpu_events());
  const auto whole = must_read(text);
  ASSERT_TRUE(whole.reading.whole);
  for (std::size_t size = 0; size < text.size(); ++size) {
    const auto cut = read_text(std::string_view(text).substr(0, size));
    if (size < 2) {
      ASSERT_FALSE(cut.ok()) << size;
      EXPECT_EQ(cut.error().code, Errc::malformed);
      continue;
    }
    ASSERT_TRUE(cut.ok()) << size;
    ASSERT_FALSE(cut->reading.whole) << size;
    ASSERT_EQ(cut->reading.malformed, 0) << size;
    ASSERT_LE(cut->kernels, whole.kernels);
    if (!cut->device.empty()) expect_sums(cut->total);
    const auto window = window_of(*cut, 0);
    ASSERT_FALSE(window.compute_s || window.idle_s || window.steps) << size;
  }
}

TEST(TraceHostile, OneByteWrongAnywhere) {
  const std::string text = document(gpu_events());
  const auto whole = must_read(text);
  for (std::size_t at = 0; at < text.size(); at += 3) {
    for (const char byte : {'"', '{', '}', '\\', '\n', '\0', '9', '-'}) {
      std::string bad = text;
      bad[at] = byte;
      const auto read = read_text(bad);
      if (!read.ok()) continue;
      // never more than one event is lost for one byte, but where it hides the rest of the document
      if (read->reading.whole && read->reading.events > 20) {
        ASSERT_GE(read->reading.events - read->reading.malformed, 24) << at << " " << byte;
      }
      if (!read->device.empty()) expect_sums(read->total);
    }
  }
}

TEST(TraceHostile, NamesWithBareQuotesCostOneEvent) {
  // pytorch#146900: older Kineto wrote names with quotes as they were
  const auto summary = must_read(
      document(kernel(1, "a", 7, 0, 10, 100) +
               event("python_function", "{\"device\": \"cpu\"}.py(3): <module>", 1, 1, 0, 5) +
               event("python_function", "odd\"one.py(3): <module>", 1, 1, 0, 5) +
               kernel(2, "b", 7, 50, 112, 100)));
  EXPECT_TRUE(summary.reading.whole);
  EXPECT_EQ(summary.reading.events, 6);
  EXPECT_EQ(summary.reading.malformed, 2);
  EXPECT_EQ(summary.kernels, 2);
  ASSERT_TRUE(summary.reading.first_bad_byte);
  EXPECT_EQ(summary.reading.first_bad_text.substr(0, 1), "{");
}

TEST(TraceHostile, NumbersThatAreNone) {
  const std::string good = event("cpu_op", "aten::mm", 1, 1, 10, 5);
  const auto with = [&](std::string_view ts, std::string_view dur) {
    return fmt::format(
        "{{\"ph\": \"X\", \"cat\": \"cpu_op\", \"name\": \"aten::mm\", \"pid\": 1, "
        "\"tid\": 1, \"ts\": {}, \"dur\": {}}},",
        ts, dur);
  };
  std::string bad;
  for (const char* number : {"NaN", "nan", "Infinity", "-inf", "null", "\"\"", "{}", "[1]", "1e300",
                             "99999999999999999999999999", "1.2.3", "- 1", "true"}) {
    bad += with(number, "5") + with("10", number);
  }
  bad += with("10", "-5");
  const auto summary = must_read(document(good + bad + good));
  EXPECT_EQ(summary.reading.bad_times + summary.reading.malformed, 27);
  EXPECT_NEAR(summary.total.compute_s, 5e-6, kNs);
  const auto quoted = must_read(document(with("\"10\"", "5e0") + with("2.5E1", "5.0")));
  EXPECT_NEAR(quoted.total.compute_s, 10e-6, kNs);
  EXPECT_NEAR(quoted.total.seconds_s, 20e-6, kNs);
}

TEST(TraceHostile, UnknownPhasesWordsAndNesting) {
  std::string deep(200'000, '[');
  deep += std::string(200'000, ']');
  const auto summary = must_read(
      document(event("cpu_op", "aten::mm", 1, 1, 10, 5, "\"Input Dims\": " + deep) +
               "{\"ph\": \"Q\", \"ts\": 1}, {\"name\": \"none\"}, 17, \"word\", [1, 2], null, {}," +
               event("cpu_op", "aten::mm", 1, 1, 20, 5,
                     "\"a\\\"b{\": \"}\\\\\", \"nested\": {\"x\": [{\"y\": \"]\"}]}")));
  EXPECT_TRUE(summary.reading.whole);
  EXPECT_EQ(summary.operators, 2);
  EXPECT_EQ(summary.reading.malformed, 4);
  EXPECT_EQ(summary.reading.unknown_phases, 3);
}

TEST(TraceHostile, HugeEventsArePassedOver) {
  const std::string huge(3 << 20, 'x');
  const std::string text =
      document(event("cpu_op", "aten::mm", 1, 1, 10, 5) + event("cpu_op", huge, 1, 1, 12, 5) +
                   event("cpu_op", "aten::mm", 1, 1, 20, 5),
               "  \"comment\": \"" + huge + "\",\n  \"" + huge + "\": [\"" + huge + "\"],\n");
  for (const std::size_t chunk : {std::size_t{4096}, std::size_t{1} << 24}) {
    const auto summary = read_text(text, chunk);
    ASSERT_TRUE(summary.ok());
    EXPECT_TRUE(summary->reading.whole);
    EXPECT_EQ(summary->operators + summary->reading.oversized, 3);
    EXPECT_GE(summary->operators, 2);
  }
}

TEST(TraceHostile, MemoryIsBounded) {
  TraceReader reader({.most_kept_bytes = 1 << 20});
  bool more = reader.push("{\"traceEvents\": [");
  std::int64_t pushed = 0;
  for (; more && pushed < 1'000'000; ++pushed)
    more = reader.push(event("kernel", "k", 0, 7, 10.0 * static_cast<double>(pushed), 5));
  EXPECT_LT(pushed, 100'000);
  const auto summary = reader.finish();
  ASSERT_TRUE(summary.ok());
  EXPECT_FALSE(summary->reading.whole);
  EXPECT_NE(summary->reading.why_not.find("1 MiB"), std::string::npos);
  EXPECT_FALSE(window_of(*summary, 0).compute_s);
}

TEST(TraceHostile, NoTraceAtAll) {
  for (const char* text : {"", "   \n", "hello", "\x1f\x8b", "<html>", "12"}) {
    const auto read = read_text(text);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.error().code, Errc::malformed);
    EXPECT_FALSE(read.error().hint.empty());
  }
  for (const char* text :
       {"{}", "[]", "{\"traceEvents\": []}", "\xEF\xBB\xBF{\"traceEvents\": []}"}) {
    const auto read = read_text(text);
    ASSERT_TRUE(read.ok()) << text;
    EXPECT_TRUE(read->reading.whole) << text;
    EXPECT_EQ(read->device, "");
    EXPECT_FALSE(window_of(*read, 0).idle_s);
  }
  EXPECT_EQ(read_trace(kTraces / "none.json").error().code, Errc::not_found);
  EXPECT_FALSE(read_trace(kTraces).ok());
}

class TraceFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("rigwise-trace-{}-{}.json", ::getpid(),
                        ::testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void TearDown() override { std::filesystem::remove(path_); }
  Result<TraceSummary> read(std::string_view bytes) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
    return read_trace(path_);
  }
  std::filesystem::path path_;
};

TEST_F(TraceFile, GzipCutAtEveryByteAndBroken) {
  const auto packed = read_file(kTraces / "single.json.gz");
  ASSERT_TRUE(packed.ok());
  const auto whole = read(*packed);
  ASSERT_TRUE(whole.ok() && whole->reading.whole);
  for (std::size_t size = 1; size + 8 < packed->size(); size += size < 64 ? 1 : 997) {
    const auto cut = read(packed->substr(0, size));
    if (cut.ok()) {
      EXPECT_FALSE(cut->reading.whole) << size;
    } else {
      EXPECT_EQ(cut.error().code, Errc::malformed) << size;
    }
  }
  std::string broken = *packed;
  for (std::size_t i = broken.size() / 2; i < broken.size() / 2 + 64; ++i) broken[i] = '\x55';
  const auto read_broken = read(broken);
  ASSERT_TRUE(read_broken.ok());
  if (!read_broken->reading.whole) {
    EXPECT_NE(read_broken->reading.why_not.find("gzip"), std::string::npos);
  }
}

TEST(TraceWindowOf, LiesOnTheRunsClock) {
  auto summary = must_read(document(gpu_events(),
                                    "  \"distributedInfo\": {\"backend\": \"nccl\", "
                                    "\"rank\": 3, \"world_size\": 4},\n"
                                    "  \"host_name\": \"alpha\",\n"));
  EXPECT_EQ(summary.backend, "nccl");
  summary.file = "profile/trace-100-1.json";
  const TraceWindow window = window_of(summary, 1700000000.0 - 12);
  EXPECT_NEAR(window.t_s, 12.00011, 1e-5);
  EXPECT_NEAR(window.t_end_s - window.t_s, 1690e-6, 1e-6);
  EXPECT_EQ(window.host, "alpha");
  EXPECT_EQ(window.rank, 3);
  EXPECT_EQ(window.pid, 100);
  EXPECT_EQ(window.steps, 2);
  EXPECT_EQ(window.device, "gpu");
  EXPECT_EQ(window.file, "profile/trace-100-1.json");
  EXPECT_NEAR(*window.compute_s + *window.exposed_communication_s + *window.copy_s + *window.idle_s,
              1690e-6, kNs);
}

TEST(TraceSpans, SetsOfInstants) {
  const auto as_pairs = [](const Spans& spans) {
    std::vector<std::pair<std::int64_t, std::int64_t>> out;
    for (const Span& span : spans) out.emplace_back(span.begin_ns, span.end_ns);
    return out;
  };
  using Pairs = std::vector<std::pair<std::int64_t, std::int64_t>>;
  const Spans a = settled({{5, 9}, {0, 3}, {3, 4}, {7, 8}, {6, 6}});
  EXPECT_EQ(as_pairs(a), (Pairs{{0, 4}, {5, 9}}));
  const Spans b = settled({{2, 6}, {20, 30}});
  EXPECT_EQ(as_pairs(unite(a, b)), (Pairs{{0, 9}, {20, 30}}));
  EXPECT_EQ(as_pairs(subtract(a, b)), (Pairs{{0, 2}, {6, 9}}));
  EXPECT_EQ(as_pairs(intersect(a, b)), (Pairs{{2, 4}, {5, 6}}));
  EXPECT_EQ(as_pairs(complement(a, -1, 12)), (Pairs{{-1, 0}, {4, 5}, {9, 12}}));
  EXPECT_EQ(as_pairs(complement(a, 1, 3)), Pairs{});
  EXPECT_EQ(covered_ns(a, 1, 7), 5);
  EXPECT_TRUE(contains(a, 5));
  EXPECT_FALSE(contains(a, 4));
  SpanList list;
  for (const auto& [begin, end] : Pairs{{10, 20}, {12, 13}, {20, 22}, {1, 2}}) list.add(begin, end);
  EXPECT_EQ(list.size(), 2U);
  EXPECT_EQ(as_pairs(list.settle()), (Pairs{{1, 2}, {10, 22}}));
}

}  // namespace
}  // namespace rigwise
