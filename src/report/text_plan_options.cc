// Every option of a plan side by side: terminal text and JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "report/layout.h"
#include "rigwise/report_plan.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

/// "4 h 40 to 5 h 40": hours and minutes, or the same unit on both sides for short ones.
std::string moment(double seconds) {
  if (seconds < 3600) return format_duration(seconds);
  const auto minutes = static_cast<long>(std::lround(seconds / 60));
  return fmt::format("{} h {:02}", minutes / 60, minutes % 60);
}
std::string span_cell(const OptionRow& option) {
  if (!option.wall_s) return "not predicted";
  const std::string low = moment(option.wall_s->low), high = moment(option.wall_s->high);
  return low == high ? moment(option.wall_s->value) : low + " to " + high;
}
std::string chance_cell(const OptionRow& option) {
  if (!option.chance_frac) return "";
  return fmt::format("{:.0f} %", std::round(*option.chance_frac * 20) * 5);
}
std::string amount(double value) {
  return value >= 100 || value == 0 ? fmt::format("{:.0f}", value) : fmt::format("{:.2f}", value);
}
std::string cost_cell(const OptionRow& option, const OptionContext& context) {
  const std::string unit = " " + safe(context.currency, 8);
  if (option.run_price && option.buy_price && *option.buy_price > 0) {
    return amount(*option.buy_price) + " + " + amount(*option.run_price) + unit + "/run";
  }
  if (option.run_price) return amount(*option.run_price) + unit + "/run";
  return option.buy_price ? amount(*option.buy_price) + unit : "";
}

std::string details_of(const OptionRow& option, std::size_t width) {
  std::string text;
  const auto add = [&](const std::string& label, const std::string& more) {
    if (more.empty() || more == "–") return;
    text += (text.empty() ? "" : " · ") + label + more;
  };
  add("refused: ", safe(option.refused));
  add("", safe(option.risk));
  add("", safe(option.notes));
  add("needed first: ", safe(option.evidence_needed));
  if (option.run_kwh) add("", fmt::format("{:.1f} kWh a run", *option.run_kwh));
  if (option.payback_runs) {
    add("", fmt::format("pays back against renting after {:.0f} runs",
                        std::ceil(*option.payback_runs)));
  }
  if (option.assumed && option.refused.empty()) add("", "rests on assumed figures");
  return text.empty() ? "" : hang("  " + safe(option.name, 60) + ": ", text, width);
}

/// "ddp 1.7 s a step (1.6 to 1.9), pp 2.4 s (2.2 to 2.9); not tp: …"
std::string strategies_in_words(const std::vector<StrategyStep>& strategies) {
  std::string text, refused;
  for (const auto& one : strategies) {
    if (!one.refused.empty()) {
      refused += "; not " + safe(one.strategy, 20) + ": " + safe(one.refused, 200);
      continue;
    }
    text += fmt::format("{}{} {}{} ({} to {})", text.empty() ? "" : ", ", safe(one.strategy, 20),
                        format_duration(one.step_s.value), text.empty() ? " a step" : "",
                        format_duration(one.step_s.low), format_duration(one.step_s.high));
  }
  return text + refused;
}

}  // namespace

std::string options_text(const OptionPlan& plan, const OptionContext& context,
                         const TextStyle& style) {
  const std::size_t width = line_width(style);
  const Paint paint(style);
  std::string out =
      paint.bold(plan.answer.empty() ? fmt::format("{:.0f} steps as measured take {}.",
                                                   plan.work_steps, moment(plan.as_measured_s))
                                     : plan.answer) +
      "\n\n";
  Table table;
  table.align = {Table::Align::left, Table::Align::right, Table::Align::right, Table::Align::right,
                 Table::Align::left};
  table.head = {"option", fmt::format("{:.0f} steps", plan.work_steps),
                plan.limit_s ? "chance" : "", "cost", ""};
  for (const auto& option : plan.options) {
    table.rows.push_back({safe(option.name, 32) + (option.assumed ? " *" : ""), span_cell(option),
                          chance_cell(option), cost_cell(option, context), ""});
  }
  table.grey_last = false;
  out += table.text(style) + '\n';
  for (const auto& option : plan.options) out += details_of(option, width);
  if (!plan.strategies.empty()) {
    out += '\n' +
           hang("  strategies, fastest first: ", strategies_in_words(plan.strategies) + ".", width);
  }
  if (plan.power) {
    out += '\n' + hang("  power: ", safe(plan.power->verdict) + ".", width);
  }
  out +=
      '\n' +
      hang("", "Intervals are meant to hold 8 of 10; * rests on figures that nobody measured here.",
           width);
  const auto next = std::find_if(plan.options.begin(), plan.options.end(), [](const auto& option) {
    return option.id != "nothing" && !option.evidence_needed.empty() &&
           option.evidence_needed != "–";
  });
  if (next != plan.options.end()) {
    out += hang("Next: ", safe(next->name) + ": " + safe(next->evidence_needed), width);
  }
  return out;
}

namespace {

Json seconds_json(const Interval& interval) {
  return Json{{"value_s", json_number(interval.value)},
              {"low_s", json_number(interval.low)},
              {"high_s", json_number(interval.high)}};
}

Json option_json(const OptionRow& option) {
  Json json;
  json["id"] = option.id;
  json["name"] = option.name;
  json["wall"] = option.wall_s ? seconds_json(*option.wall_s) : Json(nullptr);
  put(json, "chance_frac", option.chance_frac);
  if (!option.refused.empty()) json["refused"] = option.refused;
  json["assumed"] = option.assumed;
  json["risk"] = option.risk;
  json["evidence_needed"] = option.evidence_needed;
  if (!option.notes.empty()) json["notes"] = option.notes;
  if (option.throttle) {
    json["throttle_chance_frac"] = json_number(option.throttle->chance_frac);
    if (option.throttle->after_s) json["throttle_after"] = seconds_json(*option.throttle->after_s);
  }
  put(json, "buy_price", option.buy_price);
  put(json, "run_kwh", option.run_kwh);
  put(json, "run_price", option.run_price);
  put(json, "payback_runs", option.payback_runs);
  Json rows = Json::array();
  for (const auto& row : option.rows) {
    Json one = seconds_json(row.seconds);
    one["class"] = row.cls;
    rows.push_back(std::move(one));
  }
  json["rows"] = std::move(rows);
  return json;
}

Json strategy_json(const StrategyStep& one) {
  Json json;
  json["strategy"] = one.strategy;
  json["ranks"] = one.ranks;
  if (!one.refused.empty()) {
    json["refused"] = one.refused;
    return json;
  }
  json["step"] = seconds_json(one.step_s);
  json["compute"] = seconds_json(one.compute_s);
  json["exposed"] = seconds_json(one.exposed_s);
  json["sent_bytes"] = json_number(one.sent_bytes);
  json["assumed"] = one.assumed;
  return json;
}

Json power_json(const PowerPlan& power) {
  Json json;
  json["gpus"] = power.gpus;
  json["continuous_w"] = json_number(power.continuous_w);
  json["wall_w"] = json_number(power.wall_w);
  Json windows = Json::array();
  for (const auto& w : power.windows) {
    windows.push_back(Json{{"window_s", w.window_s},
                           {"draw_w", json_number(w.draw_w)},
                           {"worst_w", json_number(w.worst_w)},
                           {"limit_w", json_number(w.limit_w)},
                           {"holds", w.holds},
                           {"holds_worst", w.holds_worst}});
  }
  json["windows"] = std::move(windows);
  put(json, "circuit_limit_w", power.circuit_limit_w);
  put(json, "circuit_holds", power.circuit_holds);
  json["verdict"] = power.verdict;
  json["assumed"] = power.assumed;
  return json;
}

}  // namespace

std::string options_json(const OptionPlan& plan, const OptionContext& context) {
  Json json;
  json["schema"] = 1;
  json["run"] = plan.run;
  json["work_steps"] = json_number(plan.work_steps);
  put(json, "limit_s", plan.limit_s);
  json["as_measured_s"] = json_number(plan.as_measured_s);
  json["answer"] = plan.answer;
  json["coverage_frac"] = 0.8;
  json["currency"] = context.currency;
  Json options = Json::array();
  for (const auto& option : plan.options) options.push_back(option_json(option));
  json["options"] = std::move(options);
  Json strategies = Json::array();
  for (const auto& one : plan.strategies) strategies.push_back(strategy_json(one));
  json["strategies"] = std::move(strategies);
  if (plan.power) json["power"] = power_json(*plan.power);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace rigwise
