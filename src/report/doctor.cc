#include "report/doctor.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "base/text.h"
#include "report/figures.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise {

using namespace report;

namespace {

Json evidence_of(const std::vector<Evidence>& list) {
  Json array = Json::array();
  for (const Evidence& evidence : list) {
    Json item = Json::object();
    if (!evidence.run.empty()) item["run"] = evidence.run;
    if (!evidence.file.empty()) item["file"] = evidence.file;
    if (!evidence.what.empty()) item["what"] = evidence.what;
    array.push_back(std::move(item));
  }
  return array;
}

Json check_json(const Check& check) {
  const Finding& finding = check.finding;
  Json item = {{"code", finding.id},
               {"rung", to_string(check.rung)},
               {"state", to_string(check.state)},
               {"severity", to_string(finding.severity)}};
  if (!finding.claim.empty()) item["claim"] = finding.claim;
  if (!check.why.empty()) item["why"] = check.why;
  if (check.state != CheckState::fail) return item;
  item["evidence"] = evidence_of(finding.evidence);
  item["threshold"] = finding.threshold;
  item["next_step"] = finding.next_step;
  item["by_hand"] = check.by_hand;
  item["confirms"] = check.confirms;
  item["source"] = finding.source;
  return item;
}

bool warns(const RungReport& rung) {
  return std::any_of(rung.checks.begin(), rung.checks.end(), [](const Check& check) {
    return check.state == CheckState::fail && check.finding.severity >= Severity::warning;
  });
}

int count_of(const RungReport& rung, CheckState state) {
  return static_cast<int>(std::count_if(rung.checks.begin(), rung.checks.end(),
                                        [&](const Check& check) { return check.state == state; }));
}

std::string mark_of(const RungReport& rung, const Paint& paint) {
  switch (rung.state) {
    case CheckState::pass:
      return warns(rung) ? paint.yellow("!") : paint.green("✓");
    case CheckState::fail:
      return paint.red("✗");
    case CheckState::not_judged:
      return paint.grey("?");
    case CheckState::skipped:
      return paint.grey("·");
  }
  return " ";
}

std::string joined(const std::vector<std::string>& codes) {
  return join(codes, ", ");
}

/// What a rung's line says behind its name.
std::string words_of(const RungReport& rung) {
  if (rung.state == CheckState::skipped) return "skipped: " + safe(rung.why, 200);
  if (rung.state == CheckState::not_judged) return "not judged: " + safe(rung.why, 200);
  std::vector<std::string> failed, open;
  for (const Check& check : rung.checks) {
    auto& list = check.state == CheckState::fail ? failed : open;
    if (check.state != CheckState::fail && check.state != CheckState::not_judged) continue;
    if (std::find(list.begin(), list.end(), check.finding.id) == list.end())
      list.push_back(check.finding.id);
  }
  std::string out = joined(failed);
  const int passed = count_of(rung, CheckState::pass);
  if (passed > 0) {
    if (!out.empty()) out += "; ";
    out += counted(passed, "check passed", "checks passed");
  }
  if (!open.empty()) out += "; not judged: " + joined(open);
  constexpr double kWorthTelling_s = 1;
  if (rung.seconds >= kWorthTelling_s) out += "; " + format_duration(rung.seconds);
  return out;
}

const Check* first_critical(const DoctorReport& report) {
  const RungReport* rung = report.first_failed();
  if (rung == nullptr) return nullptr;
  for (const Check& check : rung->checks) {
    if (check.state == CheckState::fail && check.finding.severity == Severity::critical)
      return &check;
  }
  return nullptr;
}

bool was_judged(const RungReport& rung) {
  return rung.rung != Rung::ready && count_of(rung, CheckState::pass) > 0;
}

/// Every rung was asked; one that found nothing to check (no GPU) is no hindrance.
bool ready(const DoctorReport& report) {
  return std::all_of(report.rungs.begin(), report.rungs.end(), [](const RungReport& rung) {
    const bool nothing_there = rung.state == CheckState::skipped && !rung.checks.empty();
    const bool holds = rung.state == CheckState::pass || nothing_there;
    return holds && (rung.rung != Rung::ready || count_of(rung, CheckState::fail) == 0);
  });
}

/// What reasons are behind checks that were not judged, each once.
std::string open_text(const DoctorReport& report, std::size_t width) {
  std::string out;
  for (const RungReport& rung : report.rungs) {
    std::vector<std::pair<std::string, std::vector<std::string>>> reasons;
    for (const Check& check : rung.checks) {
      if (check.state != CheckState::not_judged) continue;
      auto at = std::find_if(reasons.begin(), reasons.end(),
                             [&](const auto& one) { return one.first == check.why; });
      if (at == reasons.end()) at = reasons.insert(reasons.end(), {check.why, {}});
      at->second.push_back(check.finding.id);
    }
    for (const auto& [why, codes] : reasons)
      out += hang("  ", joined(codes) + ": " + safe(why, 300), width);
  }
  return out.empty() ? out : "\nNot judged:\n" + out;
}

}  // namespace

std::string doctor_answer(const DoctorReport& report) {
  if (const Check* check = first_critical(report))
    return "NOT READY: " + safe(check->finding.claim, 400);
  if (ready(report)) return "READY: no rung failed, and a smoke test of the command passed.";
  std::string last;
  int failed = 0;
  for (const RungReport& rung : report.rungs) {
    if (was_judged(rung)) last = to_string(rung.rung);
    for (const Check& check : rung.checks)
      failed += check.state == CheckState::fail && check.finding.severity >= Severity::warning;
  }
  if (last.empty()) return "NOTHING JUDGED: no rung was asked.";
  const std::string upto = " up to " + last + fmt::format(" (level {}).", report.level);
  if (failed > 0) return "NO FAULT THAT STOPS A RUN" + upto;
  return "NO FAULT FOUND" + upto;
}

std::string check_text(const Check& check, const TextStyle& style) {
  const Paint paint(style);
  const std::size_t width = line_width(style);
  const Finding& finding = check.finding;
  const std::string severity(to_string(finding.severity));
  const std::string shade = finding.severity == Severity::critical  ? paint.red(severity)
                            : finding.severity == Severity::warning ? paint.yellow(severity)
                                                                    : paint.grey(severity);
  std::string out = paint.bold(finding.id) + "  " + shade + "\n";
  out += hang("  ", full_stop(safe(finding.claim, 600)), width);
  std::size_t shown = 0;
  for (const Evidence& evidence : finding.evidence) {
    if (evidence.what.empty() && evidence.file.empty()) continue;
    if (++shown > 4) break;
    out += hang("  shows it: ", safe(to_string(evidence), 600), width);
  }
  out += hang("  try one thing: ", full_stop(safe(finding.next_step, 400)), width);
  out += hang("  by hand: ", safe(check.by_hand, 400), width);
  out += hang("  confirms: ", full_stop(safe(check.confirms, 300)), width);
  return out;
}

std::string doctor_text(const DoctorReport& report, const TextStyle& style) {
  const Paint paint(style);
  const std::size_t width = line_width(style);
  std::string out;
  for (const auto& line : wrap(doctor_answer(report), width)) out += paint.bold(line) + "\n";
  out += "\n";
  constexpr std::size_t kNames = 10;
  for (const RungReport& rung : report.rungs) {
    const std::string head = "  " + mark_of(rung, paint) + " " +
                             pad_right(std::string(to_string(rung.rung)), kNames) + "  ";
    out += hang(head, words_of(rung), width);
  }
  std::vector<const Check*> failed;
  for (const RungReport& rung : report.rungs) {
    for (const Check& check : rung.checks) {
      if (check.state == CheckState::fail) failed.push_back(&check);
    }
  }
  std::stable_sort(failed.begin(), failed.end(), [](const Check* a, const Check* b) {
    return a->finding.severity > b->finding.severity;
  });
  for (const Check* check : failed) out += "\n" + check_text(*check, style);
  out += open_text(report, width);
  return out;
}

std::string doctor_json(const DoctorReport& report) {
  Json rungs = Json::array(), checks = Json::array();
  for (const RungReport& rung : report.rungs) {
    Json item = {{"rung", to_string(rung.rung)},
                 {"state", to_string(rung.state)},
                 {"seconds", json_number(rung.seconds)}};
    if (!rung.why.empty()) item["why"] = rung.why;
    rungs.push_back(std::move(item));
    for (const Check& check : rung.checks) checks.push_back(check_json(check));
  }
  const RungReport* failed = report.first_failed();
  const auto worst = report.worst();
  auto facts = parse_json(report.facts);
  const Json document = {{"schema", 1},
                         {"answer", doctor_answer(report)},
                         {"ready", ready(report)},
                         {"first_failed", failed ? Json(to_string(failed->rung)) : Json(nullptr)},
                         {"worst", worst ? Json(to_string(*worst)) : Json(nullptr)},
                         {"level", report.level},
                         {"host", report.host},
                         {"python", report.python.empty() ? Json(nullptr) : Json(report.python)},
                         {"time", format_iso_utc(report.unix_s)},
                         {"seconds", json_number(report.seconds)},
                         {"rungs", std::move(rungs)},
                         {"checks", std::move(checks)},
                         {"facts", facts ? std::move(*facts) : Json(nullptr)}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace rigwise
