// The ledgers of report.html: one column a run, all on one scale, and the table beside them.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "report/figures.h"
#include "report/layout.h"
#include "report/page.h"
#include "rigwise/units.h"

namespace rigwise::report {

namespace {
constexpr double kColumnPx = 340;  // height of the longest run, as in web/src/page.css
constexpr double kLabelPx = 17;    // a segment lower than this carries no label
constexpr std::size_t kMaxColumns = 8;

struct Column {
  const ReportRun* run;
  int side;
  std::string name;
};

std::vector<Column> columns_of(const Page& page) {
  std::vector<Column> columns;
  for (int side = 0; side < 2; ++side) {
    for (std::size_t i = 0; i < page.input.runs.size(); ++i) {
      const ReportRun& run = page.input.runs[i];
      if (page.side[i] != side || run.ledger == nullptr) continue;
      columns.push_back({&run, side, run.run != nullptr ? run.run->info.name : run.ledger->run});
    }
  }
  return columns;
}

std::string links_html(const Page& page, const LedgerRow& row) {
  std::string text;
  std::size_t shown = 0;
  for (const Evidence& evidence : row.evidence) {
    const std::string link = page.links.html_short(evidence);
    if (link.empty() || ++shown > 2) continue;
    text += (text.empty() ? "" : ", ") + link;
  }
  return text;
}

/// In words: what shows the seconds, or what would.
std::string note_html(const LedgerRow& row) {
  std::string text = html_text(safe(row.note));
  if (!row.would_measure.empty() && (!row.seconds || text.empty()))
    text += std::string("<span class=\"more\">") + (text.empty() ? "" : "; ") +
            "to know more: " + html_text(safe(row.would_measure)) + "</span>";
  return text;
}

std::string shows_html(const Page& page, const LedgerRow& row) {
  const std::string note = note_html(row), links = links_html(page, row);
  return note + (note.empty() || links.empty() ? "" : " ") + links;
}

std::string segment(const Page& page, const Column& column, const LedgerRow& row,
                    double longest_s) {
  const double wall = column.run->ledger->wall_s;
  const double seconds = *row.seconds;
  const std::string cls(to_string(row.cls));
  const std::string share = format_share(wall > 0 ? seconds / wall : 0);
  const bool labelled = longest_s > 0 && seconds / longest_s * kColumnPx >= kLabelPx;
  const std::string words = fmt::format("{}: {} s, {} of {}", cls, seconds_cell(row, wall), share,
                                        html_text(column.name, 80));
  std::string tip = fmt::format(
      "<b>{}</b> · {} · {} s · {}{}", html_text(column.name, 80), cls, seconds_cell(row, wall),
      share,
      row.cls == LedgerClass::unexplained ? std::string() : ", " + std::string(to_string(row.how)));
  const std::string shows = shows_html(page, row);
  if (!shows.empty()) tip += "<br>" + shows;
  // Not a button: its tip may hold links to the evidence.
  return fmt::format(
      "<div class=\"seg c-{}\" tabindex=\"0\" role=\"group\" style=\"flex-grow:{:.6g}\" "
      "aria-label=\"{}\">{}<div class=\"tip\" role=\"note\">{}</div></div>",
      cls, std::max(seconds, 0.0), words,
      labelled
          ? fmt::format("<span class=\"lab\"><span class=\"nm\">{} </span>{}</span>", cls, share)
          : std::string(),
      tip);
}

/// Heights of a run's classes from the bottom, as shares of the longest run.
std::map<LedgerClass, std::pair<double, double>> stack_of(const Ledger& ledger, double longest_s) {
  std::map<LedgerClass, std::pair<double, double>> stack;
  double at = 0;
  for (const LedgerClass cls : kLedgerClasses) {
    const LedgerRow* row = find_row(ledger, cls);
    const double seconds = row != nullptr ? std::max(row->seconds.value_or(0), 0.0) : 0;
    const double next = at + (longest_s > 0 ? seconds / longest_s : 0);
    stack[cls] = {at, next};
    at = next;
  }
  return stack;
}

/// Bands that lead the eye from a class in one column to the same class in the next.
std::string ribbons(const Ledger& left, const Ledger& right, double longest_s) {
  const auto a = stack_of(left, longest_s), b = stack_of(right, longest_s);
  std::string out =
      "<svg class=\"ribbon\" viewBox=\"0 0 10 1000\" preserveAspectRatio=\"none\" "
      "aria-hidden=\"true\">";
  for (const LedgerClass cls : kLedgerClasses) {
    const auto [a0, a1] = a.at(cls);
    const auto [b0, b1] = b.at(cls);
    if (a1 - a0 <= 0 && b1 - b0 <= 0) continue;
    const auto y = [](double share) { return 1000 * (1 - share); };
    out += fmt::format("<path class=\"c-{}\" d=\"M0 {:.1f}L10 {:.1f}L10 {:.1f}L0 {:.1f}Z\"/>",
                       to_string(cls), y(a1), y(b1), y(b0), y(a0));
  }
  return out + "</svg>";
}

/// "9 min 50 s", or for several runs "9 min 50 s" over "to 9 min 58 s".
std::string wall_span(const std::vector<Column>& columns, int side) {
  std::optional<double> low, high;
  for (const Column& column : columns) {
    if (column.side != side) continue;
    const double wall = column.run->ledger->wall_s;
    low = low ? std::min(*low, wall) : wall;
    high = high ? std::max(*high, wall) : wall;
  }
  if (!low) return {};
  const std::string from = format_duration(*low), to = format_duration(*high);
  return from == to ? from : from + "<br>to " + to;
}

std::string foot_of(const std::vector<Column>& columns, int side) {
  std::string name;
  std::size_t runs = 0;
  for (const Column& column : columns) {
    if (column.side != side) continue;
    if (runs++ == 0) name = column.name;
  }
  return fmt::format("<div class=\"foot\"><b>{}</b><span>{}</span>{}</div>", html_text(name, 40),
                     wall_span(columns, side),
                     runs > 1 ? fmt::format("<span>{} runs</span>", runs) : std::string());
}

std::string column_html(const Page& page, const Column& column, double longest_s) {
  const Ledger& ledger = *column.run->ledger;
  const double height = longest_s > 0 ? std::max(ledger.wall_s, 0.0) / longest_s * 100 : 0;
  std::string out =
      fmt::format("<div class=\"col\"><div class=\"stack\" style=\"height:{:.2f}%\">", height);
  for (const LedgerClass cls : kLedgerClasses) {
    const LedgerRow* row = find_row(ledger, cls);
    if (row != nullptr && row->seconds && *row->seconds > 0)
      out += segment(page, column, *row, longest_s);
  }
  return out + "</div></div>\n";
}

std::string figure(const Page& page, std::vector<Column> columns, double longest_s) {
  if (columns.size() > kMaxColumns) columns.resize(kMaxColumns);
  std::string out = fmt::format(
      "<figure class=\"bars{}\" aria-label=\"wall time of each run, split into classes\">\n"
      "<div class=\"cols\">\n",
      columns.size() > 4 ? " many" : "");
  const Column* last = nullptr;
  for (const Column& column : columns) {
    const bool begins = last == nullptr || last->side != column.side;
    if (last != nullptr && begins) out += "</div>" + foot_of(columns, last->side) + "</div>\n";
    if (last != nullptr && begins)
      out += ribbons(*last->run->ledger, *column.run->ledger, longest_s);
    if (begins) {
      const auto wide = std::count_if(columns.begin(), columns.end(),
                                      [&](const Column& c) { return c.side == column.side; });
      out += fmt::format("<div class=\"grp side{}\" style=\"flex-grow:{}\"><div class=\"row\">",
                         column.side, wide);
    }
    out += column_html(page, column, longest_s);
    last = &column;
  }
  if (last != nullptr) out += "</div>" + foot_of(columns, last->side) + "</div>\n";
  return out +
         "</div>\n<figcaption class=\"hint\">Point at a part, or move to it with the Tab key, for "
         "its seconds and its evidence.</figcaption>\n</figure>\n";
}

/// "measured · imports 9 s, model load 12 s events.csv:2-5".
std::string known_by(const LedgerRow& row, const std::string& shows) {
  if (!row.seconds || row.cls == LedgerClass::unexplained) return shows;
  return fmt::format("<span class=\"how\">{}{}</span>{}", to_string(row.how),
                     shows.empty() ? "" : " · ", shows);
}

/// Both sides' evidence, said once where it is the same.
std::string shown_by(const Page& page, const LedgerRow* a, const LedgerRow* b) {
  const auto whole = [&](const LedgerRow& row) { return known_by(row, shows_html(page, row)); };
  if (b == nullptr) return a == nullptr ? std::string() : whole(*a);
  if (a == nullptr) return whole(*b);
  const auto mark = [](int side, const std::string& text) {
    return text.empty() ? text : fmt::format("<span class=\"s{}\">{}</span>", side, text);
  };
  const std::string note = note_html(*a);
  if (known_by(*a, note) == known_by(*b, note_html(*b))) {
    const std::string left = links_html(page, *a), right = links_html(page, *b);
    return known_by(*a, note) + " " + mark(0, left) + " " + mark(1, right);
  }
  const std::string left = whole(*a), right = whole(*b);
  return mark(0, left) + (left.empty() || right.empty() ? "" : "<br>") + mark(1, right);
}

std::string table(const Page& page, const Column& a, const Column* b) {
  const auto side_cells = [](const Column& column, const LedgerRow* row) {
    const double wall = column.run->ledger->wall_s;
    if (row == nullptr || !row->seconds)
      return fmt::format("<td class=\"num nm\" colspan=\"2\">{}</td>", kNotMeasured);
    return fmt::format("<td class=\"num\">{}</td><td class=\"num sh\">{}</td>",
                       seconds_cell(*row, wall), format_share(wall > 0 ? *row->seconds / wall : 0));
  };
  std::string out =
      "<table class=\"ledger\">\n<thead><tr><th>class</th>" +
      fmt::format("<th class=\"num\" colspan=\"2\">{} (s)</th>", html_text(a.name, 40));
  if (b != nullptr)
    out +=
        fmt::format("<th class=\"num\" colspan=\"2\">{} (s)</th><th class=\"num\">change (s)</th>",
                    html_text(b->name, 40));
  out += "<th>how it is known, and what shows it</th></tr></thead>\n<tbody>\n";
  for (const LedgerClass cls : kLedgerClasses) {
    const LedgerRow* left = find_row(*a.run->ledger, cls);
    const LedgerRow* right = b != nullptr ? find_row(*b->run->ledger, cls) : nullptr;
    const bool known = (left != nullptr && left->seconds) || (right != nullptr && right->seconds);
    out += fmt::format(
        "<tr class=\"r-{0}{1}\"><th scope=\"row\"><i class=\"sw c-{0}\"></i>{0}"
        "<small>{2}</small></th>",
        to_string(cls), known ? "" : " unknown", class_meaning(cls));
    out += side_cells(a, left);
    if (b != nullptr)
      out +=
          side_cells(*b, right) + fmt::format("<td class=\"num ch\">{}</td>",
                                              seconds_change(left, right, a.run->ledger->wall_s));
    out += "<td class=\"ev\">" + shown_by(page, left, right) + "</td></tr>\n";
  }
  LedgerRow wall_a, wall_b;
  wall_a.seconds = a.run->ledger->wall_s;
  out += "<tr class=\"sum\"><th scope=\"row\">wall time</th>" + side_cells(a, &wall_a);
  if (b != nullptr) {
    wall_b.seconds = b->run->ledger->wall_s;
    out += side_cells(*b, &wall_b) +
           fmt::format("<td class=\"num ch\">{}</td>",
                       seconds_change(&wall_a, &wall_b, wall_a.seconds.value_or(0)));
  }
  return out + "<td class=\"ev\"></td></tr>\n</tbody></table>\n";
}

std::string every_run(const std::vector<Column>& columns) {
  std::string out =
      "<details><summary>Every run's seconds</summary><div class=\"scroll\"><table "
      "class=\"plain\"><thead><tr><th>class</th>";
  for (const Column& column : columns)
    out += fmt::format(
        "<th class=\"num\">{}</th>",
        html_text(column.run->run != nullptr ? column.run->run->info.id : column.name, 80));
  out += "</tr></thead><tbody>\n";
  for (const LedgerClass cls : kLedgerClasses) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", to_string(cls));
    for (const Column& column : columns) {
      const LedgerRow* row = find_row(*column.run->ledger, cls);
      out += fmt::format(
          "<td class=\"num\">{}</td>",
          row == nullptr ? std::string("–") : seconds_cell(*row, column.run->ledger->wall_s));
    }
    out += "</tr>\n";
  }
  out += "<tr class=\"sum\"><th scope=\"row\">wall time</th>";
  for (const Column& column : columns)
    out += fmt::format("<td class=\"num\">{:.1f}</td>", column.run->ledger->wall_s);
  return out + "</tr>\n</tbody></table></div></details>\n";
}
}  // namespace

std::string ledger_html(const Page& page) {
  const std::vector<Column> columns = columns_of(page);
  std::string out = "<section id=\"ledgers\">\n<h2>Where the seconds went</h2>\n";
  if (columns.empty())
    return out +
           "<p class=\"note\">No ledger: too little of the runs was recorded.</p></section>\n";
  double longest_s = 0;
  for (const Column& column : columns) longest_s = std::max(longest_s, column.run->ledger->wall_s);
  const auto second = std::find_if(columns.begin(), columns.end(),
                                   [&](const Column& c) { return c.side != columns[0].side; });
  const Column* b = second == columns.end() ? nullptr : &*second;
  out +=
      "<p class=\"note\">Each column is the wall time of one run, all on one scale; its parts sum "
      "to the whole. ± is a 95 % interval.";
  if (columns.size() > kMaxColumns)
    out += fmt::format(" {} of {} runs are drawn.", kMaxColumns, columns.size());
  if (columns.size() > 2 && b != nullptr) out += " The table shows the first run of each side.";
  out += "</p>\n<div class=\"ledgers\">\n" + figure(page, columns, longest_s);
  out += "<div class=\"scroll\">" + table(page, columns[0], b) + "</div>\n</div>\n";
  if (columns.size() > 2 || (columns.size() == 2 && b == nullptr)) out += every_run(columns);
  return out + "</section>\n";
}

}  // namespace rigwise::report
