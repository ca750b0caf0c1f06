// Terminal text and JSON of predictions held against published measurements.
#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "report/figures.h"
#include "report/layout.h"
#include "rigwise/report_plan.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

bool in_degrees(const ScoreGroup& group) {
  return group.name.starts_with("heat");
}
std::string error_cell(double error, bool degrees) {
  return fmt::format("{:.1f} {}", error, degrees ? "°C" : "%");
}

void add_group(Table& table, const ScoreGroup& group) {
  const bool degrees = in_degrees(group);
  const std::int64_t scored = group.cases - group.refused - group.unscored;
  if (scored == 0) {
    table.rows.push_back(
        {safe(group.name, 60), std::to_string(group.cases), "–", "–", "–", "–", "–", ""});
    return;
  }
  table.rows.push_back(
      {safe(group.name, 60), std::to_string(group.cases), error_cell(group.mean_error, degrees),
       error_cell(group.median_error, degrees), error_cell(group.worst_error, degrees),
       format_share(group.covered_frac), error_cell(group.interval_score, degrees), ""});
  for (const auto& baseline : group.baselines) {
    table.rows.push_back({"  " + baseline.name, "", error_cell(baseline.mean_error, degrees),
                          error_cell(baseline.median_error, degrees), "", "", "", ""});
  }
}

std::string notes_of(const ScoreGroup& group, std::size_t width) {
  std::string out;
  const bool degrees = in_degrees(group);
  std::string text;
  if (group.by_source.size() > 1) {
    text += "each source counted once " + error_cell(group.mean_by_source, degrees);
  }
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : " · ") + more; };
  add(fmt::format("mean signed error {:+.1f} {}", group.bias, degrees ? "°C" : "%"));
  add("above the interval " + format_share(group.above_frac));
  if (group.sign_cases > 0) {
    add(fmt::format("faster or slower than before: right in {} of {}", group.sign_right,
                    group.sign_cases));
  }
  if (group.refused > 0) add(fmt::format("{} refused", group.refused));
  if (group.unscored > 0) add(fmt::format("{} without a measured figure", group.unscored));
  if (!group.worst_id.empty()) add("worst: " + safe(group.worst_id, 80));
  out += hang("  " + safe(group.name, 60) + ": ", text, width);
  return out;
}

}  // namespace

std::string scorecard_text(const Scorecard& card, const TextStyle& style) {
  std::int64_t cases = 0, refused = 0;
  for (const auto& group : card.groups) cases += group.cases, refused += group.refused;
  if (cases == 0) return "No case in the file.\n";
  std::string out =
      fmt::format("{} predicted, {} refused.\n\n", count(cases - refused, "case"), refused);
  Table table;
  table.align = {Table::Align::left,  Table::Align::right, Table::Align::right, Table::Align::right,
                 Table::Align::right, Table::Align::right, Table::Align::right, Table::Align::left};
  table.head = {"", "cases", "mean", "median", "worst", "inside", "score", ""};
  table.grey_last = false;
  for (const auto& group : card.groups) add_group(table, group);
  out += table.text(style) + '\n';
  const std::size_t width = line_width(style);
  for (const auto& group : card.groups) {
    if (group.cases > group.refused + group.unscored) out += notes_of(group, width);
  }
  out += '\n' + hang("",
                     "inside: share of the measured figures within the interval, which is meant "
                     "to hold 80 %; score: its width and ten times what lies outside, smaller "
                     "is better.",
                     width);
  return out;
}

std::string predictions_json(const std::vector<CasePrediction>& predictions) {
  std::string out;
  for (const auto& prediction : predictions) {
    Json json;
    json["id"] = prediction.id;
    if (!prediction.refused) {
      json["predicted"] = json_number(prediction.predicted);
      json["low"] = json_number(prediction.low);
      json["high"] = json_number(prediction.high);
    }
    json["refused"] = prediction.refused;
    if (!prediction.why.empty()) json["why"] = prediction.why;
    out += json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
  }
  return out;
}

}  // namespace rigwise
