// Terminal text of a ledger.
#include <fmt/format.h>

#include <algorithm>

#include "report/figures.h"
#include "report/layout.h"
#include "rigwise/report.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {
std::string shows(const LedgerRow& row) {
  if (!row.note.empty()) return safe(row.note);
  for (const Evidence& evidence : row.evidence) {
    const std::string text = safe(to_string(evidence));
    if (!text.empty()) return text;
  }
  return row.seconds ? std::string() : safe(row.would_measure);
}

/// Rows without evidence either way are named in one line, not drawn as a column of blanks.
std::string not_measured_line(const Ledger& ledger, std::size_t width) {
  std::vector<std::string> names;
  std::string note;
  for (const LedgerRow& row : ledger.rows) {
    if (row.seconds) continue;
    names.emplace_back(to_string(row.cls));
    if (note.empty()) note = safe(row.note);
  }
  if (names.empty()) return {};
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  if (!note.empty()) text += " (" + note + ")";
  return hang("  not measured: ", text, width);
}

/// Which rows stand between the run and what it is to reach.
std::string threshold_lines(const SealedThreshold& sealed, std::size_t width) {
  constexpr std::size_t kMostRows = 3;
  const ThresholdGap& gap = sealed.gap;
  std::string text =
      fmt::format("{} as it is ({})", format_duration(gap.value_s), gap.meets ? "met" : "not met");
  std::size_t told = 0;
  for (const auto& row : gap.without) {
    if (gap.meets || told == kMostRows || gap.value_s - row.value_s < 0.01 * gap.value_s) break;
    text += fmt::format("; without {} {}{}", to_string(row.cls), format_duration(row.value_s),
                        row.meets ? " (met)" : "");
    ++told;
  }
  if (!gap.meets && std::none_of(gap.without.begin(), gap.without.end(),
                                 [](const RowRemoved& row) { return row.meets; })) {
    text += "; no one row would meet it";
  }
  return hang(fmt::format("  {}: ", safe(sealed.text, 120)), full_stop(text), width);
}

/// What the steps of each rank went to, where they differ.
std::string rank_lines(const Ledger& ledger, std::size_t width) {
  constexpr double kMention = 0.01;  // of the wall time
  if (ledger.ranks.size() < 2) return {};
  std::string out;
  for (const RankLedger& rank : ledger.ranks) {
    std::vector<const LedgerRow*> rows;
    for (const LedgerRow& row : rank.rows) {
      const bool outside = row.cls == LedgerClass::startup || row.cls == LedgerClass::teardown;
      if (!outside && row.seconds.value_or(0) >= kMention * ledger.wall_s) rows.push_back(&row);
    }
    std::stable_sort(rows.begin(), rows.end(), [](const LedgerRow* x, const LedgerRow* y) {
      return *x->seconds > *y->seconds;
    });
    std::string text;
    for (const LedgerRow* row : rows) {
      text += fmt::format("{}{} {}", text.empty() ? "" : " · ", to_string(row->cls),
                          plain_seconds(*row->seconds));
    }
    if (!text.empty()) out += hang(fmt::format("  rank {}: ", rank.rank), text, width);
  }
  return out;
}
}  // namespace

std::string ledger_text(const Ledger& ledger, const Run& run, const TextStyle& style,
                        const std::optional<SealedThreshold>& sealed) {
  const std::size_t width = line_width(style);
  const Answer answer = answer_of(ledger);
  std::string out = answer_lines(answer, style);
  const std::string why = safe(ledger.bottleneck.why);
  if (ledger.bottleneck.cls && !why.empty()) out += hang("  ", full_stop(why), width);
  if (sealed) out += threshold_lines(*sealed, width);
  out += '\n';

  Table table;
  using enum Table::Align;
  table.align = {left, left, right, left, left};
  table.head = {"class", "seconds", "share", "how", "what shows it"};
  std::vector<std::string> seconds;
  for (const LedgerRow& row : ledger.rows) {
    if (!row.seconds) continue;
    seconds.push_back(seconds_cell(row, ledger.wall_s));
    const bool unexplained = row.cls == LedgerClass::unexplained;
    table.rows.push_back({std::string(to_string(row.cls)), "",
                          ledger.wall_s > 0 ? format_share(*row.seconds / ledger.wall_s) : "",
                          unexplained ? "" : std::string(to_string(row.how)), shows(row)});
  }
  LedgerRow wall;
  wall.seconds = ledger.wall_s;
  seconds.push_back(seconds_cell(wall, ledger.wall_s));
  table.rows.push_back({"wall", "", ledger.wall_s > 0 ? "100 %" : "", "", ""});
  const auto aligned = align_decimals(seconds);
  for (std::size_t i = 0; i < table.rows.size(); ++i) table.rows[i][1] = aligned[i];
  out += table.text(style);
  out += not_measured_line(ledger, width);
  out += rank_lines(ledger, width);

  std::vector<const Finding*> grave;
  for (const Finding& finding : ledger.findings) {
    if (finding.severity >= Severity::notice) grave.push_back(&finding);
  }
  std::stable_sort(grave.begin(), grave.end(),
                   [](const Finding* a, const Finding* b) { return a->severity > b->severity; });
  if (!grave.empty()) out += '\n';
  for (std::size_t i = 0; i < std::min<std::size_t>(grave.size(), 4); ++i) {
    const Finding& finding = *grave[i];
    std::string text = full_stop(safe(finding.claim));
    if (!finding.evidence.empty()) {
      const std::string place = safe(to_string(finding.evidence.front()));
      if (!place.empty()) text += " [" + place + "]";
    }
    out += hang("  " + std::string(to_string(finding.severity)) + ": ", text, width);
  }
  if (grave.size() > 4)
    out += fmt::format("  and {} more: rigwise ledger --json\n", grave.size() - 4);

  out += '\n';
  const std::string next = next_step_of(ledger);
  const std::string name = safe(run.info.name.empty() ? ledger.run : run.info.name, 80);
  if (next.empty()) {
    out += hang("Next: ", fmt::format("rigwise compare {} -- OTHER_RUN", name), width);
  } else {
    out += hang("Try: ", full_stop(next), width);
  }
  return out;
}

}  // namespace rigwise
