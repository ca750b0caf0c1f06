// The tables of report.html: comparison, side effects, comparability, environments, statement,
// commands, and the limits of the evidence.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "report/figures.h"
#include "report/layout.h"
#include "report/page.h"
#include "report/words.h"
#include "rigwise/units.h"

namespace rigwise::report {

namespace {
constexpr std::size_t kMaxRows = 200;  // of any table made from a run's own words

std::string or_unknown(const std::string& value) {
  return value.empty() ? "<span class=\"quiet\">not known</span>" : html_text(value, 300);
}

std::string side_heads(const Page& page) {
  return fmt::format("<th>{}</th><th>{}</th>", html_text(page.side_name[0], 40),
                     html_text(page.side_name[1], 40));
}

std::string_view impact_class(const ComparedField& field) {
  if (field.is_factor) return "factor";
  const Impact worst = std::max(field.speed, field.loss);
  return worst == Impact::blocks                               ? "blocks"
         : worst == Impact::caps || worst == Impact::normalise ? "caps"
                                                               : "noted";
}

std::string impacts(const ComparedField& field) {
  if (field.is_factor) return "under test";
  if (field.speed == field.loss) return impact_in_words(field.speed);
  return "speed: " + impact_in_words(field.speed) + "<br>loss: " + impact_in_words(field.loss);
}

std::string fields_table(const Page& page, const std::vector<const ComparedField*>& fields) {
  std::string out = "<div class=\"scroll\"><table class=\"plain cmp\"><thead><tr><th>setting</th>" +
                    side_heads(page) +
                    "<th>effect on the verdict</th><th>why it matters</th></tr>"
                    "</thead><tbody>\n";
  for (std::size_t i = 0; i < std::min(fields.size(), kMaxRows); ++i) {
    const ComparedField& field = *fields[i];
    std::string note = html_text(field.note, 400);
    const std::string evidence = evidence_html(page, field.evidence, 2);
    if (!evidence.empty()) note += (note.empty() ? "" : " ") + evidence;
    out += fmt::format(
        "<tr class=\"{}\"><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td "
        "class=\"imp\">{}</td><td>{}</td></tr>\n",
        differs(field) ? impact_class(field) : "same", html_text(field_name(field)),
        or_unknown(field.a), or_unknown(field.b), differs(field) ? impacts(field) : "same", note);
  }
  return out + "</tbody></table></div>\n";
}

std::string comparability(const Page& page, const Comparison& comparison) {
  std::vector<const ComparedField*> different, same;
  for (const ComparedField& field : comparison.fields)
    (differs(field) || field.is_factor ? different : same).push_back(&field);
  std::string out = "<section id=\"comparable\">\n<h2>May these runs be compared?</h2>\n";
  for (const std::string& blocker : comparison.blockers)
    out += "<p class=\"warn\">" + html_text(full_stop(safe(blocker))) + "</p>\n";
  if (!comparison.smallest_change.empty())
    out += "<p><strong>Smallest change that would make them comparable:</strong> " +
           html_text(full_stop(safe(comparison.smallest_change))) + "</p>\n";
  if (comparison.fields.empty())
    return out + "<p class=\"note\">No settings were on record to compare.</p></section>\n";
  if (different.empty()) {
    out +=
        fmt::format("<p class=\"note\">All {} settings looked at are the same.</p>\n", same.size());
  } else {
    out += fields_table(page, different);
  }
  if (!same.empty() && !different.empty())
    out += fmt::format("<details><summary>{} that {} the same</summary>{}</details>\n",
                       count(static_cast<std::int64_t>(same.size()), "setting"),
                       same.size() == 1 ? "is" : "are", fields_table(page, same));
  else if (!same.empty())
    out += "<details><summary>Which settings</summary>" + fields_table(page, same) + "</details>\n";
  return out + "</section>\n";
}

std::string side_effects(const Page& page) {
  std::string out;
  const Comparison* comparison = page.input.comparison;
  const Decision* decision = page.input.decision;
  const bool tabled = comparison != nullptr && !comparison->side_effects.empty();
  if (!tabled && (decision == nullptr || decision->side_effects.empty())) return out;
  out += "<section id=\"effects\">\n<h2>Side effects</h2>\n";
  if (tabled) {
    out += "<div class=\"scroll\"><table class=\"plain\"><thead><tr><th>what</th>" +
           side_heads(page) + "<th>change</th><th>evidence</th></tr></thead><tbody>\n";
    for (const SideEffect& effect : comparison->side_effects)
      out += table_row({html_text(effect.what, 120), or_unknown(effect.a), or_unknown(effect.b),
                        html_text(effect.change, 120), evidence_html(page, effect.evidence)});
    out += "</tbody></table></div>\n";
  } else {
    out += "<ul>\n";
    for (const Sentence& one : decision->side_effects)
      out += "<li>" + html_text(full_stop(safe(one.text))) + " " +
             evidence_html(page, one.evidence) + "</li>\n";
    out += "</ul>\n";
  }
  return out + "</section>\n";
}

using Words = std::map<std::string, std::string>;

/// Every fact of a host's environment, by a name that says where it came from.
Words words_of(const ReportRun* run) {
  Words words;
  if (run == nullptr) return words;
  for (const auto& [key, value] : run->environment.versions) words[key] = value;
  for (const auto& [key, value] : run->environment.facts) words[key] = value;
  for (const auto& [key, value] : run->environment.variables) words["$" + key] = value;
  if (run->rig) {
    words["CPU"] = run->rig->cpu_model;
    for (const GpuDevice& gpu : run->rig->gpus) words[fmt::format("GPU {}", gpu.gpu)] = gpu.name;
  }
  return words;
}

std::string environments(const Page& page) {
  const ReportRun* a = page.first(0);
  const ReportRun* b = page.first(1);
  if (a == nullptr || (page.two_sided() && b == nullptr)) return {};
  const Words left = words_of(a), right = words_of(b);
  std::set<std::string> keys;
  for (const auto& [key, value] : left) keys.insert(key);
  for (const auto& [key, value] : right) keys.insert(key);
  std::string out = "<section id=\"environment\">\n<h2>Software and hardware</h2>\n";
  if (keys.empty())
    return out + "<p class=\"note\">The environment was not measured.</p></section>\n";
  const auto value = [](const Words& words, const std::string& key) {
    const auto found = words.find(key);
    return found == words.end() ? std::string() : found->second;
  };
  std::string rows, same;
  std::size_t different = 0;
  for (const std::string& key : keys) {
    const std::string x = value(left, key), y = value(right, key);
    if (page.two_sided() && x != y) {
      if (++different <= kMaxRows)
        rows += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
                            html_text(key, 80), or_unknown(x), or_unknown(y));
    } else if (!x.empty()) {
      same += fmt::format("<dt>{}</dt><dd>{}</dd>", html_text(key, 80), html_text(x, 200));
    }
  }
  if (page.two_sided()) {
    if (different == 0) {
      out += fmt::format("<p class=\"note\">No difference in {}.</p>\n",
                         count(static_cast<std::int64_t>(keys.size()), "recorded fact"));
    } else {
      out +=
          "<p class=\"note\">Only what differs.</p><div class=\"scroll\"><table "
          "class=\"plain\"><thead><tr><th>what</th>" +
          side_heads(page) + "</tr></thead><tbody>\n" + rows + "</tbody></table></div>\n";
    }
  }
  if (!same.empty())
    out += fmt::format("<details><summary>{}</summary><dl class=\"env\">{}</dl></details>\n",
                       page.two_sided() ? "What is the same" : "What was recorded", same);
  return out + "</section>\n";
}

std::string statement(const Page& page) {
  const Decision* decision = page.input.decision;
  if (decision == nullptr) return {};
  const Statement& sealed = decision->statement;
  std::string list;
  const auto add = [&](std::string_view term, const std::string& text) {
    if (!text.empty()) list += fmt::format("<dt>{}</dt><dd>{}</dd>\n", term, html_text(text));
  };
  add("bottleneck", sealed.bottleneck);
  add("success threshold", sealed.threshold);
  add("option", sealed.option);
  add("why it targets the bottleneck", sealed.reason);
  add("stop condition", sealed.stop);
  std::string out = "<section id=\"statement\">\n<h2>What was promised before the runs</h2>\n";
  if (list.empty()) return out + "<p class=\"note\">Nothing was stated.</p></section>\n";
  out += "<dl class=\"env wide\">" + list + "</dl>\n<p class=\"note\">" +
         html_text(sealed_in_words(sealed, page.links.runs()));
  if (!sealed.hash.empty())
    out += " · SHA-256 <code>" + html_text(sealed.hash.substr(0, 16)) + "…</code>";
  out += "</p>\n";
  if (decision->amendments.empty()) {
    out += "<p class=\"note\">Not changed since.</p>\n";
  } else {
    out += "<ul class=\"warn\">";
    for (const std::string& amendment : decision->amendments)
      out += "<li>" + html_text(amendment) + "</li>";
    out += "</ul>\n";
  }
  return out + "</section>\n";
}

std::string commands(const Page& page) {
  if (page.input.runs.empty()) return {};
  std::string out =
      "<section id=\"commands\">\n<h2>To do it again</h2>\n<p class=\"note\">The runs, oldest "
      "first, as they were started.</p>\n<ol class=\"cmds\">\n";
  std::vector<const ReportRun*> runs;
  for (const ReportRun& run : page.input.runs) {
    if (run.run != nullptr) runs.push_back(&run);
  }
  std::stable_sort(runs.begin(), runs.end(), [](const ReportRun* x, const ReportRun* y) {
    return x->run->info.start_unix_s < y->run->info.start_unix_s;
  });
  std::string last_cwd;
  for (const ReportRun* run : runs) {
    const RunInfo& info = run->run->info;
    std::string place;
    if (info.start_unix_s > 0) place = format_wall_clock(info.start_unix_s);
    const auto commit = run->environment.facts.find("git_commit");
    if (commit != run->environment.facts.end() && !commit->second.empty())
      place += " · code " + commit->second.substr(0, 12);
    place += " · " + ending_in_words(*run->run);
    const std::string cd = info.cwd.empty() || info.cwd == last_cwd
                               ? std::string()
                               : html_text("cd " + shell_line({info.cwd}), 400) + "\n";
    last_cwd = info.cwd;
    out += fmt::format(
        "<li><pre>{}rigwise run --name {} -- {}</pre><span class=\"quiet\">{}</span></li>\n", cd,
        html_text(shell_line({info.name}), 100), html_text(shell_line(info.command), 4000),
        html_text(place));
  }
  if (page.two_sided()) {
    out += fmt::format(
        "<li><pre>rigwise compare {} -- {}</pre></li>\n<li><pre>rigwise decide "
        "--baseline {} --option {}</pre></li>\n",
        html_text(shell_line({page.side_name[0]})), html_text(shell_line({page.side_name[1]})),
        html_text(shell_line({page.side_name[0]})), html_text(shell_line({page.side_name[1]})));
  } else {
    out += fmt::format("<li><pre>rigwise ledger {}</pre></li>\n",
                       html_text(shell_line({page.side_name[0]})));
  }
  return out + "</ol>\n</section>\n";
}

/// Remarks in order of first appearance, each once, with the runs that it is true of.
class Remarks {
 public:
  void add(const std::string& run, Severity severity, const std::string& text) {
    for (Remark& remark : remarks_) {
      if (remark.text != text) continue;
      remark.runs.push_back(run);
      return;
    }
    if (remarks_.size() < kMaxRows) remarks_.push_back({text, severity, {run}});
  }

  void add(const Page& page, const std::string& run, const std::vector<Finding>& findings) {
    for (const Finding& finding : findings) {
      if (finding.severity < Severity::notice) continue;
      const std::string evidence = evidence_html(page, finding.evidence);
      add(run, finding.severity,
          html_text(full_stop(safe(finding.claim))) + (evidence.empty() ? "" : " " + evidence));
    }
  }

  [[nodiscard]] std::string html(std::size_t runs) const {
    std::string out;
    for (const Remark& remark : remarks_) {
      std::string who;
      for (const std::string& run : remark.runs) who += (who.empty() ? "" : ", ") + run;
      if (remark.runs.size() == runs && runs > 1) who = "every run";
      out +=
          fmt::format("<li class=\"sev-{0}\">{1}{2}{3}</li>\n", to_string(remark.severity),
                      remark.severity >= Severity::warning
                          ? fmt::format("<b>{}</b> ", to_string(remark.severity))
                          : std::string(),
                      who.empty() ? who : "<span class=\"quiet\">" + who + "</span> ", remark.text);
    }
    return out;
  }

 private:
  struct Remark {
    std::string text;
    Severity severity;
    std::vector<std::string> runs;
  };
  std::vector<Remark> remarks_;
};

/// What the evidence cannot carry: missing files, lossy reading, disturbed runs.
std::string limits(const Page& page) {
  Remarks remarks;
  if (page.input.comparison != nullptr) remarks.add(page, "", page.input.comparison->findings);
  std::size_t runs = 0;
  for (const ReportRun& report_run : page.input.runs) {
    if (report_run.run == nullptr) continue;
    ++runs;
    const Run& run = *report_run.run;
    const std::string name = html_text(run.info.id.empty() ? run.info.name : run.info.id, 120);
    if (report_run.ledger != nullptr) remarks.add(page, name, report_run.ledger->findings);
    for (const std::string& text : run.info.warnings)
      remarks.add(name, Severity::warning, html_text(text));
    for (const std::string& text : run.missing)
      remarks.add(name, Severity::info, "missing: " + html_text(text));
    if (run.info.log_reading && run.info.log_reading->malformed > 0)
      remarks.add(name, Severity::notice,
                  fmt::format("{} of {} log lines could not be read",
                              run.info.log_reading->malformed, run.info.log_reading->lines));
    for (const auto& [file, bad] :
         {std::pair<const char*, std::int64_t>{"steps.csv", report_run.steps.bad_rows},
          {"events.csv", report_run.events.bad_rows},
          {"GPU samples", report_run.gpu.bad_rows},
          {"host samples", report_run.host.bad_rows},
          {"disk samples", report_run.disk.bad_rows}}) {
      if (bad > 0)
        remarks.add(name, Severity::notice,
                    fmt::format("{} of {} could not be read", count(bad, "row"), file));
    }
  }
  const std::string list = remarks.html(runs);
  std::string out = "<section id=\"limits\">\n<h2>What this evidence cannot carry</h2>\n";
  out += list.empty() ? "<p class=\"note\">Nothing known to be missing.</p>\n"
                      : "<ul class=\"limits\">\n" + list + "</ul>\n";
  return out + "</section>\n";
}

std::string foot(const Page& page) {
  std::set<std::string> versions;
  double cpu_s = 0;
  bool cost = false;
  for (const ReportRun& run : page.input.runs) {
    if (run.run == nullptr) continue;
    if (!run.run->info.version.empty()) versions.insert(run.run->info.version);
    if (run.run->info.recorder && run.run->info.recorder->cpu_s) {
      cpu_s += *run.run->info.recorder->cpu_s;
      cost = true;
    }
  }
  std::string out = "<footer><p>Recorded by rigwise";
  for (const std::string& version : versions) out += " " + html_text(version, 40);
  if (cost) out += ", which took " + format_duration(cpu_s) + " of CPU time for all runs together";
  out +=
      ". “measured” was read off a clock or counter, “derived” was computed from measured "
      "figures, “assumed” rests on a default. This file needs no network.</p></footer>\n";
  return out;
}
}  // namespace

std::string comparison_html(const Page& page) {
  const Comparison* comparison = page.input.comparison;
  std::string out;
  if (comparison != nullptr) {
    out +=
        "<section id=\"comparison\">\n<h2>What the comparison shows</h2>\n<table class=\"plain "
        "figures\"><tbody>\n";
    for (const auto& [name, value] : comparison_rows(*comparison)) {
      if (name == "side effects") continue;
      out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", html_text(name),
                         html_text(value));
    }
    out += "</tbody></table>\n</section>\n";
  }
  out += side_effects(page);
  if (comparison != nullptr) out += comparability(page, *comparison);
  return out;
}

std::string settings_html(const Page& page) {
  return environments(page) + statement(page);
}

std::string proof_html(const Page& page) {
  return commands(page) + limits(page) + foot(page);
}

}  // namespace rigwise::report
