#include "cli/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/json.h"
#include "base/text.h"
#include "rigwise/stats.h"

namespace rigwise::cli {

namespace {

constexpr std::string_view kKnown = "single, ddp, fsdp, tp, pp, split, ddp:2,tp:2 and ddp:2,pp:2";
constexpr std::size_t kLeastWarmUp = 3;
constexpr std::size_t kMostLineBytes = std::size_t{1} << 16;
constexpr int kMostRanks = 64;

/// Ranks that a name with sizes asks for ("ddp:2,tp:2" is 4); without sizes `devices`.
Result<int> ranks_of(const std::string& text, int devices) {
  const Error unknown{Errc::usage, "'" + clean_text(text, 60) + "' is not a strategy",
                      "strategies are " + std::string(kKnown)};
  std::int64_t ranks = 1;
  const auto parts = split(text, ',');
  for (const std::string_view part : parts) {
    const std::size_t colon = part.find(':');
    const std::string_view name = part.substr(0, colon);
    bool known = false;
    for (const std::string_view one : {"single", "ddp", "fsdp", "tp", "pp", "split"}) {
      known = known || name == one;
    }
    if (!known) return unknown;
    const bool sized = colon != std::string_view::npos;
    const std::int64_t size =
        sized ? to_integer(part.substr(colon + 1)).value_or(0) : std::int64_t{devices};
    if (size < 1 || size > kMostRanks) return unknown;
    if (parts.size() > 1 && !sized) return unknown;
    if (name == "single" || name == "split") continue;  // one process
    ranks *= size;
    if (ranks > kMostRanks) return unknown;
  }
  return static_cast<int>(ranks);
}

/// "single,ddp:2,tp:2" → single | ddp:2,tp:2: a part with a size goes on with sized parts. A list
/// that came as several words is kept apart where the words were.
std::vector<std::string> strategy_words(const std::vector<std::string>& asked) {
  std::vector<std::string> words;
  for (const auto& word : asked) {
    bool open = false;  // the last word may take another sized part
    for (const std::string_view part : split(word, ',')) {
      const std::string text(trim(part));
      const bool sized = text.find(':') != std::string::npos;
      const bool second = text.starts_with("tp:") || text.starts_with("pp:");
      if (open && sized && second) {
        words.back() += "," + text;
        open = false;
        continue;
      }
      words.push_back(text);
      open = sized && text.starts_with("ddp:");
    }
  }
  return words;
}

std::vector<std::string> all_strategies(int devices) {
  std::vector<std::string> names = {"single", "ddp", "fsdp", "tp", "pp", "split"};
  if (devices >= 4 && devices % 2 == 0) {
    names.push_back(fmt::format("ddp:{},tp:2", devices / 2));
    names.push_back(fmt::format("ddp:{},pp:2", devices / 2));
  }
  return names;
}

}  // namespace

Result<std::vector<ProbeStrategy>> probe_strategies(const std::vector<std::string>& asked,
                                                    int devices) {
  std::vector<std::string> names = asked.empty() ? all_strategies(devices) : strategy_words(asked);
  if (std::find(names.begin(), names.end(), "single") == names.end()) {
    names.insert(names.begin(), "single");
  }
  std::vector<ProbeStrategy> strategies;
  for (const auto& name : names) {
    RW_TRY(const int ranks, ranks_of(name, devices));
    for (const auto& other : strategies) {
      if (other.name == name) {
        return Error{Errc::usage, "--strategies names " + name + " twice",
                     "--repeats runs each of them several times"};
      }
    }
    strategies.push_back({name, ranks});
  }
  std::stable_sort(strategies.begin(), strategies.end(), [](const auto& a, const auto& b) {
    if ((a.name == "single") != (b.name == "single")) return a.name == "single";
    return a.ranks < b.ranks;
  });
  return strategies;
}

std::string probe_member(std::string_view strategy) {
  std::string member;
  for (const char c : strategy) {
    if (c == ',') member += '-';
    if (c != ',' && c != ':') member += c;
  }
  return member;
}

std::vector<std::size_t> probe_order(std::size_t count, int repeats) {
  std::vector<std::size_t> order;
  for (int round = 0; round < repeats; ++round) {
    for (std::size_t i = 0; i < count; ++i) order.push_back(round % 2 == 0 ? i : count - 1 - i);
  }
  return order;
}

// ------------------------------------------------------------------------------------------------
// the engine's log

namespace {

Result<EngineStep> step_of(const Json& line) {
  EngineStep step;
  const auto take = [&](const char* key, auto& into) {
    const auto value = get<std::decay_t<decltype(into)>>(line, key);
    if (value) into = *value;
    return value.has_value();
  };
  const char* lacks = !take("step", step.step)                           ? "step"
                      : !take("loss", step.loss)                         ? "loss"
                      : !take("tokens", step.tokens)                     ? "tokens"
                      : !take("predicted_tokens", step.predicted_tokens) ? "predicted_tokens"
                      : !take("step_time_s", step.step_time_s)           ? "step_time_s"
                      : !take("token_hash", step.token_hash)             ? "token_hash"
                                                                         : nullptr;
  if (lacks != nullptr) {
    return Error{Errc::malformed, fmt::format("a step without a usable '{}'", lacks)};
  }
  take("sync_s", step.sync_s);
  take("forward_s", step.forward_s);
  take("backward_s", step.backward_s);
  take("optimizer_s", step.optimizer_s);
  take("peak_memory_bytes", step.peak_memory_bytes);
  if (!(step.step_time_s > 0) || step.step < 1) {
    return Error{Errc::malformed, "a step that took no time, or has no number"};
  }
  return step;
}

}  // namespace

Result<EngineLog> read_engine_log(std::string_view text, std::string_view file) {
  EngineLog log;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string_view line = text.substr(at, end - at);
    const std::string place = fmt::format("{}:{}", file, ++number);
    if (end == std::string_view::npos) {
      return Error{Errc::malformed, place + ": cut off: '" + clean_text(line, 80) + "'",
                   "the engine did not come to write the line whole"};
    }
    at = end + 1;
    const auto json = parse_foreign_json(line, kMostLineBytes);
    if (!json) return Error{json.error()}.at(place);
    if (const auto kind = get<std::string>(*json, "kind")) {
      const auto step = get<std::int64_t>(*json, "step");
      if (*kind == "checkpoint_saved" && step) log.checkpoints.push_back(*step);
      continue;
    }
    auto step = step_of(*json);
    if (!step) return Error{step.error()}.at(place);
    log.steps.push_back(std::move(*step));
  }
  if (log.steps.empty()) {
    return Error{Errc::malformed, std::string(file) + ": no step in it"};
  }
  return log;
}

SameWork same_work(const EngineLog& base, const EngineLog& other, double loss_tolerance) {
  SameWork result;
  const auto differs = [&](std::string why) {
    result.why = std::move(why);
    return result;
  };
  if (base.steps.size() != other.steps.size()) {
    return differs(
        fmt::format("{} optimizer steps, not {}", other.steps.size(), base.steps.size()));
  }
  std::int64_t worst_step = 0;
  for (std::size_t i = 0; i < base.steps.size(); ++i) {
    const EngineStep& a = base.steps[i];
    const EngineStep& b = other.steps[i];
    if (a.step != b.step) return differs(fmt::format("step {} where {} is due", b.step, a.step));
    if (a.tokens != b.tokens) {
      return differs(fmt::format("step {} has {} tokens, not {}: another global batch", a.step,
                                 b.tokens, a.tokens));
    }
    if (a.predicted_tokens != b.predicted_tokens) {
      return differs(fmt::format("step {} predicts {} tokens, not {}", a.step, b.predicted_tokens,
                                 a.predicted_tokens));
    }
    if (a.token_hash != b.token_hash) {
      return differs(fmt::format("step {} takes other tokens (hash {}, not {})", a.step,
                                 clean_text(b.token_hash, 20), clean_text(a.token_hash, 20)));
    }
    const double difference =
        a.loss == b.loss ? 0 : std::abs(b.loss - a.loss) / std::max(std::abs(a.loss), 1e-12);
    // a loss of nan is never the same
    if (!std::isfinite(difference)) {
      return differs(fmt::format("step {} has the loss {}, not {}", a.step, b.loss, a.loss));
    }
    if (difference > result.loss_difference_frac) {
      result.loss_difference_frac = difference;
      worst_step = a.step;
    }
  }
  if (base.checkpoints != other.checkpoints) {
    return differs(fmt::format("{} checkpoints were saved, not {}, or at other steps",
                               other.checkpoints.size(), base.checkpoints.size()));
  }
  if (result.loss_difference_frac > loss_tolerance) {
    return differs(fmt::format("its loss differs by {:.1e} at step {}, more than {:.0e}",
                               result.loss_difference_frac, worst_step, loss_tolerance));
  }
  result.same = true;
  return result;
}

// ------------------------------------------------------------------------------------------------
// figures

std::size_t probe_warm_up(std::size_t steps) {
  return std::max(kLeastWarmUp, steps / 10);
}

std::optional<RunFigures> figures_of(const EngineLog& log) {
  const std::size_t skip = probe_warm_up(log.steps.size());
  if (log.steps.size() <= skip) return std::nullopt;
  RunFigures figures;
  std::vector<double> rates;
  double time_s = 0, sync_s = 0;
  for (std::size_t i = 0; i < log.steps.size(); ++i) {
    const EngineStep& step = log.steps[i];
    figures.peak_memory_bytes = std::max(figures.peak_memory_bytes, step.peak_memory_bytes);
    if (i < skip) continue;
    rates.push_back(static_cast<double>(step.tokens) / step.step_time_s);
    time_s += step.step_time_s;
    sync_s += step.sync_s;
  }
  figures.tokens_per_s = *stats::median(rates);
  figures.sync_frac = sync_s / time_s;
  return figures;
}

MeasuredStep measured_step(const EngineLog& log, double micro_steps) {
  MeasuredStep step;
  step.micro_steps = std::max(1.0, micro_steps);
  const auto values = [&](double EngineStep::*field) {
    std::vector<double> all;
    for (std::size_t i = log.steps.size() > 1 ? 1 : 0; i < log.steps.size(); ++i) {
      all.push_back(log.steps[i].*field);
    }
    return all;
  };
  const auto median = [&](double EngineStep::*field) {
    return stats::median(values(field)).value_or(0);
  };
  step.forward_s = median(&EngineStep::forward_s);
  step.backward_s = median(&EngineStep::backward_s);
  step.optimizer_s = median(&EngineStep::optimizer_s);
  step.other_s = std::max(0.0, median(&EngineStep::step_time_s) - step.compute_s());
  step.phases_measured = step.forward_s > 0 && step.backward_s > 0;
  step.run_to_run_frac = run_to_run_frac(values(&EngineStep::step_time_s));
  return step;
}

std::optional<Interval> rate_of_runs(const std::vector<RunFigures>& runs) {
  std::vector<double> logs;
  for (const auto& run : runs) {
    if (!(run.tokens_per_s > 0) || !std::isfinite(run.tokens_per_s)) return std::nullopt;
    logs.push_back(std::log(run.tokens_per_s));
  }
  if (logs.empty()) return std::nullopt;
  const stats::Moments moments = stats::moments(logs);
  Interval interval{.value = std::exp(moments.mean())};
  if (const auto sd = moments.standard_deviation()) {
    const auto n = static_cast<double>(logs.size());
    const double half = stats::student_t_quantile(0.975, n - 1) * *sd / std::sqrt(n);
    interval.low = std::exp(moments.mean() - half);
    interval.high = std::exp(moments.mean() + half);
  }
  return interval;
}

// ------------------------------------------------------------------------------------------------
// the verdict

void rank_rows(std::vector<ProbeRow>& rows) {
  std::stable_sort(rows.begin(), rows.end(), [](const ProbeRow& a, const ProbeRow& b) {
    const auto place = [](const ProbeRow& row) {
      switch (row.state) {
        case ProbeState::measured:
          return 0;
        case ProbeState::refused:
          return 1;
        case ProbeState::failed:
          return 2;
        case ProbeState::does_not_fit:
          return 3;
      }
      return 4;
    };
    if (place(a) != place(b)) return place(a) < place(b);
    const auto rate = [](const ProbeRow& row) {
      return row.tokens_per_s && row.state == ProbeState::measured ? row.tokens_per_s->value : -1;
    };
    return rate(a) > rate(b);
  });
}

namespace {

std::string factor_words(const Interval& factor) {
  std::string text = fmt::format("{:.2f}x", factor.value);
  if (factor.low && factor.high)
    text += fmt::format(" ({:.2f} to {:.2f})", *factor.low, *factor.high);
  return text;
}

/// Nothing is shown of it, and its interval, where there is one, does not rule out that it is
/// faster.
bool may_be_faster(const ProbeRow& row) {
  if (*row.verdict != Verdict::inconclusive && *row.verdict != Verdict::not_comparable)
    return false;
  return !row.factor || !row.factor->high || *row.factor->high > 1;
}

/// What would settle a row that is not shown, in words.
std::string to_measure(const ProbeRow& row) {
  if (*row.verdict == Verdict::inconclusive && row.runs_needed)
    return fmt::format("--repeats {}", *row.runs_needed);
  return "more --repeats or --steps on a machine that does nothing else";
}

}  // namespace

ProbeVerdict probe_verdict(const std::vector<ProbeRow>& rows) {
  const ProbeRow* best = nullptr;   // shown to be faster
  const ProbeRow* maybe = nullptr;  // the fastest of those that may be and are not shown to be
  bool any = false;
  for (const auto& row : rows) {
    if (row.state != ProbeState::measured || !row.verdict) continue;
    any = true;
    if (*row.verdict == Verdict::faster && best == nullptr) best = &row;
    if (may_be_faster(row) && maybe == nullptr) maybe = &row;
  }
  ProbeVerdict verdict;
  if (best != nullptr) {
    verdict.choice = ProbeChoice::use;
    verdict.strategy = best->strategy.name;
    verdict.sentence = fmt::format("{} {}: {} of single's tokens/s for the same work{}",
                                   best->likely ? "likely use" : "use", best->strategy.name,
                                   factor_words(*best->factor),
                                   best->likely ? fmt::format(" ({})", best->why) : "");
    if (maybe != nullptr && maybe->factor && maybe->factor->value > best->factor->value) {
      verdict.sentence += fmt::format("; {} may be faster still, which {} would show",
                                      maybe->strategy.name, to_measure(*maybe));
    }
    return verdict;
  }
  if (!any) {
    verdict.choice = ProbeChoice::keep_single;
    verdict.sentence = "keep single: no other strategy could be measured here";
    return verdict;
  }
  if (maybe != nullptr) {
    verdict.sentence = fmt::format(
        "not shown yet: {}{}, {}; measure it with {}", maybe->strategy.name,
        maybe->factor ? " is at " + factor_words(*maybe->factor) : "",
        *maybe->verdict == Verdict::not_comparable ? "but its runs cannot be compared with single's"
                                                   : "which may be chance",
        to_measure(*maybe));
    return verdict;
  }
  verdict.choice = ProbeChoice::keep_single;
  verdict.sentence = "keep single: every other strategy is shown to be no faster on this rig";
  return verdict;
}

std::string_view to_string(ProbeState state) {
  switch (state) {
    case ProbeState::measured:
      return "measured";
    case ProbeState::does_not_fit:
      return "does_not_fit";
    case ProbeState::refused:
      return "refused";
    case ProbeState::failed:
      return "failed";
  }
  return "?";
}

std::string_view to_string(ProbeChoice choice) {
  switch (choice) {
    case ProbeChoice::use:
      return "use";
    case ProbeChoice::keep_single:
      return "keep_single";
    case ProbeChoice::not_shown:
      return "not_shown";
  }
  return "?";
}

}  // namespace rigwise::cli
