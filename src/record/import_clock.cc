// One clock and one training out of many sources.
#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "base/text.h"
#include "record/import_parts.h"
#include "run/layout.h"

namespace rigwise::importing {

namespace {

constexpr double kHour_s = 3600;

// ------------------------------------------------------------------------------------- training

/// What tells two sources of one training from two trainings: which steps they speak of.
using StepKey = std::tuple<RecordKind, std::int64_t, int>;

std::set<StepKey> keys_of(const std::vector<StepRecord>& steps) {
  std::set<StepKey> keys;
  for (const auto& row : steps) {
    if (row.kind != RecordKind::train && row.kind != RecordKind::eval) continue;
    const auto step = row.step ? row.step : row.bar_step;
    if (step) keys.insert({row.kind, *step, row.rank.value_or(-1)});
  }
  return keys;
}

std::size_t trained(const Training& training) {
  return static_cast<std::size_t>(
      std::count_if(training.steps.begin(), training.steps.end(),
                    [](const StepRecord& row) { return row.kind == RecordKind::train; }));
}

bool has_summary(const Training& training) {
  return std::any_of(training.steps.begin(), training.steps.end(), [](const StepRecord& row) {
    return row.kind == RecordKind::summary && row.runtime_s;
  });
}

/// A source whose entries another one has already gives at most what that one lacks.
void drop_entries(Source& source, const std::string& same_as, bool keep_summary) {
  auto& training = source.training;
  std::erase_if(training.steps, [&](const StepRecord& row) {
    return !keep_summary || row.kind != RecordKind::summary;
  });
  training.events.clear();
  source.file.notes.push_back("the same training as " + same_as +
                              ": its entries were not taken again");
}

/// Every training entry comes from one source: the first in the order timed log, timed store,
/// untimed log, untimed store, then the one with more entries.
}  // namespace

void choose_training(std::vector<Source>& sources) {
  std::vector<Source*> order;
  for (auto& source : sources) {
    if (source.is_log || source.is_store) order.push_back(&source);
  }
  std::stable_sort(order.begin(), order.end(), [](const Source* a, const Source* b) {
    const auto standing = [](const Source& s) {
      return (s.training.timed ? 0 : 2) + (s.is_store ? 1 : 0);
    };
    return std::tuple(standing(*a), trained(b->training)) <
           std::tuple(standing(*b), trained(a->training));
  });
  std::map<StepKey, const Source*> taken;
  bool any_train = false, summary = false;
  const Source* first = nullptr;
  std::map<std::string, const Source*> contents;
  for (Source* source : order) {
    if (!source->digest.empty()) {
      const auto [same, is_new] = contents.try_emplace(source->digest, source);
      if (!is_new) {
        drop_entries(*source, same->second->file.path + " (the same bytes)", false);
        continue;
      }
    }
    const auto keys = keys_of(source->training.steps);
    std::size_t known = 0;
    const Source* same = first;
    for (const auto& key : keys) {
      const auto found = taken.find(key);
      if (found == taken.end()) continue;
      ++known;
      same = found->second;
    }
    const bool nameless =
        keys.empty() && source->is_store && any_train && !source->training.steps.empty();
    if (same != nullptr && ((!keys.empty() && known * 2 >= keys.size()) || nameless)) {
      drop_entries(*source, same->file.path, !summary);
    }
    for (const auto& key : keys) taken.try_emplace(key, source);
    summary = summary || has_summary(source->training);
    if (trained(source->training) > 0) {
      any_train = true;
      if (first == nullptr) first = source;
    }
  }
}

// ---------------------------------------------------------------------------------------- clock

namespace {

struct Range {
  std::optional<double> first, last;
  void see(std::optional<double> at) {
    if (!at) return;
    first = std::min(first.value_or(*at), *at);
    last = std::max(last.value_or(*at), *at);
  }
};

Range samples_of(const std::vector<Source>& sources) {
  Range range;
  for (const auto& source : sources) {
    for (const auto& gpu : source.captured.gpus) range.see(gpu.unix_s);
    for (const auto& host : source.captured.hosts) range.see(host.unix_s);
    for (const auto& disk : source.captured.disks) range.see(disk.unix_s);
  }
  return range;
}

}  // namespace

/// A day that was taken from a file's own time must fit what others state, or it is not believed.
void doubt_guessed_days(std::vector<Source>& sources) {
  Range sure = samples_of(sources);
  for (const auto& source : sources) {
    if (!source.training.timed || source.training.guessed_date) continue;
    sure.see(source.training.first_unix_s);
    sure.see(source.training.last_unix_s);
  }
  if (!sure.first) return;
  for (auto& source : sources) {
    auto& training = source.training;
    if (!training.timed || !training.guessed_date) continue;
    if (*training.last_unix_s >= *sure.first - kHour_s &&
        *training.first_unix_s <= *sure.last + kHour_s)
      continue;
    training.timed = false;
    training.marks.clear();
    source.file.notes.emplace_back(
        "its times have no date and do not fit the other files: give --start");
  }
}

namespace {

/// Seconds that the trainer says training took; of several, the longest.
std::optional<double> stated_runtime(const std::vector<Source>& sources, RecordKind kind) {
  std::optional<double> longest;
  for (const auto& source : sources) {
    for (const auto& row : source.training.steps) {
      if (row.kind != kind || !row.runtime_s || !std::isfinite(*row.runtime_s) ||
          *row.runtime_s <= 0)
        continue;
      if (kind == RecordKind::progress && !row.steps_total) continue;
      longest = std::max(longest.value_or(0), *row.runtime_s);
    }
  }
  return longest;
}

}  // namespace

Clock clock_of(const std::vector<Source>& sources, const ImportOptions& options) {
  Clock clock;
  Range training, samples = samples_of(sources);
  for (const auto& source : sources) {
    if (source.training.timed && (source.is_log || !source.training.steps.empty())) {
      training.see(source.training.first_unix_s);
      training.see(source.training.last_unix_s);
      clock.local_time = clock.local_time || source.training.local_time;
    }
    clock.local_time = clock.local_time || source.captured.local_time;
  }
  // A tracker knows more of the run's length than its entries; one whose times lie elsewhere tells
  // of another attempt at the same steps.
  for (const auto& source : sources) {
    if (!source.is_store || !source.begin_unix_s || !source.end_unix_s) continue;
    const bool elsewhere = training.first && (*source.end_unix_s < *training.first ||
                                              *source.begin_unix_s > *training.last);
    if (elsewhere) continue;
    training.see(source.begin_unix_s);
    training.see(source.end_unix_s);
  }
  clock.training_timed = training.first.has_value();
  if (options.start_unix_s) {
    clock.zero_unix_s = options.start_unix_s;
    clock.words = "the start that was given";
  } else if (training.first) {
    clock.zero_unix_s = training.first;
    clock.words = "the first instant that training evidence states";
  } else if (samples.first) {
    clock.zero_unix_s = samples.first;
    clock.words = "the first sample, since no training evidence states an instant";
  }
  const auto runtime = stated_runtime(sources, RecordKind::summary);
  if (training.last && clock.zero_unix_s)
    clock.wall_s = std::max(0.0, *training.last - *clock.zero_unix_s);
  if (runtime) clock.wall_s = std::max(clock.wall_s, *runtime);
  if (!(clock.wall_s > 0)) {
    for (const auto kind : {RecordKind::progress, RecordKind::train}) {
      if (!(clock.wall_s > 0)) clock.wall_s = stated_runtime(sources, kind).value_or(0);
    }
  }
  if (!(clock.wall_s > 0) && samples.first) clock.wall_s = *samples.last - *clock.zero_unix_s;
  clock.wall_s = std::max(clock.wall_s, 0.0);
  clock.wall_known = clock.wall_s > 0;
  if (clock.local_time) clock.words += "; times without a zone are this machine's local time";
  return clock;
}

// ----------------------------------------------------------------------------------------- logs

namespace {

std::string safe_stem(std::string_view name) {
  std::string out;
  for (const char c : name.substr(0, name.rfind('.'))) {
    const bool good = is_letter(c) || is_digit(c) || c == '-' || c == '_';
    if (out.size() < 60) out += good ? c : '-';
  }
  const auto first = out.find_first_not_of('-');
  return first == std::string::npos ? "log" : out.substr(first);
}

}  // namespace

/// Names the log files of the run: out.log the one that tells most, err.log one called so.
std::map<const Source*, std::string> log_names(const std::vector<Source>& sources) {
  std::map<const Source*, std::string> names;
  std::set<std::string> taken;
  const Source* out = nullptr;
  const auto is_err = [](const Source& source) {
    return lower(source.path.filename().string()).find("err") != std::string::npos;
  };
  for (const auto& source : sources) {
    if (!source.is_log) continue;
    if (out == nullptr || std::tuple(source.training.steps.size(), !is_err(source)) >
                              std::tuple(out->training.steps.size(), !is_err(*out))) {
      out = &source;
    }
  }
  const auto give = [&](const Source* source, std::string stem) {
    if (!taken.insert(stem).second) {
      int again = 2;
      while (!taken.insert(stem + '-' + std::to_string(again)).second) ++again;
      stem += '-' + std::to_string(again);
    }
    names[source] = layout::log_file(stem);
  };
  if (out != nullptr) give(out, "out");
  for (const auto& source : sources) {
    if (!source.is_log || &source == out) continue;
    give(&source, is_err(source) && !taken.contains("err")
                      ? "err"
                      : safe_stem(source.path.filename().string()));
  }
  return names;
}

}  // namespace rigwise::importing
