#include "record/tally.h"

#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"

namespace rigwise {

namespace {
constexpr std::size_t kMaxRanks = 256, kMaxRowsPerRank = 128;
constexpr std::size_t kMaxFacts = 200, kMaxSecrets = 50, kMaxDropped = 20;
}  // namespace

void RunTally::note(const StepRecord& step) {
  if (step.kind == RecordKind::train) {
    if (!first_step_s_) first_step_s_ = step.t_s;
    last_step_s_ = step.t_s;
  }
  if (step.kind == RecordKind::summary) summary_ = step;
}

void RunTally::note(const ProcSample& process) {
  // What was taken for the rank until it turned out to have started the ranks is none.
  if (process.role == "launcher") ranks_.erase(process.pid);
  if (process.role != "rank") return;
  if (!ranks_.contains(process.pid) && ranks_.size() >= kMaxRanks) return;
  Rank& rank = ranks_[process.pid];
  rank.latest = process;
  if (!rank.rows.empty() && process.t_s - rank.rows.back().t_s < rank.apart_s) return;
  rank.rows.push_back(process);
  if (rank.rows.size() < kMaxRowsPerRank) return;
  std::vector<ProcSample> thinned;
  for (std::size_t i = 0; i < rank.rows.size(); i += 2) thinned.push_back(std::move(rank.rows[i]));
  rank.rows = std::move(thinned);
  rank.apart_s = (rank.rows.back().t_s - rank.rows.front().t_s) /
                 static_cast<double>(rank.rows.size() - 1) * 0.99;
}

void RunTally::note(const Fact& fact) {
  if (facts_.contains(fact.key) || facts_.size() < kMaxFacts) facts_[fact.key] = fact;
}

void RunTally::note_secret(const std::string& name) {
  if (secrets_.size() >= kMaxSecrets) return;
  if (std::find(secrets_.begin(), secrets_.end(), name) == secrets_.end()) secrets_.push_back(name);
}

void RunTally::note_dropped(const std::string& what) {
  ++dropped_;
  if (dropped_by_.contains(what) || dropped_by_.size() < kMaxDropped) ++dropped_by_[what];
}

std::vector<ProcSample> RunTally::ranks() const {
  std::vector<ProcSample> rows;
  for (const auto& [pid, rank] : ranks_) {
    rows.insert(rows.end(), rank.rows.begin(), rank.rows.end());
    if (rank.latest && (rank.rows.empty() || rank.rows.back().t_s < rank.latest->t_s)) {
      rows.push_back(*rank.latest);
    }
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const ProcSample& a, const ProcSample& b) { return a.t_s < b.t_s; });
  return rows;
}

std::vector<Fact> RunTally::facts() const {
  std::vector<Fact> facts;
  for (const auto& [key, fact] : facts_) facts.push_back(fact);
  return facts;
}

std::vector<std::string> RunTally::dropped_words() const {
  std::vector<std::string> words;
  for (const auto& [what, count] : dropped_by_) {
    words.push_back(std::to_string(count) + (count == 1 ? " reading: " : " readings: ") + what);
  }
  return words;
}

std::optional<double> resident_bytes() {
  const auto text = read_file("/proc/self/statm", 4096);
  if (!text) return std::nullopt;
  const auto fields = split(*text, ' ');
  if (fields.size() < 2) return std::nullopt;
  const auto pages = to_number(fields[1]);
  if (!pages) return std::nullopt;
  return *pages * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace rigwise
