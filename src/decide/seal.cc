#include "decide/seal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"
#include "decide/measure.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr double kClockSlack_s = 2;  // the seal is kept to whole seconds

struct Field {
  std::string_view name;
  std::string Statement::*member;
};
constexpr std::array kFields = {
    Field{"threshold", &Statement::threshold}, Field{"bottleneck", &Statement::bottleneck},
    Field{"option", &Statement::option},       Field{"reason", &Statement::reason},
    Field{"stop condition", &Statement::stop}, Field{"baseline", &Statement::baseline},
    Field{"candidate", &Statement::candidate}, Field{"experiment", &Statement::experiment},
};

std::string quoted(const std::string& text) {
  return text.empty() ? std::string("empty") : "'" + clean_text(text, 200) + "'";
}

/// The fields in which a run's sealed copy differs from lab.toml now.
std::vector<std::string> changes(const Statement& then, const Statement& now) {
  std::vector<std::string> list;
  for (const auto& field : kFields) {
    if (trim(then.*field.member) == trim(now.*field.member)) continue;
    list.push_back(fmt::format("{} was {}, is now {}", field.name, quoted(then.*field.member),
                               quoted(now.*field.member)));
  }
  return list;
}

class Reader {
 public:
  explicit Reader(const DecideInput& input) : input_(input), now_(input.statement) {}

  SealState read() {
    for (const auto& run : input_.baseline) look_at(run, false);
    for (const auto& run : input_.candidate) look_at(run, true);
    tell_early(input_.baseline, false);
    tell_early(input_.candidate, true);
    if (!now_.sealed_unix_s && !any_copy_) {
      note("The statement is not sealed: lab.toml holds no seal that fits its words.",
           Evidence{"", "lab.toml", std::nullopt, std::nullopt, ""});
      break_seal("the threshold is not sealed");
    }
    return std::move(state_);
  }

 private:
  void note(std::string text, Evidence evidence) {
    if (!told_.insert(text).second) return;
    state_.notes.push_back(Sentence{std::move(text), {std::move(evidence)}});
    last_ = state_.notes.back().evidence.front();
  }
  void break_seal(std::string why) {
    if (!state_.broken.empty()) return;
    state_.broken = std::move(why);
    state_.broken_evidence = last_;
  }

  void look_at(const Run& run, bool of_option) {
    const auto& copy = run.info.statement;
    const std::string started = format_wall_clock(run.info.start_unix_s);
    const Evidence evidence = evidence_of(run, "run.json", "statement");
    if (copy && copy->hash == statement_hash(*copy)) {
      any_copy_ = true;
      if (copy->hash == statement_hash(now_)) return;
      const auto list = changes(*copy, now_);
      if (list.empty()) return;
      note(fmt::format("The statement was changed after {} had started ({}): {}.", run.info.name,
                       started, join(list, "; ")),
           evidence);
      if (trim(copy->threshold) != trim(now_.threshold)) {
        break_seal(fmt::format("the threshold was changed after {} had started", run.info.name));
      }
      return;
    }
    if (copy) {
      note(fmt::format("The statement in {} does not fit its own hash.", run.info.name), evidence);
      if (of_option) break_seal("the sealed copy in a run was changed");
      return;
    }
    note_without_copy(run);
  }

  [[nodiscard]] bool started_early(const Run& run) const {
    return !run.info.statement && now_.sealed_unix_s &&
           run.info.start_unix_s + kClockSlack_s < *now_.sealed_unix_s;
  }

  /// With a seal, a run without a copy started early (told for the side as a whole) or later from a
  /// folder without lab.toml, which is no fault.
  void note_without_copy(const Run& run) {
    if (now_.sealed_unix_s) return;
    note(fmt::format("{} holds no sealed statement.", run.info.name),
         evidence_of(run, "run.json", "statement"));
  }

  void tell_early(const std::vector<Run>& runs, bool of_option) {
    const auto early =
        std::count_if(runs.begin(), runs.end(), [&](const Run& run) { return started_early(run); });
    const auto first =
        std::find_if(runs.begin(), runs.end(), [&](const Run& run) { return started_early(run); });
    if (first != runs.end()) {
      note(fmt::format("{} of {} {} of {} started before the statement was sealed ({}), the first "
                       "{}.",
                       early, runs.size(), runs.size() == 1 ? "run" : "runs", first->info.name,
                       format_wall_clock(*now_.sealed_unix_s),
                       format_wall_clock(first->info.start_unix_s)),
           evidence_of(*first, "run.json", "start_unix_s"));
    }
    const bool unsealed =
        !now_.sealed_unix_s &&
        std::any_of(runs.begin(), runs.end(), [](const Run& run) { return !run.info.statement; });
    if (of_option && (first != runs.end() || unsealed)) {
      break_seal(
          fmt::format("{} had already run when the threshold was written", runs.front().info.name));
    }
  }

  const DecideInput& input_;
  const Statement& now_;
  SealState state_ = {};
  std::set<std::string> told_ = {};
  Evidence last_ = {};
  bool any_copy_ = false;
};

}  // namespace

SealState seal_of(const DecideInput& input) {
  return Reader(input).read();
}

}  // namespace rigwise
