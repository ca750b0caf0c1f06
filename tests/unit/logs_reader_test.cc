#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "logs/assemble.h"
#include "logs/bar.h"
#include "logs/peel.h"
#include "logs/plan.h"
#include "logs/scan.h"
#include "rigwise/logs.h"

namespace rigwise {
namespace {

Json json_of(const StepRecord& r) {
  Json j;
  j["kind"] = std::string(to_string(r.kind));
  put(j, "step", r.step);
  put(j, "bar_step", r.bar_step);
  put(j, "steps_total", r.steps_total);
  put(j, "epoch", r.epoch);
  put(j, "loss", r.loss);
  put(j, "eval_loss", r.eval_loss);
  put(j, "lr", r.lr);
  put(j, "grad_norm", r.grad_norm);
  put(j, "step_time_s", r.step_time_s);
  put(j, "steps_per_s", r.steps_per_s);
  put(j, "samples_per_s", r.samples_per_s);
  put(j, "tokens_per_s", r.tokens_per_s);
  put(j, "tokens_seen", r.tokens_seen);
  put(j, "runtime_s", r.runtime_s);
  put(j, "mem_gib", r.mem_gib);
  put(j, "mfu", r.mfu_frac);
  put(j, "rank", r.rank);
  if (r.per_device) j["scope"] = "per_device";
  j["line"] = r.log_line;
  j["format"] = r.log_format;
  return j;
}

Json json_of(const Event& e) {
  Json j;
  j["event"] = std::string(to_string(e.kind));
  if (!e.name.empty()) j["name"] = e.name;
  put(j, "step", e.step);
  put(j, "rank", e.rank);
  if (!e.detail.empty()) j["detail"] = e.detail;
  return j;
}

struct Read {
  std::vector<std::string> steps, others, facts;
  [[nodiscard]] std::vector<std::string> all() const {
    std::vector<std::string> lines = steps;
    lines.insert(lines.end(), others.begin(), others.end());
    lines.insert(lines.end(), facts.begin(), facts.end());
    return lines;
  }
  void take(const LogBatch& batch) {
    for (const auto& record : batch.steps) steps.push_back(json_of(record).dump());
    for (const auto& event : batch.events) others.push_back(json_of(event).dump());
    for (const auto& fact : batch.facts)
      facts.push_back(
          Json{{"fact", fact.key}, {"value", fact.value}, {"source", fact.source}}.dump());
  }
};

Read read_in(std::string_view text, std::size_t chunk, ReadStatistics* statistics = nullptr) {
  LogReader reader("log/out.log");
  Read read;
  for (std::size_t at = 0; at < text.size(); at += chunk)
    read.take(reader.push(text.substr(at, chunk), 1.0));
  read.take(reader.finish(1.0));
  if (statistics != nullptr) *statistics = reader.statistics();
  return read;
}

std::vector<std::filesystem::path> fixtures() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(RIGWISE_FIXTURES "/logs"))
    if (entry.path().extension() == ".log") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

class LogFixture : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(LogFixture, ReadsAsExpected) {
  const auto text = read_file(GetParam());
  ASSERT_TRUE(text.ok());
  ReadStatistics statistics;
  const Read read = read_in(*text, text->size(), &statistics);
  std::string lines;
  for (const auto& line : read.all()) lines += line + '\n';
  lines += Json{{"lines", statistics.lines},
                {"matched", statistics.matched},
                {"skipped", statistics.skipped},
                {"malformed", statistics.malformed},
                {"first_bad_line", statistics.first_bad_line}}
               .dump() +
           '\n';
  std::filesystem::path golden = GetParam();
  golden.replace_extension(".expected.jsonl");
  if (std::getenv("RIGWISE_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(write_file_atomic(golden, lines).ok());
  }
  EXPECT_EQ(read_file(golden).value_or("(no such file)"), lines);
}

TEST_P(LogFixture, ByteByByteGivesTheSame) {
  const auto text = read_file(GetParam());
  ASSERT_TRUE(text.ok());
  const auto whole = read_in(*text, text->size()).all();
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, std::size_t{4096}})
    EXPECT_EQ(read_in(*text, chunk).all(), whole) << "chunks of " << chunk;
}

TEST_P(LogFixture, CutAtEveryByteGivesNoMore) {
  const auto text = read_file(GetParam());
  ASSERT_TRUE(text.ok());
  const auto whole = read_in(*text, text->size()).steps.size();
  for (std::size_t cut = 0; cut < text->size(); ++cut)
    ASSERT_LE(read_in(std::string_view(*text).substr(0, cut), 65536).steps.size(), whole) << cut;
}

INSTANTIATE_TEST_SUITE_P(Logs, LogFixture, testing::ValuesIn(fixtures()),
                         [](const auto& parameter) {
                           std::string name = parameter.param.parent_path().filename().string() +
                                              '_' + parameter.param.stem().string();
                           for (char& byte : name)
                             if (byte == '-') byte = '_';
                           return name;
                         });

/// What today's trainers print: the same promises, at fewer places.
TEST(LogReader, CapturedLogsInPiecesAndCut) {
  constexpr std::size_t kStride = 101;
  for (const auto& file : std::filesystem::directory_iterator(RIGWISE_FIXTURES "/logs/captured")) {
    if (file.path().extension() != ".jsonl") continue;
    const auto lines = read_file(file.path());
    ASSERT_TRUE(lines.ok());
    std::string_view rest = *lines;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const auto json = parse_json(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (!json) continue;
      const auto text = (*json)["log"].get<std::string>();
      const auto whole = read_in(text, text.size() + 1);
      EXPECT_EQ(read_in(text, 1).all(), whole.all()) << (*json)["id"];
      for (std::size_t cut = 0; cut < text.size(); cut += kStride) {
        if (cut > 0 && is_digit(text[cut - 1])) continue;  // half a number is another number
        EXPECT_LE(read_in(std::string_view(text).substr(0, cut), 65536).steps.size(),
                  whole.steps.size())
            << (*json)["id"] << " at " << cut;
      }
    }
  }
}

TEST(LogReader, StreamsApartAreJoinedByTheBar) {
  // Python buffers stdout into a pipe: all entries come at the end, the bars while training.
  const auto out = read_file(RIGWISE_FIXTURES "/logs/hf_trainer/pipe-apart.out");
  const auto err = read_file(RIGWISE_FIXTURES "/logs/hf_trainer/pipe-apart.err");
  ASSERT_TRUE(out.ok() && err.ok());
  LogReader out_reader("log/out.log"), err_reader("log/err.log");
  out_reader.join(err_reader);
  std::vector<StepRecord> steps;
  std::vector<Event> events;
  const auto take = [&](const LogBatch& batch) {
    steps.insert(steps.end(), batch.steps.begin(), batch.steps.end());
    events.insert(events.end(), batch.events.begin(), batch.events.end());
  };
  double t_s = 0;
  for (std::size_t at = 0; at < err->size(); at += 100, t_s += 0.1)
    take(err_reader.push(std::string_view(*err).substr(at, 100), t_s));
  take(out_reader.push(*out, t_s + 5));
  take(err_reader.finish(t_s + 5));
  take(out_reader.finish(t_s + 5));
  std::vector<std::int64_t> joined;
  for (const auto& record : steps)
    if (record.kind == RecordKind::train || record.kind == RecordKind::eval)
      joined.push_back(record.bar_step.value_or(-1));
  EXPECT_EQ(joined, (std::vector<std::int64_t>{5, 10, 10, 15, 20, 20}));
  int evaluations = 0;
  for (const auto& event : events) {
    if (event.kind == EventKind::evaluation) ++evaluations;
    EXPECT_LE(event.t_s, t_s + 0.1) << "an instant of a buffered line was believed";
  }
  EXPECT_EQ(evaluations, 3);
}

TEST(LogReader, EvaluationEventCoversItsRuntime) {
  LogReader reader("log/out.log");
  const auto batch =
      reader.push("{'eval_loss': '2.5', 'eval_runtime': '18.5', 'epoch': '1.0'}\n", 100);
  ASSERT_EQ(batch.events.size(), 1u);
  EXPECT_DOUBLE_EQ(batch.events[0].t_s, 81.5);
  EXPECT_DOUBLE_EQ(batch.events[0].t_end_s.value(), 100);
  EXPECT_EQ(batch.events[0].how, "log");
}

TEST(LogReader, EntryHasTheTimeOfItsLastByte) {
  LogReader reader("log/out.log");
  reader.push("step 1 loss: 2", 3);
  reader.push(".5 lr: 0.1", 4);
  const auto batch = reader.push("\n", 9);
  ASSERT_EQ(batch.steps.size(), 1u);
  EXPECT_DOUBLE_EQ(batch.steps[0].t_s, 4);
}

TEST(LogReader, WaitsForTheBarButNotForever) {
  LogReader reader("log/out.log");
  reader.push("\r 10%|#   | 1/10 [00:01<00:09,  1.00s/it]", 1);
  EXPECT_TRUE(reader.push("\r     \r{'loss': 2.0, 'epoch': 0.1}\n", 2).steps.size() <= 1);
  const auto late = reader.push("", 3);
  ASSERT_EQ(late.steps.size(), 1u);
  EXPECT_EQ(late.steps[0].bar_step, 1);  // a bar of slow steps is drawn at every step
  EXPECT_DOUBLE_EQ(late.steps[0].t_s, 2);
}

TEST(LogReader, UnjoinedProcessesAreTold) {
  LogReader reader("log/out.log");
  std::size_t records = 0;
  for (int i = 1; i <= 8; ++i)
    for (int copy = 0; copy < 2; ++copy) {
      const std::string line = "{'loss': '" + std::to_string(3.0 - 0.1 * i) + "', 'epoch': '" +
                               std::to_string(0.1 * i) + "', 'train_runtime': '" +
                               std::to_string(i + 0.01 * copy) + "'}\n";
      records += reader.push(line, i).steps.size();
    }
  EXPECT_EQ(records, 8u);
  EXPECT_EQ(reader.copies(), 2);
}

TEST(LogReader, BarsThatAreNoTraining) {
  const Read read = read_in(
      "\rLoading checkpoint shards: 100%|####| 2/2 [00:05<00:00,  2.5s/it]\n"
      "\rmodel.safetensors:  34%|###  | 1.2G/3.4G [00:10<00:20, 110MB/s]\n"
      "\rMap: 100%|####| 1000/1000 [00:01<00:00, 900.1 examples/s]\n"
      "\rGenerating train split: 500 examples [00:00, 1234.5 examples/s]\n"
      "\rEvaluating:  50%|##  | 4/8 [00:01<00:01,  4.0it/s]\n",
      1 << 16);
  EXPECT_TRUE(read.steps.empty());
  ASSERT_EQ(read.others.size(), 3u);
  EXPECT_NE(read.others[0].find("model load"), std::string::npos);
  EXPECT_NE(read.others[1].find("data preparation"), std::string::npos);
  EXPECT_NE(read.others[2].find("evaluation"), std::string::npos);
}

TEST(LogReader, LineWithoutEndCostsConstantMemoryAndIsCounted) {
  LogReader reader("log/out.log");
  const std::string chunk(1 << 20, 'x');
  for (int i = 0; i < 64; ++i) reader.push(chunk, i);
  const auto batch = reader.push("\nstep 1 loss: 2.5 lr: 0.1\n", 100);
  EXPECT_EQ(batch.steps.size(), 1u);
  reader.finish(100);
  EXPECT_EQ(reader.statistics().malformed, 1);
  EXPECT_EQ(reader.statistics().first_bad_line, 1);
  EXPECT_EQ(reader.statistics().lines, 2);
}

TEST(LogReader, HostileBytesNeverCrash) {
  std::mt19937 random(7);
  const std::string alphabet =
      "{}[]'\":,=|%/<>\r\n\b\x1b[0123456789.e-+ \xff\xc3loss step epoch it/s nan inf";
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 400; ++i) text += alphabet[random() % alphabet.size()];
    text += "{'loss': ";
    for (int i = 0; i < 50; ++i) text += alphabet[random() % alphabet.size()];
    const auto whole = read_in(text, text.size()).all();
    EXPECT_EQ(read_in(text, 1).all(), whole) << text;
  }
  read_in(std::string(200000, '{'), 65536);
  read_in("{'a':" + std::string(60000, '['), 65536);
}

TEST(LineAssembler, BackspacesAndEscapes) {
  std::string out;
  logs::clean_terminal_text("ab\b\bcd\x1b[32m!\x1b]0;title\a.\x1b[A", out);
  EXPECT_EQ(out, "cd!.");
  logs::clean_terminal_text("\xc3\xa9\b\bx", out);  // a whole character goes
  EXPECT_EQ(out, "x");
}

TEST(Scan, Numbers) {
  logs::Number number;
  ASSERT_TRUE(logs::scan_number("1,234,567.5 tok/s", number));
  EXPECT_DOUBLE_EQ(number.value, 1234567.5);
  EXPECT_EQ(number.size, 11u);
  ASSERT_TRUE(logs::scan_number("5,790", number));
  EXPECT_DOUBLE_EQ(number.value, 5790);
  EXPECT_DOUBLE_EQ(number.decimal, 5.79);
  ASSERT_TRUE(logs::scan_number("0,4217;", number));  // a decimal comma and nothing else
  EXPECT_DOUBLE_EQ(number.value, 0.4217);
  EXPECT_TRUE(number.sure_comma);
  ASSERT_TRUE(logs::scan_number("2.5e-05,", number));
  EXPECT_DOUBLE_EQ(number.value, 2.5e-5);
  ASSERT_TRUE(logs::scan_number("0.42176470160484314", number));
  EXPECT_DOUBLE_EQ(number.value, 0.42176470160484314);
  ASSERT_TRUE(logs::scan_number("-inf", number));
  EXPECT_TRUE(std::isinf(number.value) && number.value < 0);
  EXPECT_FALSE(logs::scan_number("nancy", number));
  EXPECT_FALSE(logs::scan_number("-x", number));
  EXPECT_DOUBLE_EQ(logs::scan_clock("0:00:10.48").value(), 10.48);
  EXPECT_DOUBLE_EQ(logs::scan_clock("41m 48s").value(), 2508);
  EXPECT_FALSE(logs::scan_clock("12 parsecs").has_value());
}

/// Every double that is printed shortest reads back as itself.
TEST(Scan, NumbersReadBack) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 20000; ++i) {
    const double value =
        std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 200) - 160);
    const std::string text = number_text(value);
    logs::Number number;
    ASSERT_TRUE(logs::scan_number(text, number, false)) << text;
    ASSERT_EQ(number.value, value) << text;
    ASSERT_EQ(number.size, text.size()) << text;
  }
}

TEST(Scan, Bars) {
  logs::Meanings meanings;
  logs::Trace trace;
  logs::PairReader pairs(meanings, trace);
  const auto find = [&](std::string_view text) { return logs::find_bar(text, 0, pairs); };
  const auto bar = find("Steps:  10% 103/1000 [05:03<44:00,  2.94s/it, lr=0.0001, a=b]");
  ASSERT_TRUE(bar.has_value());
  EXPECT_EQ(bar->n, 103);
  EXPECT_EQ(bar->total, 1000);
  EXPECT_EQ(bar->description, "Steps");
  EXPECT_DOUBLE_EQ(bar->figures.value(logs::Figure::step_time_s), 2.94);
  EXPECT_DOUBLE_EQ(bar->figures.value(logs::Figure::lr), 1e-4);
  EXPECT_FALSE(find("array[10:20, 5]").has_value());
  EXPECT_EQ(find("#015100%|###| 79/79 [00:19<00:00,  4.79it/s]")->n, 79);
}

TEST(Scan, RankPrefixes) {
  const auto peeled = [](std::string_view text) {
    const auto rank = logs::peel(text);
    return (rank ? std::to_string(*rank) : "-") + '|' + std::string(text);
  };
  EXPECT_EQ(peeled("[1,mpirank:3,algo-1]<stderr>:hello"), "3|hello");
  EXPECT_EQ(peeled("[1,0]<stdout>: hello"), "0| hello");
  EXPECT_EQ(peeled("[rank12]: x"), "12| x");
  EXPECT_EQ(peeled("[default3]:x"), "3|x");
  EXPECT_EQ(peeled("[rank: 1] step 2"), "1| step 2");
  EXPECT_EQ(peeled("rank 3: step 2"), "3| step 2");
  EXPECT_EQ(peeled("2: step 7"), "2|step 7");  // srun --label
  EXPECT_EQ(peeled("2: 7.5"), "-|2: 7.5");     // a key and its value
  EXPECT_EQ(peeled("2026-01-05T10:00:00.123456Z [rank1]: x"), "1| x");
  EXPECT_EQ(peeled("[2026-01-01]: x"), "-|[2026-01-01]: x");
  EXPECT_EQ(peeled("(RayTrainWorker pid=12, ip=10.0.0.1) x"), "-| x");
}

TEST(LogReader, WhatWaitedForMoreWasThereBeforeTheEnd) {
  // A bar of Rich may go on in the next line; the command ends some time later.
  LogReader reader("log/out.log");
  auto batch = reader.push(
      "Epoch 0/-2 ━━━━━━━━━━━━━━━━━ 199/200 0:00:16 • 0:00:01 12.19it/s train_loss: 4.872\n", 20);
  for (const auto& more : {reader.push("Epoch 0/-2 ━━━━━━━━━━━━━━━━━ 200/200 0:00:16 • 0:00:00 "
                                       "12.19it/s train_loss: 4.854\n\x1b[?25h",
                                       21)})
    batch.steps.insert(batch.steps.end(), more.steps.begin(), more.steps.end());
  const auto last = reader.finish(30);
  batch.steps.insert(batch.steps.end(), last.steps.begin(), last.steps.end());
  ASSERT_FALSE(batch.steps.empty());
  EXPECT_EQ(batch.steps.back().step, 200);
  EXPECT_DOUBLE_EQ(batch.steps.back().t_s, 21);
}

TEST(LogReader, AnEmptyBarOfRowsIsNoTraining) {
  LogReader reader("log/out.log");
  const auto rows = reader.push(
      "\rAdding EOS to train dataset (num_proc=1):   0%|          | 0/750 [00:00<?, ? examples/s]"
      "\rAdding EOS to train dataset (num_proc=1): 100%|####| 750/750 [00:00<00:00, 812.3 "
      "examples/s]\n",
      1);
  EXPECT_TRUE(rows.steps.empty());
  const auto steps = reader.push("\r  0%|          | 0/120 [00:00<?, ?it/s]\r", 2);
  ASSERT_EQ(steps.steps.size(), 1U);
  EXPECT_EQ(steps.steps[0].steps_total, 120);
}

}  // namespace
}  // namespace rigwise
