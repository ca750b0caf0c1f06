// The text of `rigwise read`: the answer, a table of steps, evaluations, checkpoints, the end, and
// what was skipped. Columns that the log says nothing for are left out, the least wanted ones too
// where the terminal is narrow.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/text.h"
#include "cli/read_log.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

constexpr std::size_t kMaxCheckpoints = 6;
constexpr std::size_t kMaxEvaluations = 6;

/// "12,051".
std::string group_digits(std::int64_t value) {
  std::string text = std::to_string(value);
  const std::size_t sign = value < 0 ? 1 : 0;
  for (std::size_t at = text.size(); at > sign + 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return number_text(value);
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e7)) return fmt::format("{:.3g}", value);
  if (size >= 1000) return group_digits(static_cast<std::int64_t>(std::llround(value)));
  return fmt::format("{:.4g}", value);
}

template <class T>
std::string cell(const std::optional<T>& value) {
  if (!value) return "–";
  if constexpr (std::is_integral_v<T>)
    return group_digits(static_cast<std::int64_t>(*value));
  else
    return short_number(*value);
}

struct Column {
  const char* name;
  std::string (*text)(const StepRecord&);
  bool (*told)(const StepRecord&);
  int wanted;  // 0 stays longest
};

template <auto Member>
Column column(const char* name, int wanted) {
  return {name, [](const StepRecord& r) { return cell(r.*Member); },
          [](const StepRecord& r) { return (r.*Member).has_value(); }, wanted};
}

std::optional<std::int64_t> place_of(const StepRecord& record) {
  return record.step ? record.step : record.bar_step;
}

const std::vector<Column>& columns() {
  static const std::vector<Column> all = {
      {"step", [](const StepRecord& r) { return cell(place_of(r)); },
       [](const StepRecord& r) { return place_of(r).has_value(); }, 0},
      column<&StepRecord::epoch>("epoch", 3),
      column<&StepRecord::rank>("rank", 2),
      column<&StepRecord::loss>("loss", 0),
      column<&StepRecord::eval_loss>("eval loss", 1),
      column<&StepRecord::lr>("lr", 6),
      column<&StepRecord::grad_norm>("grad norm", 7),
      column<&StepRecord::step_time_s>("s/step", 2),
      column<&StepRecord::steps_per_s>("steps/s", 2),
      column<&StepRecord::samples_per_s>("samples/s", 4),
      column<&StepRecord::tokens_per_s>("tokens/s", 3),
      column<&StepRecord::mem_gib>("GiB", 5),
      {"MFU",
       [](const StepRecord& r) {
         return r.mfu_frac ? fmt::format("{:.1f} %", *r.mfu_frac * 100) : std::string("–");
       },
       [](const StepRecord& r) { return r.mfu_frac.has_value(); }, 5},
  };
  return all;
}

/// Aligned columns under their names, as many as fit.
std::string table_text(const std::vector<StepRecord>& rows, std::size_t width,
                       const report::Paint& paint) {
  std::vector<const Column*> used;
  for (const Column& one : columns())
    if (std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return one.told(row); }))
      used.push_back(&one);
  std::vector<std::size_t> widths(used.size());
  const auto measure = [&] {
    for (std::size_t i = 0; i < used.size(); ++i) {
      widths[i] = report::display_width(used[i]->name);
      for (const auto& row : rows)
        widths[i] = std::max(widths[i], report::display_width(used[i]->text(row)));
    }
    return std::accumulate(widths.begin(), widths.end(), 2 * used.size());
  };
  while (measure() > width && used.size() > 2) {
    const auto least = std::max_element(used.begin(), used.end(),
                                        [](auto* a, auto* b) { return a->wanted < b->wanted; });
    used.erase(least);
    widths.pop_back();
  }
  std::string head, out;
  for (std::size_t i = 0; i < used.size(); ++i)
    head += "  " + report::pad_left(used[i]->name, widths[i]);
  out = paint.grey(head) + '\n';
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < used.size(); ++i)
      out += "  " + report::pad_left(used[i]->text(row), widths[i]);
    out += '\n';
  }
  return out;
}

std::string plural(std::int64_t count, const std::string& one, const std::string& many) {
  return group_digits(count) + ' ' + (count == 1 ? one : many);
}

std::string answer(const LogPage& page) {
  const auto trained = page.steps.seen(), evaluated = page.evaluations.seen();
  if (trained == 0 && evaluated == 0) {
    if (page.statistics.lines == 0) return "The log is empty.";
    return page.bars > 0 ? fmt::format("Only progress bars, no metrics, in {}.",
                                       plural(page.statistics.lines, "line", "lines"))
                         : fmt::format("No training metrics in {}.",
                                       plural(page.statistics.lines, "line", "lines"));
  }
  std::string text = plural(trained, "training entry", "training entries");
  if (page.summary.last_step) text += ", last step " + group_digits(*page.summary.last_step);
  if (page.first_loss && page.summary.last_loss) {
    text += "; loss " + short_number(*page.first_loss);
    if (trained > 1) text += " → " + short_number(*page.summary.last_loss);
  }
  if (evaluated > 0) {
    text += "; " + plural(evaluated, "evaluation", "evaluations");
    if (page.best_evaluation) {
      text += ", best loss " + short_number(*page.best_evaluation->eval_loss);
      if (const auto step = place_of(*page.best_evaluation))
        text += " at step " + group_digits(*step);
    }
  }
  return text + '.';
}

std::string end_text(const LogSummary& summary) {
  std::vector<std::string> parts;
  if (summary.train_runtime_s) parts.push_back(format_duration(*summary.train_runtime_s));
  const auto steps = summary.total_steps ? summary.total_steps : summary.bar_total;
  if (steps) parts.push_back(plural(*steps, "step", "steps"));
  if (summary.train_steps_per_s)
    parts.push_back(short_number(*summary.train_steps_per_s) + " steps/s");
  if (summary.train_samples_per_s)
    parts.push_back(short_number(*summary.train_samples_per_s) + " samples/s");
  return join(parts, " · ");
}

}  // namespace

void ThinnedRows::add(const StepRecord& record) {
  last_ = record;
  if (seen_++ % stride_ != 0) return;
  kept_.push_back(record);
  if (kept_.size() < limit_) return;
  for (std::size_t i = 0; 2 * i < kept_.size(); ++i) kept_[i] = std::move(kept_[2 * i]);
  kept_.resize((kept_.size() + 1) / 2);
  stride_ *= 2;
}

std::vector<StepRecord> ThinnedRows::rows(std::size_t count) const {
  std::vector<StepRecord> all = kept_;
  if (last_ && (seen_ - 1) % stride_ != 0) all.push_back(*last_);
  if (count == 0 || all.size() <= count) return all;
  std::vector<StepRecord> some;
  for (std::size_t i = 0; i < count; ++i)
    some.push_back(all[count == 1 ? 0 : i * (all.size() - 1) / (count - 1)]);
  return some;
}

void note(LogPage& page, const StepRecord& record) {
  note(page.summary, record);
  switch (record.kind) {
    case RecordKind::train:
      page.steps.add(record);
      if (record.loss && !page.first_loss) page.first_loss = record.loss;
      if (record.loss && !std::isfinite(*record.loss)) ++page.not_finite;
      [[fallthrough]];
    case RecordKind::eval:
      if (record.kind == RecordKind::eval) page.evaluations.add(record);
      if (record.eval_loss && std::isfinite(*record.eval_loss) &&
          (!page.best_evaluation || *record.eval_loss < *page.best_evaluation->eval_loss))
        page.best_evaluation = record;
      break;
    case RecordKind::progress:
      ++page.bars;
      break;
    case RecordKind::system:
    case RecordKind::summary:
      break;
  }
}

void note(LogPage& page, const Event& event) {
  if (event.kind == EventKind::train_end && event.step) page.summary.bar_total = event.step;
  if (event.kind != EventKind::checkpoint) return;
  ++page.checkpoints_seen;
  page.checkpoints.push_back(event);
  if (page.checkpoints.size() > kMaxCheckpoints) page.checkpoints.erase(page.checkpoints.begin());
}

std::string page_text(const LogPage& page, int rows, const TextStyle& style) {
  const report::Paint paint(style);
  const auto width = static_cast<std::size_t>(std::max(style.width, 40));
  std::string out;
  for (const auto& line : report::wrap(answer(page), width)) out += paint.bold(line) + '\n';
  if (page.not_finite > 0) {
    const std::string text =
        page.not_finite == 1
            ? "The loss was not a number once."
            : fmt::format("The loss was not a number {} times.", group_digits(page.not_finite));
    out += paint.red(text) + '\n';
  }
  const auto table = [&](const ThinnedRows& all, std::size_t count, const std::string& title) {
    if (all.seen() == 0) return;
    const auto shown = all.rows(count);
    std::string more;
    if (static_cast<std::int64_t>(shown.size()) < all.seen())
      more = fmt::format(" ({} of {} shown)", shown.size(), group_digits(all.seen()));
    out += '\n' + title + more + '\n' + table_text(shown, width, paint);
  };
  table(page.steps, static_cast<std::size_t>(rows), "steps");
  table(page.evaluations, rows == 0 ? 0 : kMaxEvaluations, "evaluations");
  if (page.checkpoints_seen > 0) {
    out += "\ncheckpoints";
    if (page.checkpoints_seen > static_cast<std::int64_t>(page.checkpoints.size()))
      out += fmt::format(" (last {} of {})", page.checkpoints.size(),
                         group_digits(page.checkpoints_seen));
    out += '\n';
    for (const Event& event : page.checkpoints) {
      std::string name = report::safe(event.name);
      if (name.empty() && event.step) name = "step " + group_digits(*event.step);
      out += report::hang("  ", name, width);
      if (!out.ends_with('\n')) out += '\n';
    }
  }
  if (page.summary.ended) {
    const std::string end = end_text(page.summary);
    if (!end.empty()) out += "\nend  " + end + '\n';
  }
  const ReadStatistics& read = page.statistics;
  std::string lines = fmt::format("\nread {}: {} with something to tell, {} without, {} malformed",
                                  plural(read.lines, "line", "lines"), group_digits(read.matched),
                                  group_digits(read.skipped), group_digits(read.malformed));
  if (read.first_bad_line > 0) {
    lines +=
        fmt::format(" (the first: {}line {}: {})",
                    page.first_bad_file.empty() ? "" : report::safe(page.first_bad_file, 80) + " ",
                    group_digits(read.first_bad_line), report::safe(read.first_bad_text, 60));
  }
  out += '\n';
  for (const auto& line : report::wrap(lines.substr(1), width)) out += paint.grey(line) + '\n';
  if (page.steps.seen() == 0 && page.evaluations.seen() == 0 && read.lines > 0)
    out += "next: add the line's shape to lab.toml ([[log.pattern]], docs/cli.md)\n";
  return out;
}

}  // namespace rigwise::cli
