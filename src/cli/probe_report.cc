// What probe prints: one table, best first, or the JSON document of docs/json.md.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "cli/probe.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

constexpr double kWideShare = 0.3;  // an interval wider than this is told by its ends

/// "1234 ±30"; "300 to 5000" where ± would hide how lopsided it is.
std::string with_interval(const std::optional<Interval>& interval, int digits) {
  if (!interval) return "–";
  const auto number = [&](double value) { return fmt::format("{:.{}f}", value, digits); };
  if (!interval->low || !interval->high) return number(interval->value);
  const double half = std::max(interval->value - *interval->low, *interval->high - interval->value);
  if (half > kWideShare * interval->value) {
    return number(*interval->low) + " to " + number(*interval->high);
  }
  return number(interval->value) + " ±" + number(half);
}

std::string verdict_words(const ProbeRow& row) {
  if (!row.verdict) return "baseline";
  const std::string likely = row.likely ? "likely " : "";
  switch (*row.verdict) {
    case Verdict::faster:
      return likely + "FASTER";
    case Verdict::slower:
      return likely + "SLOWER";
    case Verdict::equivalent:
      return likely + "EQUIVALENT";
    case Verdict::inconclusive:
      return "INCONCLUSIVE";
    case Verdict::not_comparable:
      return "NOT COMPARABLE";
  }
  return "?";
}

std::string loss_words(const ProbeRow& row) {
  if (!row.loss_difference_frac) return "–";
  return *row.loss_difference_frac == 0 ? "same" : fmt::format("{:.0e}", *row.loss_difference_frac);
}

std::string head_text(const ProbeReport& report, std::size_t width) {
  const bool cpu = report.device == "cpu";
  std::string text =
      fmt::format("{}: {}{} by {}, {}{}, {} steps of {} windows", report.experiment, report.model,
                  report.model_made ? " (made, random weights)" : "", report.method, report.data,
                  report.data_made ? " (made)" : "", report.steps, report.global_batch);
  if (report.tokens_a_step) text += fmt::format(" ({} tokens)", *report.tokens_a_step);
  text += fmt::format(", {} a strategy in turn", counted(report.repeats, "run", "runs"));
  std::string out = report::hang("", report::safe(text), width);
  if (cpu) {
    out += report::hang(
        "",
        fmt::format("No GPU is used: {} of the CPU stand for a device each, {}, and single has one "
                    "of them.",
                    counted(report.devices, "part", "parts"),
                    counted(report.threads.value_or(1), "thread", "threads")),
        width);
  }
  return out;
}

/// Columns as wide as their widest cell. Not report::Table: its last column is for long texts.
std::string table_text(const std::vector<ProbeRow>& rows) {
  constexpr std::size_t kVerdict = 4;  // words stand left, figures right
  const bool predicted = std::any_of(
      rows.begin(), rows.end(), [](const auto& row) { return row.predicted_factor.has_value(); });
  std::vector<std::vector<std::string>> cells = {
      {"strategy", "ranks", "tokens/s", "× single", "verdict", "peak", "sync", "loss"}};
  if (predicted) cells[0].emplace_back("plan");
  for (const auto& row : rows) {
    if (row.state != ProbeState::measured) continue;
    cells.push_back(
        {row.strategy.name, std::to_string(row.strategy.ranks), with_interval(row.tokens_per_s, 0),
         row.verdict ? with_interval(row.factor, 2) : "1", verdict_words(row),
         row.peak_memory_bytes ? format_bytes_binary(static_cast<double>(*row.peak_memory_bytes))
                               : "–",
         !row.sync_frac        ? "–"
         : *row.sync_frac == 0 ? "0 %"
                               : format_share(*row.sync_frac),
         loss_words(row)});
    if (predicted) {
      cells.back().push_back(
          row.predicted_factor ? fmt::format("{:.2f}", row.predicted_factor->value) : "–");
    }
  }
  std::string out;
  for (const auto& line : cells) {
    std::string text = " ";
    for (std::size_t i = 0; i < line.size(); ++i) {
      std::size_t width = 0;
      for (const auto& other : cells) width = std::max(width, report::display_width(other[i]));
      const bool left = i == 0 || i == kVerdict;
      text += (i == 0 ? " " : "  ") +
              (left ? report::pad_right(line[i], width) : report::pad_left(line[i], width));
    }
    out += text + "\n";
  }
  return out;
}

/// One line for each strategy that no figure is given of, and why.
std::string left_out_text(const std::vector<ProbeRow>& rows, std::size_t width) {
  std::string out;
  for (const auto& row : rows) {
    if (row.state == ProbeState::measured) continue;
    const std::string_view what = row.state == ProbeState::does_not_fit ? "does not fit"
                                  : row.state == ProbeState::refused    ? "not the same work"
                                                                        : "failed";
    out += report::hang(fmt::format("  {} {}: ", row.strategy.name, what), report::safe(row.why),
                        width);
  }
  return out;
}

/// How good plan's order was: what taking its first one costs against the best one.
std::string order_text(const ProbeReport& report, std::size_t width) {
  if (!report.not_predicted.empty()) {
    return report::hang("Plan: ", "no order: " + report::safe(report.not_predicted) + ".", width);
  }
  if (!report.order_judged) return "";
  const OrderJudged& judged = *report.order_judged;
  std::string text = join(report.predicted_order, ", ") + ", by single's trial and the link";
  text += judged.first == judged.best
              ? "; its first was the fastest measured"
              : fmt::format("; its first, {}, takes {:.1f} % longer than the fastest measured, {}",
                            judged.first, 100 * judged.regret_frac, judged.best);
  return report::hang("Plan's order: ", report::safe(text, 400) + ".", width);
}

}  // namespace

std::string probe_text(const ProbeReport& report, const TextStyle& style) {
  const std::size_t width = report::line_width(style);
  std::string out = head_text(report, width);
  const bool refused = std::any_of(report.rows.begin(), report.rows.end(), [](const auto& row) {
    return row.state == ProbeState::refused;
  });
  out += report::hang(
      "same work: ",
      fmt::format("yes{}: tokens of every step, global batch, predicted tokens, optimizer steps "
                  "and checkpoints are single's, losses within {:.0e}",
                  refused ? " for all that stand in the table" : "", report.loss_tolerance),
      width);
  out += "\n" + table_text(report.rows);
  const std::string left_out = left_out_text(report.rows, width);
  if (!left_out.empty()) out += "\n" + left_out;
  if (const std::string order = order_text(report, width); !order.empty()) out += "\n" + order;
  out += "\n" + report::hang("Verdict: ", report::safe(report.verdict.sentence), width);
  out += fmt::format("Took {}; every run is kept: rigwise runs\n", format_duration(report.took_s));
  for (std::size_t i = 0; i < report.next.size(); ++i) {
    out += (i == 0 ? "Next: " : "      ") + report::safe(report.next[i]) + "\n";
  }
  return out;
}

namespace {

Json row_json(const ProbeRow& row) {
  Json out = {{"strategy", row.strategy.name},
              {"ranks", row.strategy.ranks},
              {"state", to_string(row.state)}};
  if (!row.why.empty()) out["why"] = clean_text(row.why, 600);
  out["name"] = row.name;
  out["runs"] = row.runs;
  const auto interval = [&](const std::string& key, const std::optional<Interval>& value) {
    if (!value) return;
    out[key] = json_number(value->value);
    put(out, (key + "_low").c_str(), value->low);
    put(out, (key + "_high").c_str(), value->high);
  };
  interval("tokens_per_s", row.tokens_per_s);
  interval("factor", row.factor);
  interval("predicted_factor", row.predicted_factor);
  put(out, "peak_memory_bytes", row.peak_memory_bytes);
  put(out, "sync_frac", row.sync_frac);
  put(out, "loss_difference_frac", row.loss_difference_frac);
  if (row.verdict) {
    out["verdict"] = rigwise::to_string(*row.verdict);
    out["likely"] = row.likely;
  }
  put(out, "runs_needed", row.runs_needed);
  return out;
}

}  // namespace

std::string probe_json(const ProbeReport& report) {
  Json out = {{"schema", 1},
              {"experiment", report.experiment},
              {"folder", report.folder},
              {"engine", report.engine},
              {"model", report.model},
              {"model_made", report.model_made},
              {"data", report.data},
              {"data_made", report.data_made},
              {"device", report.device},
              {"devices", report.devices}};
  put(out, "threads", report.threads);
  out["method"] = report.method;
  out["steps"] = report.steps;
  out["warm_up_steps"] = probe_warm_up(static_cast<std::size_t>(report.steps));
  out["global_batch"] = report.global_batch;
  put(out, "tokens_a_step", report.tokens_a_step);
  out["repeats"] = report.repeats;
  out["loss_tolerance"] = report.loss_tolerance;
  out["order"] = report.order;
  out["took_s"] = json_number(report.took_s);
  if (!report.predicted_order.empty()) out["predicted_order"] = report.predicted_order;
  if (!report.not_predicted.empty()) out["not_predicted"] = clean_text(report.not_predicted, 600);
  if (const auto& judged = report.order_judged) {
    out["order_judged"] = {{"first", judged->first},
                           {"best", judged->best},
                           {"regret_frac", json_number(judged->regret_frac)}};
    put(out["order_judged"], "kendall_tau", judged->kendall_tau);
  }
  out["strategies"] = Json::array();
  for (const auto& row : report.rows) out["strategies"].push_back(row_json(row));
  out["verdict"] = {{"choice", to_string(report.verdict.choice)},
                    {"sentence", clean_text(report.verdict.sentence, 1000)}};
  if (!report.verdict.strategy.empty()) out["verdict"]["strategy"] = report.verdict.strategy;
  out["next"] = report.next;
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace rigwise::cli
