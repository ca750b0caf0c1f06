// A change of ledgers as text and JSON: which rows moved.
#include "report/change.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "report/figures.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

constexpr int kSchema = 1;

std::string fixed(double value, int decimals) {
  return fmt::format("{:.{}f}", value, decimals);
}

/// What `moved` goes by.
const Change& judged(const LedgerChangeRow& row) {
  return row.per_step ? *row.per_step : row.seconds;
}

std::string side_name(const LedgerSide& side, std::size_t most = 80) {
  return safe(side.name.empty() && !side.runs.empty() ? side.runs.front() : side.name, most);
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

std::vector<std::string> names_of(const std::vector<LedgerClass>& classes) {
  std::vector<std::string> out;
  for (const LedgerClass cls : classes) out.emplace_back(to_string(cls));
  return out;
}

std::string verdict(const Change& change, bool moved) {
  if (!change.difference) return "–";
  return !moved ? "no" : *change.difference < 0 ? "fell" : "rose";
}

/// "fell by 61 s (71 to 10)".
std::string movement(const LedgerChangeRow& row) {
  const Change& change = judged(row);
  const char* way = *change.difference < 0 ? "fell" : "rose";
  if (row.per_step) {
    return fmt::format("{} by {} a step ({} to {})", way,
                       format_duration(std::fabs(*change.difference)), format_duration(*change.a),
                       format_duration(*change.b));
  }
  const double largest = std::max(*change.a, *change.b);
  const int decimals = largest < 9.95 ? 1 : 0;
  return fmt::format("{} by {} ({} to {})", way, plain_seconds(std::fabs(*change.difference)),
                     fixed(*change.a, decimals), fixed(*change.b, decimals));
}

/// Cells of one unit, with the digits that `change`'s interval deserves.
struct Cells {
  std::string a, b, difference;
};

Cells cells_of(const Change& change, double wall, double scale) {
  const auto half =
      change.difference ? std::optional((*change.high - *change.low) / 2 * scale) : std::nullopt;
  const auto number = [&](std::optional<double> value) {
    if (!value) return std::string(kNotMeasured);
    if (*value == 0) return std::string("0");
    const int decimals = seconds_decimals(*value * scale, half, wall * scale);
    std::string text = fixed(*value * scale, decimals);
    // Something below the last digit is not nothing.
    if (text.find_first_not_of("0.") == std::string::npos)
      text = "<" + fixed(std::pow(10.0, -decimals), decimals);
    return text;
  };
  Cells cells{number(change.a), number(change.b), "–"};
  if (!change.difference) return cells;
  const int decimals = seconds_decimals(*change.difference * scale, half, wall * scale);
  const std::string digits = fixed(std::fabs(*change.difference) * scale, decimals);
  const bool none = digits.find_first_not_of("0.") == std::string::npos;
  const std::string spread = fixed(*half, decimals);
  cells.difference = none ? "0" : (*change.difference < 0 ? "−" : "+") + digits;
  if (spread.find_first_not_of("0.") != std::string::npos) cells.difference += " ±" + spread;
  return cells;
}

struct Line {
  std::string name;
  Change change;
  std::string verdict;
};

std::string table_of(const std::vector<Line>& lines, const std::vector<std::string>& head,
                     double wall, double scale, const TextStyle& style) {
  std::vector<std::string> a, b, difference;
  for (const Line& line : lines) {
    Cells cells = cells_of(line.change, wall, scale);
    a.push_back(std::move(cells.a));
    b.push_back(std::move(cells.b));
    difference.push_back(std::move(cells.difference));
  }
  a = align_decimals(a), b = align_decimals(b), difference = align_decimals(difference);
  Table table;
  table.align.assign(6,
                     Table::Align::left);  // the last one is empty: nothing here is to be wrapped
  table.head = head;
  table.grey_last = false;
  for (std::size_t i = 0; i < lines.size(); ++i)
    table.rows.push_back({lines[i].name, a[i], b[i], difference[i], lines[i].verdict});
  return table.text(style);
}

std::string step_count(const LedgerSide& side) {
  return fmt::format("{:.6g}", side.steps.value_or(0));
}

std::string notes_of(const LedgerChange& change, std::size_t width) {
  std::string out;
  if (!change.in_compute.empty()) {
    out += hang("  compute: ",
                fmt::format("with {}, which not every run told apart from it",
                            list_of(names_of(change.in_compute))),
                width);
  }
  if (!change.not_measured.empty())
    out += hang("  not measured in any run: ", list_of(names_of(change.not_measured)), width);
  if (!change.a.steps || !change.b.steps)
    out += hang("  steps: ", "not every log showed how many, so nothing is told per step", width);
  return out;
}

/// How much runs differ by themselves, and where that is known from.
std::string spread_note(const LedgerChange& change, std::size_t width) {
  const int a = static_cast<int>(change.a.runs.size()), b = static_cast<int>(change.b.runs.size());
  if (!change.spread_assumed) {
    return hang("  ", "Means of " + runs_a_side(a, b) + "; ± is a 95 % interval over them.", width);
  }
  return hang("  ",
              fmt::format("{}: how much runs differ by themselves is assumed (2 % of a row, at "
                          "least 0.5 % of the wall time). Three runs a side would measure it.",
                          a == 1 && b == 1 ? "One run a side" : runs_a_side(a, b)),
              width);
}

Json change_json(const Change& change) {
  const auto or_null = [](const std::optional<double>& value) {
    return value ? json_number(*value) : Json(nullptr);
  };
  return {{"a_s", or_null(change.a)},
          {"b_s", or_null(change.b)},
          {"difference_s", or_null(change.difference)},
          {"low_s", or_null(change.low)},
          {"high_s", or_null(change.high)},
          {"moved", change.moved}};
}

}  // namespace

Answer report::answer_of(const LedgerChange& change) {
  std::vector<const LedgerChangeRow*> moved;
  const LedgerChangeRow* compute = nullptr;
  for (const LedgerChangeRow& row : change.rows) {
    if (row.moved) moved.push_back(&row);
    if (row.cls == LedgerClass::compute) compute = &row;
  }
  if (moved.empty())
    return {"", "No row moved by more than such runs differ by themselves.", Tone::neutral};
  const auto weight = [&](const LedgerChangeRow* row) {  // in seconds, whatever they are judged by
    const double steps = row->per_step ? std::max(*change.a.steps, *change.b.steps) : 1;
    return std::fabs(*judged(*row).difference) * steps;
  };
  std::stable_sort(moved.begin(), moved.end(),
                   [&](const auto* x, const auto* y) { return weight(x) > weight(y); });
  constexpr std::size_t kMost = 3;
  std::vector<std::string> parts;
  for (const LedgerChangeRow* row : moved) {
    if (parts.size() == kMost) break;
    parts.push_back(fmt::format("{} {}", to_string(row->cls), movement(*row)));
  }
  if (moved.size() > kMost) {
    parts.push_back(fmt::format("{} more {} moved", moved.size() - kMost,
                                moved.size() == kMost + 1 ? "row" : "rows"));
  } else if (compute != nullptr && compute->seconds.difference && !compute->moved) {
    parts.emplace_back("compute did not move");
  }
  std::string sentence = join(parts, "; ") + ".";
  sentence[0] = static_cast<char>(sentence[0] - 'a' + 'A');  // a class's name
  const double sum = change.wall.difference.value_or(0);
  return {"", sentence, !change.wall.moved ? Tone::neutral : sum < 0 ? Tone::good : Tone::caution};
}

std::string ledger_change_text(const LedgerChange& change, const TextStyle& style) {
  const std::size_t width = line_width(style);
  std::string out = answer_lines(answer_of(change), style) + '\n';
  const std::string a = side_name(change.a, 18), b = side_name(change.b, 18);
  const double wall = std::max(change.wall.a.value_or(0), change.wall.b.value_or(0));
  std::vector<Line> lines, steps;
  for (const LedgerChangeRow& row : change.rows) {
    const std::string name(to_string(row.cls));
    lines.push_back({name, row.seconds, row.per_step ? "" : verdict(row.seconds, row.moved)});
    if (row.per_step) steps.push_back({name, *row.per_step, verdict(*row.per_step, row.moved)});
  }
  lines.push_back({"wall", change.wall, verdict(change.wall, change.wall.moved)});
  out += table_of(lines, {"seconds", a, b, "difference", "moved"}, wall, 1, style);
  if (!steps.empty()) {
    out += '\n' + hang("  ",
                       fmt::format("{} made {} steps and {} {}, so what grows with them is judged "
                                   "by the step:",
                                   a, step_count(change.a), b, step_count(change.b)),
                       width);
    out += '\n';
    double step_s = 0;
    for (const Line& line : steps)
      step_s = std::max({step_s, line.change.a.value_or(0), line.change.b.value_or(0)});
    const bool milli = step_s < 1;
    out += table_of(steps, {milli ? "ms a step" : "s a step", a, b, "difference", "moved"}, step_s,
                    milli ? 1000 : 1, style);
  }
  out += notes_of(change, width);
  out += '\n' + spread_note(change, width);
  out += '\n' + hang("Next: ",
                     fmt::format("rigwise compare {} -- {} says whether they did the same work.",
                                 side_name(change.a), side_name(change.b)),
                     width);
  return out;
}

std::string ledger_change_json(const LedgerChange& change) {
  const auto names = [](const std::vector<LedgerClass>& classes) {
    Json array = Json::array();
    for (const LedgerClass cls : classes) array.push_back(to_string(cls));
    return array;
  };
  const auto side = [](const LedgerSide& given) {
    Json item = {{"name", given.name},
                 {"runs", given.runs},
                 {"steps", given.steps ? json_number(*given.steps) : Json(nullptr)}};
    return item;
  };
  Json rows = Json::array();
  for (const LedgerChangeRow& row : change.rows) {
    Json item = change_json(row.seconds);
    item["class"] = to_string(row.cls);
    item["moved"] = row.moved;
    item["per_step"] = row.per_step ? change_json(*row.per_step) : Json(nullptr);
    rows.push_back(std::move(item));
  }
  Json document = {{"schema", kSchema},
                   {"summary", answer_of(change).text()},
                   {"a", side(change.a)},
                   {"b", side(change.b)},
                   {"wall", change_json(change.wall)},
                   {"rows", std::move(rows)},
                   {"in_compute", names(change.in_compute)},
                   {"not_measured", names(change.not_measured)},
                   {"spread_assumed", change.spread_assumed}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace rigwise
