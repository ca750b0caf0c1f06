#include "decide/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/text.h"

namespace rigwise {

namespace {

constexpr std::size_t kMaxStatementBytes = 4000;

using Words = std::vector<std::string>;
using List = std::span<const std::string_view>;

// What can be measured; a bottleneck names at least one, or a number with a unit.
constexpr std::array<std::string_view, 66> kMeasurable = {
    "step",       "steps",       "token",       "tokens",        "sample",
    "samples",    "throughput",  "compute",     "utilisation",   "utilization",
    "memory",     "vram",        "oom",         "fit",           "fits",
    "evaluation", "evaluations", "eval",        "evals",         "demo",
    "demos",      "checkpoint",  "checkpoints", "checkpointing", "save",
    "saving",     "loader",      "dataloader",  "loading",       "input",
    "data",       "disk",        "io",          "i/o",           "tokenising",
    "tokenizing", "sync",        "allreduce",   "communication", "interconnect",
    "link",       "pcie",        "network",     "startup",       "start-up",
    "compile",    "temperature", "throttle",    "throttling",    "heat",
    "power",      "clocks",      "wait",        "waits",         "waiting",
    "epoch",      "epochs",      "hour",        "hours",         "minutes",
    "seconds",    "time",        "speed",       "cpu",           "batch",
    "sequence"};

// Words that say nothing by themselves about why an option would help.
constexpr std::array<std::string_view, 62> kEmptyWords = {
    "a",       "an",       "the",   "and",    "or",    "of",     "to",      "for",    "it",
    "is",      "are",      "be",    "will",   "would", "should", "could",   "can",    "we",
    "i",       "my",       "our",   "us",     "you",   "this",   "that",    "so",     "as",
    "with",    "on",       "in",    "at",     "than",  "then",   "need",    "needs",  "want",
    "wants",   "faster",   "fast",  "better", "good",  "great",  "more",    "bigger", "best",
    "gpu",     "gpus",     "card",  "cards",  "two",   "second", "2",       "one",    "new",
    "because", "training", "train", "slow",   "help",  "helps",  "quicker", "nice"};

// A clause with one of these is not taken as a statement of fact.
constexpr std::array<std::string_view, 18> kNegations = {
    "no",    "not",    "never", "without",  "none",  "nothing", "don't", "doesn't", "didn't",
    "isn't", "aren't", "won't", "wouldn't", "avoid", "if",      "could", "might",   "untried"};

bool has(const Words& words, List list) {
  return std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    return std::find(list.begin(), list.end(), word) != list.end();
  });
}

/// A sentence's clauses: cut at . ; : ! ? , and newlines, but not inside a number such as 1.5. A
/// list's last "and" stays.
std::vector<std::string> clauses(std::string_view text) {
  std::vector<std::string> out(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool digit_next = i + 1 < text.size() && is_digit(text[i + 1]);
    const bool cut = std::string_view(".;:!?\n").find(c) != std::string_view::npos;
    if (cut && !digit_next) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

void add(std::vector<std::string>& into, std::string_view name) {
  if (std::find(into.begin(), into.end(), name) == into.end()) into.emplace_back(name);
}

constexpr std::array<std::string_view, 8> kWaits = {"wait",    "waits",  "waiting", "waited",
                                                    "blocked", "blocks", "queue",   "queues"};
constexpr std::array<std::string_view, 6> kEvaluations = {
    "evaluation", "evaluations", "eval", "evals", "validation", "benchmarks"};
constexpr std::array<std::string_view, 8> kDemos = {"demo",          "demos",         "inference",
                                                    "serving",       "chat",          "playground",
                                                    "demonstration", "demonstrations"};
constexpr std::array<std::string_view, 6> kTraining = {"training", "train", "trainer",
                                                       "run",      "runs",  "gpu"};

/// "evaluations and demos wait for training", "training waits for evaluation".
void read_waits(const Words& words, LabContext& context) {
  if (!has(words, kWaits) || !has(words, kTraining)) return;
  if (has(words, kEvaluations)) add(context.waits_for_training, "evaluation");
  if (has(words, kDemos)) add(context.waits_for_training, "demos");
}

bool phrase(const std::string& clause, std::string_view text) {
  return clause.find(text) != std::string::npos;
}

/// "does not fit", "out of memory": the negation belongs to the phrase.
bool says_too_big(const std::string& clause) {
  constexpr std::array<std::string_view, 9> kPhrases = {
      "does not fit", "doesn't fit",   "do not fit",    "don't fit",   "cannot fit",
      "can't fit",    "out of memory", "out-of-memory", "will not fit"};
  // "8 h does not fit in a night" speaks of time, not of memory.
  constexpr std::array<std::string_view, 7> kOtherRooms = {"night",  "schedule", "day", "week",
                                                           "budget", "evening",  "case"};
  const bool other_room = has(words_of(clause), kOtherRooms);
  return !other_room && std::any_of(kPhrases.begin(), kPhrases.end(),
                                    [&](std::string_view p) { return phrase(clause, p); });
}

struct Topic {
  std::string_view name;
  std::array<std::string_view, 8> words;
};
constexpr std::array kAgenda = {
    Topic{"users",
          {"many users", "several users", "more users", "multiple users", "customers", "tenants",
           "whole team", "users depend"}},
    Topic{"backups",
          {"backup", "back-up", "back up", "restore", "restores", "off-site", "raid",
           "disaster recovery"}},
    Topic{"failures",
          {"failures cost", "costly failure", "failure costs", "downtime", "outage",
           "expensive failure", "failures are costly", "failed runs cost"}},
    Topic{"heat",
          {"heat", "too hot", "overheat", "cooling", "noise", "room temperature",
           "air conditioning", "thermal"}},
};
constexpr std::array kTried = {
    Topic{"quantisation",
          {"quantisation", "quantization", "4-bit", "8-bit", "4bit", "8bit", "qlora", "quantised"}},
    Topic{"lora", {"lora", "adapter", "adapters", "peft", "lora rank", "dora", "qlora", "rank 8"}},
    Topic{"sequence",
          {"sequence", "shorter context", "context length", "packing", "max length", "truncat",
           "seq_len", "shorter rows"}},
    Topic{"checkpointing",
          {"gradient checkpointing", "activation checkpointing", "recompute",
           "gradient_checkpointing", "checkpointing", "rematerial", "activation recomputation",
           "grad checkpointing"}},
};
constexpr std::array<std::string_view, 8> kTriedVerbs = {"tried", "already", "used",   "use",
                                                         "using", "even",    "tested", "despite"};

void read_topics(const std::string& clause, std::span<const Topic> topics,
                 std::vector<std::string>& into) {
  for (const auto& topic : topics) {
    const bool said = std::any_of(topic.words.begin(), topic.words.end(),
                                  [&](std::string_view word) { return phrase(clause, word); });
    if (said) add(into, topic.name);
  }
}

void read_clause(const std::string& clause, LabContext& context) {
  if (says_too_big(clause)) context.fits_known = context.fits_known.value_or(false);
  const Words words = words_of(clause);
  const bool with_tried = has(words, kTriedVerbs) || phrase(clause, "with 4-bit");
  if (with_tried && !has(words, std::array<std::string_view, 3>{"never", "untried", "nobody"}) &&
      !phrase(clause, "not tried") && !phrase(clause, "not yet") && !phrase(clause, "n't tried")) {
    read_topics(clause, kTried, context.tried);
  }
  if (has(words, kNegations)) return;
  read_waits(words, context);
  read_topics(clause, kAgenda, context.agenda);
}

bool has_number_with_unit(const Words& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool number = !words[i].empty() && words[i][0] >= '0' && words[i][0] <= '9';
    if (!number) continue;
    const auto letters = words[i].find_first_not_of("0123456789.,");
    const std::string unit = letters != std::string::npos ? words[i].substr(letters)
                             : i + 1 < words.size()       ? words[i + 1]
                                                          : std::string();
    constexpr std::array<std::string_view, 14> kUnits = {
        "h",    "hours", "hour", "min", "minutes", "s", "seconds",
        "days", "gib",   "gb",   "mb",  "mib",     "%", "percent"};
    if (std::find(kUnits.begin(), kUnits.end(), unit) != kUnits.end()) return true;
  }
  return false;
}

std::string bottleneck_gap(const Statement& statement) {
  const Words words = words_of(statement.bottleneck);
  const std::string example =
      "for example: one GPU needs 8 h for 3000 steps, and 93 % of it is the steps' compute";
  if (words.empty()) return "bottleneck: what holds the training back is not stated; " + example;
  if (has(words, kMeasurable) || has_number_with_unit(words)) return "";
  return fmt::format("bottleneck: '{}' names nothing that can be measured; {}",
                     clean_text(trim(statement.bottleneck), 120), example);
}

std::string threshold_gap(const Statement& statement) {
  const std::string example = "for example: wall_clock(3000 steps) <= 5h, or tokens_per_s >= 1.4x";
  if (trim(statement.threshold).empty()) {
    return "threshold: no metric with a number says when the option has paid off; " + example;
  }
  const auto threshold = parse_threshold(statement.threshold);
  if (!threshold) {
    const Error& error = threshold.error();
    return error.hint.empty() ? error.message : error.message + "\n  " + error.hint;
  }
  const bool wants_more =
      threshold->relation == Relation::greater || threshold->relation == Relation::greater_equal;
  const bool more_is_better = threshold->metric == Metric::tokens_per_s ||
                              threshold->metric == Metric::samples_per_s ||
                              threshold->metric == Metric::steps_per_s;
  if (wants_more != more_is_better) {
    return fmt::format("threshold: '{}' is met by doing worse; turn the relation round ({})",
                       threshold->text, more_is_better ? ">=" : "<=");
  }
  return "";
}

std::string reason_gap(const Statement& statement) {
  const std::string example =
      "for example: the steps' compute is split over two ranks, and the link carries 35 MB a step";
  const Words words = words_of(statement.reason);
  if (words.empty()) {
    return "reason: why the option would remove this bottleneck is not stated; " + example;
  }
  const auto content = std::count_if(words.begin(), words.end(), [](const std::string& word) {
    return std::find(kEmptyWords.begin(), kEmptyWords.end(), word) == kEmptyWords.end();
  });
  const bool repeats = lower(trim(statement.reason)) == lower(trim(statement.option)) ||
                       lower(trim(statement.reason)) == lower(trim(statement.bottleneck));
  if (content >= 1 && words.size() >= 3 && !repeats) return "";
  return fmt::format("reason: '{}' does not say how the option acts on the bottleneck; {}",
                     clean_text(trim(statement.reason), 120), example);
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto flush = [&] {
    while (!word.empty() && (word.back() == '.' || word.back() == ',')) word.pop_back();
    while (!word.empty() && word.front() == '\'') word.erase(0, 1);
    while (!word.empty() && word.back() == '\'') word.pop_back();
    if (!word.empty()) words.push_back(word);
    word.clear();
  };
  const std::string small = lower(text.substr(0, kMaxStatementBytes));
  for (std::size_t i = 0; i < small.size(); ++i) {
    const char c = small[i];
    const bool letter =
        (c >= 'a' && c <= 'z') || is_digit(c) || c == '%' || static_cast<unsigned char>(c) >= 0x80;
    const bool joint = (c == '\'' || c == '-' || c == '/' || c == '.' || c == ',' || c == '_') &&
                       !word.empty() && i + 1 < small.size() && small[i + 1] != ' ';
    const bool number_joint =
        (c == '.' || c == ',') && !word.empty() && (word.back() < '0' || word.back() > '9');
    if (letter || (joint && !number_joint)) {
      word += c;
    } else {
      flush();
    }
  }
  flush();
  return words;
}

LabContext with_words(LabContext stated, const Statement& statement) {
  for (const auto* text : {&statement.bottleneck, &statement.reason}) {
    const std::string small = lower(std::string_view(*text).substr(0, kMaxStatementBytes));
    for (const auto& clause : clauses(small)) read_clause(clause, stated);
  }
  if (stated.fits_known) stated.fits_on_one = *stated.fits_known;
  return stated;
}

std::vector<std::string> statement_gaps(const Statement& statement) {
  std::vector<std::string> gaps;
  const auto note = [&](std::string gap) {
    if (!gap.empty()) gaps.push_back(std::move(gap));
  };
  note(bottleneck_gap(statement));
  note(threshold_gap(statement));
  if (trim(statement.option).empty()) {
    note(
        "option: what is to be tried is not stated; for example: two ranks, data parallel, same "
        "global batch");
  }
  note(reason_gap(statement));
  return gaps;
}

}  // namespace rigwise
