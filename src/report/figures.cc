#include "report/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "report/layout.h"
#include "rigwise/hang.h"
#include "rigwise/units.h"

namespace rigwise::report {

namespace {
int percent_decimals(double percent, std::optional<double> half_width) {
  if (half_width && *half_width > 0) return *half_width >= 1 ? 0 : 1;
  return std::fabs(percent) < 9.95 ? 1 : 0;
}

/// Fixed decimals without a "-0".
std::string fixed(double value, int decimals) {
  const double scale = std::pow(10.0, decimals);
  const double rounded = std::round(value * scale) / scale;
  return fmt::format("{:.{}f}", rounded == 0 ? 0.0 : rounded, decimals);
}

std::string_view subject(LedgerClass cls) {
  switch (cls) {
    case LedgerClass::startup:
      return "Startup";
    case LedgerClass::input:
      return "Input";
    case LedgerClass::compute:
      return "Compute";
    case LedgerClass::throttle:
      return "Throttling";
    case LedgerClass::sync:
      return "Waiting between ranks";
    case LedgerClass::host:
      return "The host's CPU";
    case LedgerClass::memory:
      return "Memory pressure";
    case LedgerClass::checkpoint:
      return "Checkpointing";
    case LedgerClass::evaluation:
      return "Evaluation";
    case LedgerClass::teardown:
      return "Teardown";
    case LedgerClass::unexplained:
      return "Unexplained time";
  }
  return "?";
}

double share_of(const LedgerRow* row, double wall_s) {
  return row != nullptr && row->seconds && wall_s > 0 ? *row->seconds / wall_s : 0;
}

double half_percent(const Effect& effect) {
  return (effect.high - effect.low) / 2;
}

std::string interval_of_change(const Effect& effect) {
  const double half = half_percent(effect);
  return percent_change(effect.low, half) + " to " + percent_change(effect.high, half);
}
}  // namespace

std::string percent_plain(double percent, std::optional<double> half_width) {
  return fixed(percent, percent_decimals(percent, half_width)) + " %";
}

std::string percent_change(double percent, std::optional<double> half_width) {
  if (!std::isfinite(percent)) return std::string(kNotMeasured);
  std::string digits = fixed(std::fabs(percent), percent_decimals(percent, half_width));
  const bool zero = digits.find_first_not_of("0.") == std::string::npos;
  return (zero ? "" : percent < 0 ? "−" : "+") + (zero ? std::string("0") : digits) + " %";
}

std::string plain_seconds(double seconds) {
  if (!std::isfinite(seconds) || std::fabs(seconds) >= 1000) return format_duration(seconds);
  return fixed(seconds, seconds != 0 && std::fabs(seconds) < 9.95 ? 1 : 0) + " s";
}

int seconds_decimals(double seconds, std::optional<double> half_width, double wall_s) {
  const int most = wall_s < 10 ? 2 : 1;
  if (!half_width || *half_width <= 0) return seconds == 0 ? 0 : most;
  const int deserved = static_cast<int>(std::ceil(-std::log10(*half_width)));
  return std::clamp(deserved, 0, most);
}

std::optional<double> half_width_s(const LedgerRow& row) {
  if (!row.low_s || !row.high_s || !row.seconds) return std::nullopt;
  const double half = (*row.high_s - *row.low_s) / 2;
  if (!(half > 0)) return std::nullopt;
  return half;
}

std::string seconds_cell(const LedgerRow& row, double wall_s) {
  if (!row.seconds) return std::string(kNotMeasured);
  const auto half = half_width_s(row);
  const int decimals = seconds_decimals(*row.seconds, half, wall_s);
  std::string value = fixed(*row.seconds, decimals);
  // Something below the last digit is not nothing.
  if (*row.seconds > 0 && value.find_first_not_of("0.") == std::string::npos)
    value = "<" + fixed(std::pow(10.0, -decimals), decimals);
  if (!half) return value;
  const double below = *row.seconds - *row.low_s, above = *row.high_s - *row.seconds;
  const std::string spread = fixed(*half, decimals);
  if (spread.find_first_not_of("0.") == std::string::npos) return value;
  if (std::fabs(above - below) > 0.5 * *half)
    return fmt::format("{} ({} to {})", value, fixed(*row.low_s, decimals),
                       fixed(*row.high_s, decimals));
  return fmt::format("{} ±{}", value, spread);
}

std::string seconds_change(const LedgerRow* a, const LedgerRow* b, double wall_s) {
  if (a == nullptr || b == nullptr || !a->seconds || !b->seconds) return "–";
  const double change = *b->seconds - *a->seconds;
  const double half = std::hypot(half_width_s(*a).value_or(0), half_width_s(*b).value_or(0));
  const std::string digits = fixed(std::fabs(change), seconds_decimals(change, half, wall_s));
  if (digits.find_first_not_of("0.") == std::string::npos) return "0";
  return (change < 0 ? "−" : "+") + digits;
}

std::vector<std::string> align_decimals(const std::vector<std::string>& cells) {
  struct Parts {
    std::string whole, fraction, rest;
  };
  std::vector<Parts> parts;
  std::size_t whole = 0, fraction = 0;
  for (const std::string& cell : cells) {
    Parts p;
    const std::size_t sign = cell.starts_with("−") ? std::string_view("−").size() : 0;
    const std::size_t digits = std::min(cell.find_first_not_of("<+0123456789", sign), cell.size());
    if (digits == sign) {
      p.rest = cell;
    } else {
      p.whole = cell.substr(0, digits);
      const std::size_t end = std::min(cell.find(' '), cell.size());
      p.fraction = cell.substr(digits, end - digits);
      if (end < cell.size()) p.rest = cell.substr(end);
      whole = std::max(whole, display_width(p.whole));
      fraction = std::max(fraction, p.fraction.size());
    }
    parts.push_back(std::move(p));
  }
  std::vector<std::string> out;
  for (const Parts& p : parts) {
    if (p.whole.empty()) {
      out.push_back(p.rest);
    } else {
      out.push_back(pad_left(p.whole, whole) + pad_right(p.fraction, fraction) + p.rest);
    }
  }
  return out;
}

std::string count(std::int64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

std::string runs_a_side(int runs_a, int runs_b) {
  if (runs_a == runs_b) return count(runs_a, "run") + " a side";
  return fmt::format("{} against {}", count(runs_a, "run"), runs_b);
}

std::string_view class_meaning(LedgerClass cls) {
  switch (cls) {
    case LedgerClass::startup:
      return "from the command's start to its first step";
    case LedgerClass::input:
      return "ranks wait for data";
    case LedgerClass::compute:
      return "devices do useful arithmetic";
    case LedgerClass::throttle:
      return "clocks were held down by heat or power";
    case LedgerClass::sync:
      return "ranks talk to or wait for each other";
    case LedgerClass::host:
      return "the CPU cannot launch work fast enough";
    case LedgerClass::memory:
      return "allocator retries, reclaim, swapping";
    case LedgerClass::checkpoint:
      return "steps stand still while a checkpoint is written";
    case LedgerClass::evaluation:
      return "training waits for an evaluation";
    case LedgerClass::teardown:
      return "from the last step to the end";
    case LedgerClass::unexplained:
      return "what the evidence does not cover";
  }
  return "?";
}

const LedgerRow* find_row(const Ledger& ledger, LedgerClass cls) {
  const auto found = std::find_if(ledger.rows.begin(), ledger.rows.end(),
                                  [&](const LedgerRow& row) { return row.cls == cls; });
  return found == ledger.rows.end() ? nullptr : &*found;
}

std::string full_stop(std::string sentence) {
  if (sentence.empty()) return sentence;
  const char last = sentence.back();
  if (last != '.' && last != '!' && last != '?' && last != ':') sentence += '.';
  return sentence;
}

std::string next_step_of(const Ledger& ledger) {
  const Finding* best = nullptr;
  for (const Finding& finding : ledger.findings) {
    if (finding.next_step.empty()) continue;
    if (best == nullptr || finding.severity > best->severity) best = &finding;
  }
  if (best != nullptr) return safe(best->next_step);
  if (!ledger.bottleneck.next_step.empty()) return safe(ledger.bottleneck.next_step);
  // Nothing to try: the biggest row that is not measured is what to look into.
  const LedgerRow* dim = nullptr;
  for (const LedgerRow& row : ledger.rows) {
    if (row.would_measure.empty()) continue;
    if (dim == nullptr || row.seconds.value_or(0) > dim->seconds.value_or(0)) dim = &row;
  }
  return dim == nullptr ? std::string() : safe(dim->would_measure);
}

Answer answer_of(const Ledger& ledger) {
  const double wall = ledger.wall_s;
  if (!ledger.bottleneck.cls) {
    const std::string why = safe(ledger.bottleneck.why);
    return {"",
            full_stop("No bottleneck can be shown" +
                      (why.empty() ? std::string(": too little was recorded") : ": " + why)),
            Tone::caution};
  }
  const LedgerClass cls = *ledger.bottleneck.cls;
  const LedgerRow* row = find_row(ledger, cls);
  const double share = share_of(row, wall);
  if (cls == LedgerClass::compute) {
    const bool assumed = row != nullptr && row->how == How::assumed;
    return {"",
            fmt::format("No bottleneck shown: {} of the wall time is {}.", format_share(share),
                        assumed ? "step time, not split further" : "compute"),
            Tone::good};
  }
  if (cls == LedgerClass::unexplained) {
    return {
        "",
        fmt::format("{} of the wall time is unexplained: measure it first.", format_share(share)),
        Tone::caution};
  }
  const double saves = row == nullptr ? 0 : row->saves_at_most_s.value_or(row->seconds.value_or(0));
  return {"",
          fmt::format("{} holds this run back: removing it saves at most {} ({}).", subject(cls),
                      plain_seconds(saves), format_share(wall > 0 ? saves / wall : 0)),
          Tone::caution};
}

std::string metric_in_words(std::string_view metric) {
  if (metric == "step_time_per_sample") return "step time per sample";
  if (metric == "step_time_per_token") return "step time per token";
  std::string words = safe(metric, 60);
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

std::string level_change(const Effect& effect) {
  if (!(effect.level_a_s > 0) || !(effect.level_b_s > 0)) return {};
  const double largest = std::max(effect.level_a_s, effect.level_b_s);
  if (largest >= 60)
    return format_duration(effect.level_a_s) + " → " + format_duration(effect.level_b_s);
  const bool milli = largest < 0.1;
  const double scale = milli ? 1000 : 1;
  const double smallest = std::min(effect.level_a_s, effect.level_b_s) * scale;
  const int decimals = smallest < 1 ? 3 : smallest < 10 ? 2 : 1;
  return fmt::format("{:.{}f} → {:.{}f} {}", effect.level_a_s * scale, decimals,
                     effect.level_b_s * scale, decimals, milli ? "ms" : "s");
}

Answer answer_of(const Comparison& comparison) {
  const std::string a = safe(comparison.name_a, 80), b = safe(comparison.name_b, 80);
  const std::string why = safe(comparison.verdict_why);
  if (comparison.verdict == Verdict::not_comparable) {
    std::string sentence = comparison.blockers.empty() ? why : safe(comparison.blockers.front());
    if (sentence.empty()) sentence = "the two sides did different work";
    sentence = full_stop(sentence);
    if (!comparison.smallest_change.empty())
      sentence += " Smallest change: " + full_stop(safe(comparison.smallest_change));
    return {"NOT COMPARABLE", sentence, Tone::bad};
  }
  if (!comparison.effect) {
    return {"INCONCLUSIVE",
            full_stop(why.empty() ? "no step time was measured on both sides" : why),
            Tone::caution};
  }
  const Effect& effect = *comparison.effect;
  const std::string sides = runs_a_side(effect.runs_a, effect.runs_b);
  const auto ratio = [&](double percent) {
    return percent_plain(100 + percent, half_percent(effect));
  };
  switch (comparison.verdict) {
    case Verdict::faster:
      return {comparison.likely ? "LIKELY FASTER" : "FASTER",
              fmt::format("{} does the same work in {} of the time ({} to {}, {}).", b,
                          ratio(effect.percent), ratio(effect.low), ratio(effect.high), sides),
              Tone::good};
    case Verdict::slower:
      return {comparison.likely ? "LIKELY SLOWER" : "SLOWER",
              fmt::format("{} needs {} of {}'s time for the same work ({} to {}, {}).", b,
                          ratio(effect.percent), a, ratio(effect.low), ratio(effect.high), sides),
              Tone::bad};
    case Verdict::equivalent:
      return {comparison.likely ? "LIKELY EQUIVALENT" : "EQUIVALENT",
              fmt::format("{} and {} need the same time: {} ({}, {}).", a, b,
                          percent_change(effect.percent, half_percent(effect)),
                          interval_of_change(effect), sides),
              Tone::neutral};
    default:
      break;
  }
  std::string sentence = fmt::format("the difference is {} ({}, {})",
                                     percent_change(effect.percent, half_percent(effect)),
                                     interval_of_change(effect), sides);
  if (comparison.runs_needed)
    sentence += "; " + count(*comparison.runs_needed, "run") + " a side would settle it";
  return {"INCONCLUSIVE", sentence + ".", Tone::caution};
}

Answer answer_of(const Decision& decision) {
  const std::string reason =
      decision.reasons.empty() ? std::string() : safe(decision.reasons.front().text);
  const std::string fix = safe(decision.fix.value_or(""), 80);
  switch (decision.verdict) {
    case DecisionVerdict::keep:
      return {"KEEP THE PLAN", full_stop(reason), Tone::good};
    case DecisionVerdict::simplify:
      return {"SIMPLIFY TO WORKLOAD SHARDING", full_stop(reason), Tone::neutral};
    case DecisionVerdict::fix_first: {
      std::string words = fix;
      std::replace(words.begin(), words.end(), '_', ' ');
      return {"FIX ANOTHER BOTTLENECK FIRST", full_stop(words.empty() ? reason : words),
              Tone::caution};
    }
    case DecisionVerdict::stop:
      return {"STOP SCALING AT HOME", full_stop(reason), Tone::bad};
    case DecisionVerdict::not_shown:
      return {"NOT SHOWN YET", full_stop(reason), Tone::caution};
  }
  return {};
}

std::string answer_lines(const Answer& answer, const TextStyle& style) {
  const Paint paint(style);
  const auto toned = [&](std::string_view text) {
    switch (answer.tone) {
      case Tone::good:
        return paint.green(text);
      case Tone::bad:
        return paint.red(text);
      case Tone::caution:
        return paint.yellow(text);
      case Tone::neutral:
        break;
    }
    return paint.bold(text);
  };
  std::string out;
  for (const std::string& line : wrap(answer.text(), line_width(style))) {
    const bool led = out.empty() && !answer.lead.empty() && line.rfind(answer.lead, 0) == 0;
    if (led) {
      out += toned(answer.lead) + line.substr(answer.lead.size());
    } else {
      out += answer.lead.empty() ? paint.bold(line) : line;
    }
    out += '\n';
  }
  return out;
}

std::string ending_in_words(const Run& run) {
  const std::string wall = format_duration(run.wall_s);
  if (run.state == RunState::running) return "still running after " + wall;
  if (run.state == RunState::torn || !run.info.ending)
    return "torn: the record ends after " + wall + ", how it ended is not known";
  const Ending& ending = *run.info.ending;
  if (ending.reason == kStoppedForHang)
    return fmt::format("stopped by rigwise after {}, since it hung", wall);
  if (run.info.imported && !ending.exit_status && !ending.signal) {
    if (end_unknown(run.info) && ending.reason == kEndNotKnown)
      return fmt::format("imported: {} on record, how it ended is not known", wall);
    return fmt::format("imported: {} on record, {}", wall, safe(ending.reason, 120));
  }
  if (ending.signal) {
    std::string name = safe(ending.reason, 60);
    if (name.rfind("signal ", 0) == 0) name.erase(0, 7);
    return fmt::format("killed by {} after {}",
                       name.empty() ? fmt::format("signal {}", *ending.signal) : name, wall);
  }
  if (!ending.exit_status) return fmt::format("ended after {}, status lost", wall);
  if (ending.reason == "not found" || ending.reason == "not executable")
    return fmt::format("did not start: command {} (exit {})", ending.reason, *ending.exit_status);
  return fmt::format("{} {}, exit {}", *ending.exit_status == 0 ? "finished in" : "failed after",
                     wall, *ending.exit_status);
}

Answer answer_of(const Run& run) {
  const bool good = run.state == RunState::finished && ended_well(run.info);
  return {"", safe(run.info.name, 80) + " " + ending_in_words(run) + ".",
          good                                                      ? Tone::good
          : run.state == RunState::running || end_unknown(run.info) ? Tone::neutral
                                                                    : Tone::bad};
}

std::string ranks_in_words(const RunInfo& info) {
  if (info.ranks_trained && info.ranks_asked)
    return fmt::format("{} of {} trained", *info.ranks_trained, count(*info.ranks_asked, "rank"));
  if (info.ranks_trained) return count(*info.ranks_trained, "rank") + " trained";
  if (info.ranks_asked)
    return count(*info.ranks_asked, "rank") + " asked for, how many trained is not known";
  return {};
}

std::string shell_line(const std::vector<std::string>& argv) {
  std::vector<std::string> clean;
  for (const std::string& word : argv) clean.push_back(safe(word, 2000));
  return rigwise::shell_line(clean);
}

}  // namespace rigwise::report
