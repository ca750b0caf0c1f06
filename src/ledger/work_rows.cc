#include "ledger/work_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr double kMention_s = 0.1;

using Part = std::pair<std::string, double>;

std::vector<Part> largest_parts(const WorkSplit& split, LedgerClass cls) {
  std::vector<Part> parts;
  const auto place = split.parts.find(cls);
  if (place == split.parts.end()) return parts;
  parts.assign(place->second.begin(), place->second.end());
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.second > b.second; });
  return parts;
}

double part_s(const WorkSplit& split, LedgerClass cls, std::string_view part) {
  for (const auto& [name, seconds] : largest_parts(split, cls)) {
    if (name == part) return seconds;
  }
  return 0;
}

std::string_view startup_words(std::string_view work) {
  if (work == "import") return "imports";
  if (work == "load") return "model load";
  if (work == "prepare" || work == "input") return "preparing data";
  if (work == "rendezvous" || work == "sync") return "ranks finding each other";
  if (work == "compile") return "compiling";
  if (work == "none") return "outside Python";
  return "other code";
}

/// Whose rank the row speaks of, where there are several.
std::string rank_words(const WorkRowsInput& input) {
  if (input.lone || input.rank != nullptr || input.critical_s == nullptr) return {};
  const auto& led = *input.critical_s;
  const auto most = std::max_element(led.begin(), led.end());
  double sum_s = 0;
  for (const double s : led) sum_s += s;
  if (most == led.end() || *most < 0.7 * sum_s) return {};
  const auto index = static_cast<std::size_t>(most - led.begin());
  return fmt::format("rank {} in ", input.seen->ranks[index].rank);
}

}  // namespace

Evidence stack_evidence(const WorkRowsInput& input, std::string what) {
  if (input.stated) return *input.stated;
  const RankWork* rank = input.rank != nullptr       ? input.rank
                         : input.seen->ranks.empty() ? nullptr
                                                     : &input.seen->ranks.front();
  Evidence evidence;
  if (rank == nullptr) return evidence;
  evidence.file = "profile/" + rank->host + ".stacks.csv";
  if (rank->first_line > 0) {
    evidence.first_row = rank->first_line;
    evidence.last_row = rank->last_line;
  }
  evidence.what = std::move(what);
  return evidence;
}

LedgerRow row_of_share(LedgerClass cls, const Share& share, How how) {
  LedgerRow row;
  row.cls = cls;
  row.seconds = std::max(0.0, share.seconds);
  const double half_s = 1.96 * std::sqrt(share.variance);
  row.low_s = std::max(0.0, *row.seconds - half_s);
  row.high_s = *row.seconds + half_s;
  row.how = how;
  return row;
}

LedgerRow input_row_of(const WorkRowsInput& input) {
  const WorkSplit& split = *input.split;
  LedgerRow row = row_of_share(LedgerClass::input, split.of(LedgerClass::input), How::measured);
  row.evidence = {stack_evidence(input, "data loader")};
  if (*row.seconds < kMention_s) {
    row.note = "no rank was seen waiting for data";
    return row;
  }
  const auto parts = largest_parts(split, LedgerClass::input);
  const bool named = !parts.empty() && !parts.front().first.empty();
  row.note = rank_words(input) + (named ? parts.front().first : "the data loader");
  if (input.stated) return row;
  if (input.seen->loaders && input.seen->loaders_seen_s > 0) {
    const double busy = input.seen->loaders_running_s / input.seen->loaders_seen_s;
    row.note +=
        fmt::format("; the loader's workers are on a CPU {} of their time", format_share(busy));
  } else {
    row.note += "; the training process reads its rows itself";
  }
  return row;
}

LedgerRow sync_row_of(const WorkRowsInput& input) {
  LedgerRow row =
      row_of_share(LedgerClass::sync, input.split->of(LedgerClass::sync), How::measured);
  row.evidence = {stack_evidence(input, "ranks asleep under backward, or in a collective")};
  if (*row.seconds < kMention_s) {
    row.note = input.stated            ? "the steps state no wait"
               : input.rank != nullptr ? "did not wait for other ranks"
                                       : "ranks did not wait all at once";
    return row;
  }
  const auto parts = largest_parts(*input.split, LedgerClass::sync);
  if (input.stated) {
    row.note = parts.front().first;
    return row;
  }
  row.note = input.rank != nullptr ? "waits: " : "all ranks wait at once: ";
  row.note += parts.empty() ? std::string("collectives") : parts.front().first;
  return row;
}

LedgerRow host_row_of(const WorkRowsInput& input) {
  LedgerRow row =
      row_of_share(LedgerClass::host, input.split->of(LedgerClass::host), How::measured);
  row.evidence = {stack_evidence(input, "run-queue delay of the main thread")};
  const double stopped_s = part_s(*input.split, LedgerClass::host, "stopped by a signal");
  std::vector<std::string> words;
  if (stopped_s >= kMention_s) {
    words.push_back(fmt::format("stopped by a signal for {}", format_duration(stopped_s)));
  }
  const double queued_s =
      part_s(*input.split, LedgerClass::host, "waiting for a CPU") +
      part_s(*input.split, LedgerClass::host, "its other threads waiting for a CPU");
  if (queued_s >= kMention_s) {
    std::string text = fmt::format("waited {} for a CPU", format_duration(queued_s));
    for (const auto& host : *input.hosts) {
      if (!host.others_cpu_s || *host.others_cpu_s < queued_s / 2) continue;
      text += fmt::format("; other programs took {} of CPU", format_duration(*host.others_cpu_s));
      if (!host.top_other.empty()) text += ", most of it " + clean_text(host.top_other, 60);
      break;
    }
    words.push_back(std::move(text));
  }
  row.note = words.empty() ? "no thread waited for a CPU" : join(words, ", ");
  return row;
}

std::string compute_parts(const WorkSplit& split) {
  const double all_s = split.of(LedgerClass::compute).seconds;
  std::vector<std::string> words;
  for (const auto& [name, seconds] : largest_parts(split, LedgerClass::compute)) {
    if (all_s <= 0 || seconds < 0.02 * all_s || name.empty()) continue;
    words.push_back(fmt::format("{} {}", name, format_share(seconds / all_s)));
  }
  return join(words, ", ");
}

std::vector<std::string> startup_parts(const WorkSplit& split) {
  std::map<std::string, double> by_words;
  for (const auto& [work, seconds] : largest_parts(split, LedgerClass::startup)) {
    by_words[std::string(startup_words(work))] += seconds;
  }
  std::vector<Part> parts(by_words.begin(), by_words.end());
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.second > b.second; });
  std::vector<std::string> words;
  for (const auto& [name, seconds] : parts) {
    if (seconds >= kMention_s) words.push_back(name + " " + format_duration(seconds));
  }
  return words;
}

std::string unexplained_parts(const WorkSplit& split) {
  std::vector<std::string> words;
  for (const auto& [place, seconds] : largest_parts(split, LedgerClass::unexplained)) {
    if (seconds < kMention_s || words.size() >= 3) continue;
    words.push_back(fmt::format("{} in {}", format_duration(seconds),
                                place.empty() ? "code outside Python" : place));
  }
  return join(words, ", ");
}

}  // namespace rigwise
