// Does it fit: terminal text and JSON.
#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "base/text.h"
#include "report/layout.h"
#include "rigwise/report_plan.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

std::string gib(double bytes) {
  return fmt::format("{:.1f}", bytes / kGibBytes);
}
std::string range_in_words(const Interval& peak) {
  return fmt::format("{} GiB ({} to {})", gib(peak.value), gib(peak.low), gib(peak.high));
}

std::string answer_of_fit(const FitPlan& plan, const Workload& w, const TextStyle& style) {
  const Paint paint(style);
  const std::string need = range_in_words(plan.estimate.peak);
  const std::string have = plan.usable_bytes
                               ? gib(*plan.usable_bytes) + " GiB usable on " +
                                     (w.n_gpus > 1 ? "each " : "one ") + safe(w.gpu, 40)
                               : "";
  switch (plan.fit) {
    case Fit::fits:
      return paint.green("FITS") + ": " + need + " of " + have + ".";
    case Fit::may_not_fit:
      return paint.yellow("MAY NOT FIT") + ": " + need + " of " + have + ".";
    case Fit::does_not_fit:
      return paint.red("DOES NOT FIT") + ": " + need + ", and there are " + have + ".";
    case Fit::unknown:
      break;
  }
  return "Needs " + need + " on each GPU.";
}

std::string metric_in_words(const std::string& metric) {
  if (metric == "device") return "as nvidia-smi shows it";
  if (metric == "reserved") return "held by torch's allocator (reserved)";
  if (metric == "allocated") return "tensors alone (allocated)";
  return metric;
}

void add_reductions(std::string& out, const FitPlan& plan, const TextStyle& style) {
  if (plan.reductions.empty()) return;
  out += "\n  To need less, before buying more:\n\n";
  Table table;
  table.align = {Table::Align::right, Table::Align::right, Table::Align::left, Table::Align::left};
  table.head = {"GiB", "saves", "change", "price"};
  table.grey_last = false;
  for (const auto& reduction : plan.reductions) {
    std::string price = "speed: " + reduction.speed_price;
    if (reduction.quality_risk != "none") price += "; quality: " + reduction.quality_risk;
    table.rows.push_back(
        {gib(reduction.peak.value), gib(reduction.saves_bytes), reduction.change, price});
  }
  out += table.text(style);
}

/// Loading, saving and the host's side.
void add_moments(std::string& out, const FitPlan& plan, const TextStyle& style) {
  if (plan.moments.empty()) return;
  out += "\n  Beside the training step (assumed from what trainers do):\n\n";
  Table table;
  table.align = {Table::Align::left, Table::Align::right, Table::Align::left};
  table.head = {"moment", "GiB", "what"};
  table.grey_last = false;
  for (const auto& moment : plan.moments) {
    std::string what = moment.what;
    const double have = moment.on_host ? 0 : plan.usable_bytes.value_or(0);
    if (have > 0 && moment.bytes.low > have) {
      what = "DOES NOT FIT " + gib(have) + ": " + what;
    } else if (have > 0 && moment.bytes.high > have) {
      what = "may not fit " + gib(have) + ": " + what;
    }
    table.rows.push_back({(moment.on_host ? "host, " : "GPU, ") + moment.when,
                          gib(moment.bytes.low) + " to " + gib(moment.bytes.high), what});
  }
  out += table.text(style);
}

}  // namespace

std::string fit_text(const FitPlan& plan, const Workload& w, const TextStyle& style) {
  const std::size_t width = line_width(style);
  std::string out = answer_of_fit(plan, w, style) + "\n\n";
  auto parts = plan.estimate.parts;
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  Table table;
  table.align = {Table::Align::left, Table::Align::right, Table::Align::right, Table::Align::left};
  table.head = {"part", "GiB", "share", ""};
  for (const auto& part : parts) {
    table.rows.push_back(
        {part.name, gib(part.bytes), format_share(part.bytes / plan.estimate.peak.value), ""});
  }
  out += table.text(style);
  out += '\n' + hang("  ",
                     "Largest at the " + plan.estimate.phase + "; " +
                         metric_in_words(plan.estimate.metric) +
                         ". The interval is meant to hold 8 of 10 such runs.",
                     width);
  if (!plan.estimate.assumed.empty()) {
    out += hang("  Assumed: ", safe(join(plan.estimate.assumed, ", "), 600) + ".", width);
  }
  add_moments(out, plan, style);
  add_reductions(out, plan, style);
  if (plan.together_peak) {
    std::vector<std::string> changes;
    for (const auto& change : plan.together) changes.push_back(change.change);
    const bool fits = plan.together_peak->high <= plan.usable_bytes.value_or(0);
    out += '\n' + hang("  ",
                       (fits ? "Fits with: " : "Even with all of these: ") + join(changes, ", ") +
                           ": " + range_in_words(*plan.together_peak) + ".",
                       width);
  }
  out +=
      '\n' +
      hang("Next: ",
           "measure ten steps, which halves the interval or better: rigwise run --name fit -- CMD",
           width);
  return out;
}

namespace {

Json interval_json(const Interval& interval) {
  return Json{{"value_bytes", json_number(interval.value)},
              {"low_bytes", json_number(interval.low)},
              {"high_bytes", json_number(interval.high)}};
}
Json reductions_json(const std::vector<Reduction>& reductions) {
  Json all = Json::array();
  for (const auto& r : reductions) {
    all.push_back(Json{{"change", r.change},
                       {"flag", r.flag},
                       {"peak", interval_json(r.peak)},
                       {"saves_bytes", json_number(r.saves_bytes)},
                       {"speed_price", r.speed_price},
                       {"quality_risk", r.quality_risk}});
  }
  return all;
}

}  // namespace

std::string fit_json(const FitPlan& plan, const Workload& w) {
  Json json;
  json["schema"] = 1;
  json["fit"] = to_string(plan.fit);
  json["model"] = w.model;
  json["metric"] = plan.estimate.metric;
  json["peak"] = interval_json(plan.estimate.peak);
  json["coverage_frac"] = 0.8;
  put(json, "usable_bytes", plan.usable_bytes);
  json["phase"] = plan.estimate.phase;
  Json parts = Json::array();
  for (const auto& part : plan.estimate.parts) {
    parts.push_back(Json{{"name", part.name}, {"bytes", json_number(part.bytes)}});
  }
  json["parts"] = std::move(parts);
  json["assumed"] = plan.estimate.assumed;
  Json moments = Json::array();
  for (const auto& moment : plan.moments) {
    Json one = interval_json(moment.bytes);
    one["when"] = moment.when;
    one["where"] = moment.on_host ? "host" : "gpu";
    one["what"] = moment.what;
    moments.push_back(std::move(one));
  }
  json["moments"] = std::move(moments);
  json["reductions"] = reductions_json(plan.reductions);
  json["together"] = reductions_json(plan.together);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace rigwise
