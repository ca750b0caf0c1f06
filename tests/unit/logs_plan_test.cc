// A line that is read by the plan of its shape gives what reading it in full gives.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <string>

#include "base/files.h"
#include "base/json.h"
#include "logs/assemble.h"
#include "logs/line_reader.h"
#include "logs/plan.h"
#include "logs/session.h"

namespace rigwise::logs {
namespace {

std::string text_of(const LogBatch& batch) {
  std::string text;
  for (const StepRecord& r : batch.steps) {
    Json json;
    json["kind"] = std::string(to_string(r.kind));
    put(json, "step", r.step);
    put(json, "bar_step", r.bar_step);
    put(json, "total", r.steps_total);
    put(json, "epoch", r.epoch);
    put(json, "loss", r.loss);
    put(json, "eval_loss", r.eval_loss);
    put(json, "lr", r.lr);
    put(json, "grad_norm", r.grad_norm);
    put(json, "step_time_s", r.step_time_s);
    put(json, "steps_per_s", r.steps_per_s);
    put(json, "samples_per_s", r.samples_per_s);
    put(json, "tokens_per_s", r.tokens_per_s);
    put(json, "tokens_seen", r.tokens_seen);
    put(json, "runtime_s", r.runtime_s);
    put(json, "mem", r.mem_gib);
    put(json, "mfu", r.mfu_frac);
    put(json, "rank", r.rank);
    json["device"] = r.per_device;
    json["line"] = r.log_line;
    json["format"] = r.log_format;
    text += json.dump() + '\n';
  }
  for (const Fact& fact : batch.facts) text += fact.key + '=' + fact.value + '\n';
  for (const Event& event : batch.events)
    text += std::string(to_string(event.kind)) + ' ' + event.name + '\n';
  return text;
}

std::string read(std::string_view log, bool plans) {
  LineAssembler assembler;
  Session session("log");
  LineReader reader({}, plans);
  LogBatch batch;
  session.out = &batch;
  const auto take = [&](const Piece& piece) {
    if (piece.text.find_first_not_of(" \t") != std::string_view::npos) reader.read(session, piece);
  };
  assembler.push(log, 1, take);
  assembler.finish(take);
  Piece end;
  end.end = 0;
  reader.finish(session, end);
  session.end(2);
  return text_of(batch);
}

/// The log several times, each time with other digits in the same places.
std::string varied(std::string_view log, unsigned seed) {
  std::mt19937 random(seed);
  std::string text;
  for (int round = 0; round < 4; ++round) {
    for (const char byte : log) {
      const bool digit = byte >= '0' && byte <= '9';
      text +=
          digit && round > 0 && random() % 3 == 0 ? static_cast<char>('0' + random() % 10) : byte;
    }
    text += '\n';
  }
  return text;
}

TEST(Plans, GiveWhatReadingInFullGives) {
  std::size_t logs = 0;
  const auto check = [&](const std::string& log, const std::string& name) {
    const std::string text = varied(log, 5);
    ASSERT_EQ(read(text, true), read(text, false)) << name;
    ++logs;
  };
  for (const auto& file : std::filesystem::recursive_directory_iterator(RIGWISE_FIXTURES "/logs")) {
    const auto text = read_file(file.path());
    if (!text) continue;
    if (file.path().extension() == ".log") check(*text, file.path().string());
    if (file.path().parent_path().filename() != "captured" || file.path().extension() != ".jsonl")
      continue;
    std::string_view rest = *text;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      if (const auto json = parse_json(rest.substr(0, end)))
        check((*json)["log"].get<std::string>(), (*json)["id"].get<std::string>());
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  EXPECT_GE(logs, 5u);
}

TEST(Plans, WhatTheLinesBeforeSaidCounts) {
  // The same words speak of the evaluation, then of the training.
  const std::string_view log =
      "***** Running Evaluation *****\n  Num examples = 10\n  Num examples = 10\n"
      "***** Running training *****\n  Num examples = 64\n";
  EXPECT_EQ(read(log, true), read(log, false));
  EXPECT_EQ(read(log, true), "data_rows=64\n");
}

TEST(Plans, DigitsAloneMakeNoOtherShape) {
  EXPECT_EQ(signature_of("step 10 loss 2.5", '\n'), signature_of("step 99 loss 0.1", '\n'));
  EXPECT_NE(signature_of("step 10 loss 2.5", '\n'), signature_of("step 10 loss 2.5", '\r'));
  EXPECT_NE(signature_of("step 10 loss 2.5", '\n'), signature_of("step 10 loss 25", '\n'));
  EXPECT_NE(signature_of("step 10 loss 2.5", '\n'), signature_of("step 10 1oss 2.5", '\n'));
}

}  // namespace
}  // namespace rigwise::logs
