// Terminal text of runs: `runs`, `runs show`, and the closing lines of `run`.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "report/figures.h"
#include "report/hang.h"
#include "report/layout.h"
#include "rigwise/report.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {
std::string toned(const Paint& paint, Tone tone, std::string_view text) {
  switch (tone) {
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
}

std::string cost_in_words(const RunInfo& info) {
  if (!info.recorder || !info.recorder->cpu_s) return {};
  std::string text = "recorder cost " + format_duration(*info.recorder->cpu_s) + " CPU";
  if (info.recorder->peak_rss_bytes) text += ", " + format_bytes(*info.recorder->peak_rss_bytes);
  return text;
}

/// Items joined by " · ", broken only between items, further lines indented.
std::string join_items(const std::vector<std::string>& items, std::size_t first_at,
                       std::size_t indent, std::size_t width) {
  std::string out;
  std::size_t at = first_at;
  for (const std::string& item : items) {
    if (item.empty()) continue;
    const std::size_t cells = display_width(item);
    if (!out.empty() && at + 3 + cells > width) {
      out += '\n' + std::string(indent, ' ');
      at = indent;
    } else if (!out.empty()) {
      out += " · ";
      at += 3;
    }
    out += item;
    at += cells;
  }
  return out;
}

std::string state_cell(const Run& run) {
  if (run.state != RunState::finished) return std::string(to_string(run.state));
  if (!run.info.ending) return "finished";
  const Ending& ending = *run.info.ending;
  if (ending.signal) return fmt::format("signal {}", *ending.signal);
  if (!ending.exit_status) return run.info.imported ? "imported" : "status lost";
  return fmt::format("exit {}", *ending.exit_status);
}

/// What is missing, by its first words: the whole of it is in `runs show`.
std::string missing_cell(const Run& run) {
  std::string text;
  for (const std::string& entry : run.missing) {
    const std::string head = safe(entry.substr(0, entry.find(": ")), 40);
    if (head.empty() || text.find(head) != std::string::npos) continue;
    if (text.size() + head.size() > 60) return text + ", …";
    text += (text.empty() ? "" : ", ") + head;
  }
  return text;
}

/// "0.071 ms", "1.1 GB/s", "98 %": a figure of evidence.csv as people read it.
std::string figure_text(double value, const std::string& unit) {
  if (unit == "bytes") return format_bytes(value);
  if (unit == "bytes/s") return format_bytes(value) + "/s";
  if (unit == "1") return format_share(value);
  if (unit == "yes/no") return value != 0 ? "yes" : "no";
  if (unit == "1/s") return fmt::format("{:.4g}/s", value);
  if (unit == "count") return fmt::format("{:.10g}", value);
  if (unit == "s" && value < 0.1) return fmt::format("{:.3g} ms", value * 1000);
  if (unit == "s") return format_duration(value);
  return fmt::format("{:.4g} {}", value, safe(unit, 16));
}

/// evidence.csv with one line a subject and quantity: the median where there are several.
std::string evidence_text(const Run& run, const TextStyle& style) {
  const auto rows = read_evidence(run);
  if (!rows || rows->rows.empty()) return {};
  struct Series {
    std::vector<double> values = {};
    std::string unit = {}, source = {};
  };
  std::vector<std::pair<std::pair<std::string, std::string>, Series>> shown;
  std::map<std::pair<std::string, std::string>, std::size_t> places;
  constexpr std::size_t kMostLines = 40;
  std::size_t beyond = 0;
  for (const Observation& row : rows->rows) {
    if (row.subject.ends_with(" (since boot)")) continue;  // of the machine's life, not of the run
    const auto key = std::pair(row.subject, row.quantity);
    const auto [place, is_new] = places.try_emplace(key, shown.size());
    if (is_new && shown.size() >= kMostLines) {
      places.erase(place);
      ++beyond;
      continue;
    }
    if (is_new) shown.push_back({key, {.unit = row.unit, .source = row.source}});
    shown[place->second].second.values.push_back(row.value);
  }
  Table table;
  table.align = {Table::Align::left, Table::Align::left, Table::Align::right, Table::Align::left};
  for (auto& [key, series] : shown) {
    auto& values = series.values;
    std::sort(values.begin(), values.end());
    const double middle = (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
    std::string from = safe(series.source, 60);
    if (values.size() > 1) from = fmt::format("median of {} · {}", values.size(), from);
    std::string quantity = safe(key.second, 40);
    for (const std::string_view unit : {"_bytes_per_s", "_per_s", "_bytes", "_frac", "_s"}) {
      if (!quantity.ends_with(unit) || quantity.size() == unit.size()) continue;
      quantity.resize(quantity.size() - unit.size());  // the figure shows it
      break;
    }
    std::replace(quantity.begin(), quantity.end(), '_', ' ');
    table.rows.push_back({safe(key.first, 40), quantity, figure_text(middle, series.unit), from});
  }
  std::string out = '\n' + table.text(style);
  if (beyond > 0) out += fmt::format("  and {} more rows in evidence.csv\n", beyond);
  return out;
}

std::string ranks_cell(const RunInfo& info) {
  if (!info.ranks_asked && !info.ranks_trained) return "–";
  const auto number = [](std::optional<int> value) {
    return value ? std::to_string(*value) : std::string("?");
  };
  return number(info.ranks_trained) + "/" + number(info.ranks_asked);
}
}  // namespace

std::string run_closing_text(const Run& run, const Ledger* ledger, const TextStyle& style) {
  const Paint paint(style);
  const std::size_t width = line_width(style);
  constexpr std::size_t kIndent = 9;  // under the text after "rigwise: "
  const std::string margin(kIndent, ' ');
  const Answer answer = answer_of(run);
  std::string sentence = answer.sentence;
  if (!sentence.empty() && sentence.back() == '.') sentence.pop_back();

  std::vector<std::string> facts = {sentence};
  if (ledger != nullptr && ledger->steps) {
    std::string steps = count(*ledger->steps, "step");
    if (ledger->step_time_s) {
      steps += ", " + (ledger->step_time_half_width_s
                           ? format_duration(*ledger->step_time_s, *ledger->step_time_half_width_s)
                           : format_duration(*ledger->step_time_s));
      if (*ledger->steps != 1) steps += " each";
    }
    facts.push_back(steps);
  }
  facts.push_back(ranks_in_words(run.info));
  std::string out = join_items(facts, kIndent, kIndent, width);
  out.replace(0, sentence.size(), toned(paint, answer.tone, sentence));
  out += '\n';

  std::vector<std::string> second;
  if (ledger != nullptr && ledger->bottleneck.cls) {
    const LedgerClass cls = *ledger->bottleneck.cls;
    const LedgerRow* row = find_row(*ledger, cls);
    // as the ledger's own answer: seconds of steps alone hold nothing back that is known
    std::string text = cls != LedgerClass::compute ? "bottleneck: " + std::string(to_string(cls))
                       : row != nullptr && row->how == How::assumed
                           ? "no bottleneck shown: step time, not split further"
                           : "no bottleneck shown: compute";
    if (row != nullptr && row->seconds && ledger->wall_s > 0) {
      text +=
          fmt::format(", {} of {} ({})", plain_seconds(*row->seconds),
                      plain_seconds(ledger->wall_s), format_share(*row->seconds / ledger->wall_s));
    }
    second.push_back(text);
  }
  second.push_back(cost_in_words(run.info));
  if (const auto hangs = read_hangs(run); hangs && !hangs->rows.empty()) {
    std::string text = hang_sentence(hangs->rows.back(), run);
    if (hangs->rows.size() > 1)
      text = fmt::format("{} hangs, the last: {}", hangs->rows.size(), text);
    out += hang(margin + "hang: ", text, width);
    if (hangs->rows.back().state != HangState::over)
      out += hang(margin + "try one thing: ", safe(hangs->rows.back().look.verdict.advice), width);
  }
  const std::string line = join_items(second, kIndent, kIndent, width);
  if (!line.empty()) out += margin + line + '\n';
  for (std::size_t i = 0; i < std::min<std::size_t>(run.info.warnings.size(), 3); ++i)
    out += hang(margin + "warning: ", safe(run.info.warnings[i]), width);
  out += margin + paint.grey("next: rigwise ledger " + safe(run.info.name, 80)) + '\n';
  return out;
}

std::string run_text(const Run& run, const TextStyle& style) {
  const Paint paint(style);
  const std::size_t width = line_width(style);
  const RunInfo& info = run.info;
  const Answer answer = answer_of(run);
  std::string out = answer_lines(answer, style) + '\n';

  Table table;
  table.align = {Table::Align::left, Table::Align::left};
  table.grey_last = false;
  const auto add = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) table.rows.push_back({name, value});
  };
  add("command", report::shell_line(info.command));
  add("started", info.start_unix_s > 0 ? format_wall_clock(info.start_unix_s) +
                                             (info.host.empty() ? "" : " on " + safe(info.host, 80))
                                       : std::string());
  add("folder", safe(run.dir.string()));
  std::string ranks = ranks_in_words(info);
  if (!ranks.empty() && !info.ranks_why.empty()) ranks += " (" + safe(info.ranks_why) + ")";
  add("ranks", ranks.empty() ? std::string(kNotMeasured) : ranks);
  add("sealed", info.statement && !info.statement->threshold.empty()
                    ? safe(info.statement->threshold) +
                          (info.statement->sealed_unix_s
                               ? ", " + format_wall_clock(*info.statement->sealed_unix_s)
                               : std::string())
                    : std::string());
  if (info.log_reading) {
    const ReadStatistics& log = *info.log_reading;
    std::string text =
        fmt::format("{}, {} with figures", counted(log.lines, "line", "lines"), log.matched);
    if (log.malformed > 0) {
      text += fmt::format(", {} malformed", log.malformed);
      if (log.first_bad_line > 0) text += fmt::format(" (first: line {})", log.first_bad_line);
    }
    add("log", text);
  }
  std::string cost = cost_in_words(info);
  if (info.recorder && info.recorder->longest_tick_s)
    cost += ", longest tick " + format_duration(*info.recorder->longest_tick_s);
  add("cost", cost);
  out += table.text(style);

  if (!info.facts.empty()) {
    Table facts;
    facts.align = {Table::Align::left, Table::Align::left, Table::Align::left};
    for (const Fact& fact : info.facts)
      facts.rows.push_back({safe(fact.key, 60), safe(fact.value, 60), safe(fact.source)});
    out += '\n' + facts.text(style);
  }
  out += evidence_text(run, style);
  if (const auto hangs = read_hangs(run)) {
    for (const Hang& each : hangs->rows)
      out += hang("  hang     ", hang_sentence(each, run), width);
  }
  for (const std::string& text : info.warnings) out += hang("  warning  ", safe(text), width);
  for (const std::string& text : run.missing) out += hang("  missing  ", safe(text), width);
  out += '\n' + paint.grey("Next: rigwise ledger " + safe(info.name, 80)) + '\n';
  return out;
}

std::string runs_text(const std::vector<Run>& runs, const TextStyle& style) {
  const Paint paint(style);
  if (runs.empty()) return "No runs yet.\n\nNext: rigwise run --name NAME -- COMMAND\n";
  std::string out = paint.bold(count(static_cast<std::int64_t>(runs.size()), "run") +
                               (runs.size() == 1 ? "." : ", oldest first.")) +
                    "\n\n";
  Table table;
  using enum Table::Align;
  table.align = {left, left, left, right, right, left};
  table.head = {"name", "started", "ended", "wall", "ranks", "missing"};
  for (const Run& run : runs) {
    table.rows.push_back({safe(run.info.name, 40), format_wall_clock(run.info.start_unix_s),
                          state_cell(run), format_duration(run.wall_s), ranks_cell(run.info),
                          missing_cell(run)});
  }
  out += table.text(style);
  out += '\n' + paint.grey("Next: rigwise ledger " + safe(runs.back().info.name, 80)) + '\n';
  return out;
}

}  // namespace rigwise
