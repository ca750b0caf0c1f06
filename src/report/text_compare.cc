// Terminal text of a comparison.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/figures.h"
#include "report/layout.h"
#include "report/words.h"
#include "rigwise/report.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {
void add_differences(const Comparison& comparison, Table& table) {
  std::size_t shown = 0, more = 0;
  for (const ComparedField& field : comparison.fields) {
    if (!matters(field)) continue;
    if (shown >= 6) {
      ++more;
      continue;
    }
    std::string text = field_change(field);
    const std::string note = safe(field.note, 200);
    if (!note.empty() && !field.is_factor) text += " (" + note + ")";
    table.rows.push_back(
        {(field.is_factor ? "under test: " : "differs: ") + field_name(field), text});
    ++shown;
  }
  if (more > 0) table.rows.push_back({"", fmt::format("and {} more fields", more)});
}
}  // namespace

std::string comparison_text(const Comparison& comparison, const TextStyle& style) {
  const std::size_t width = line_width(style);
  std::string out = answer_lines(answer_of(comparison), style) + '\n';

  Table table;
  table.align = {Table::Align::left, Table::Align::left};
  table.grey_last = false;
  for (const auto& [name, value] : comparison_rows(comparison)) table.rows.push_back({name, value});
  add_differences(comparison, table);
  out += table.text(style);

  if (comparison.verdict == Verdict::not_comparable && comparison.blockers.size() > 1) {
    out += '\n';
    for (std::size_t i = 1; i < std::min<std::size_t>(comparison.blockers.size(), 5); ++i)
      out += hang("  also: ", full_stop(safe(comparison.blockers[i])), width);
  }
  std::size_t shown = 0;
  for (const Finding& finding : comparison.findings) {
    if (finding.severity < Severity::warning || shown == 4) continue;
    if (shown++ == 0) out += '\n';
    out += hang("  " + std::string(to_string(finding.severity)) + ": ",
                full_stop(safe(finding.claim)), width);
  }
  out += '\n' + hang("Next: ", next_step_of(comparison), width);
  return out;
}

}  // namespace rigwise
