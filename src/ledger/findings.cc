#include "ledger/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "ledger/rules.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

Finding finding(std::string_view id, Severity severity, std::string claim,
                std::vector<Evidence> evidence) {
  const Rule& rule = ledger_rule(id);
  Finding found;
  found.id = std::string(rule.id);
  found.severity = severity;
  found.claim = std::move(claim);
  found.evidence = std::move(evidence);
  found.threshold = std::string(rule.threshold);
  found.next_step = std::string(rule.next_step);
  found.source = std::string(rule.source);
  return found;
}

Evidence run_json(std::string what) {
  return Evidence{"", "run.json", std::nullopt, std::nullopt, std::move(what)};
}

using Findings = std::vector<Finding>;

void ranks_missing(const FindingInput& input, Findings& out) {
  const RunInfo& info = input.run->info;
  if (!info.ranks_asked || !info.ranks_trained || *info.ranks_trained >= *info.ranks_asked) return;
  out.push_back(finding(
      "ranks-missing", Severity::critical,
      fmt::format("{} ranks were asked for, {} trained.", *info.ranks_asked, *info.ranks_trained),
      {run_json(clean_text(info.ranks_why, 200))}));
}

void no_steps(const FindingInput& input, Findings& out) {
  if (input.steps->entries > 0) return;
  const auto& reading = input.run->info.log_reading;
  out.push_back(finding(
      "no-steps", Severity::warning,
      reading ? fmt::format("Not one training entry was found in {} lines of log.", reading->lines)
              : "Not one training entry was found in the log.",
      {Evidence{"", "log/out.log", std::nullopt, std::nullopt, ""}}));
}

void log_lossy(const FindingInput& input, Findings& out) {
  const RunInfo& info = input.run->info;
  const std::int64_t lost = info.recorder ? info.recorder->lost_log_bytes : 0;
  if (lost > 0) {
    out.push_back(finding("log-lossy", Severity::warning,
                          fmt::format("{} of the log reached the terminal but not the disk.",
                                      format_bytes(static_cast<double>(lost))),
                          {run_json("recorder.lost_log_bytes")}));
  }
  const auto& reading = info.log_reading;
  const std::int64_t malformed = (reading ? reading->malformed : 0) + input.bad_rows;
  if (malformed <= 0) return;
  const std::int64_t matched = std::max<std::int64_t>(0, reading ? reading->matched : 0);
  const double share = static_cast<double>(malformed) / static_cast<double>(malformed + matched);
  const bool above = share > ledger_rule("log-lossy").limit;
  std::vector<Evidence> evidence;
  if (reading && reading->first_bad_line > 0) {
    evidence.push_back(Evidence{"", "log/out.log", reading->first_bad_line, reading->first_bad_line,
                                clean_text(reading->first_bad_text, 80)});
  } else {
    evidence.push_back(run_json("log_reading"));
  }
  out.push_back(finding(
      "log-lossy", above ? Severity::warning : Severity::info,
      fmt::format("{} of {} metric lines could not be read.", malformed, malformed + matched),
      std::move(evidence)));
}

void recorder_died(const FindingInput& input, Findings& out) {
  const Run& run = *input.run;
  const bool said = run.info.end_unwatched;
  double gap_s = 0;
  Evidence evidence = run_json("end_unwatched");
  for (const auto& host : input.hosts) {
    if (!host.last_s) continue;
    gap_s = std::max(gap_s, run.wall_s - *host.last_s);
    evidence = host.evidence;
  }
  const double limit_s =
      ledger_rule("recorder-died").limit * std::max(0.1, run.info.interval_s) + 5;
  const bool stopped = run.state != RunState::running && gap_s > limit_s;
  if (!said && !stopped) return;
  std::string claim = "The recorder died before the command did";
  if (gap_s > limit_s)
    claim += fmt::format(": the last {} have no samples", format_duration(gap_s));
  out.push_back(finding("recorder-died", Severity::warning, claim + ".", {evidence}));
}

void output_buffered(const FindingInput& input, Findings& out) {
  if (input.steps->buffered.empty() || !input.steps->bursts) return;
  // With another stream's trustworthy instants nothing is lost.
  const bool harmless = input.steps->main.has_value();
  std::vector<Evidence> evidence;
  for (const auto& file : input.steps->buffered) {
    evidence.push_back(Evidence{"", file, std::nullopt, std::nullopt, ""});
  }
  out.push_back(finding(
      "output-buffered", harmless ? Severity::info : Severity::warning,
      fmt::format("Lines of {} arrived in bursts ({} of them within 1 ms of their neighbour): "
                  "their instants are not used.",
                  join(input.steps->buffered, ", "), format_share(input.steps->share_below_1ms)),
      std::move(evidence)));
}

void other_programs(const FindingInput& input, Findings& out) {
  const double limit = ledger_rule("other-programs-took-cpu").limit;
  for (const auto& host : input.hosts) {
    if (!host.others_cpu_s || !host.last_s || *host.last_s <= 0) continue;
    const double room_s = host.cpus.value_or(1) * *host.last_s;
    const bool took = *host.others_cpu_s >= limit * room_s;
    // Busy neighbours on spare cores, or beside a program that sleeps, cost nothing.
    const double harm_s = std::max(limit * host.tree_cpu_s.value_or(0), 0.01 * *host.last_s);
    const bool waited = !host.run_delay_s || *host.run_delay_s >= harm_s;
    if (!took || !waited) continue;
    std::string claim =
        fmt::format("Other programs on {} took {} of CPU ({} of what there was)", host.host,
                    format_duration(*host.others_cpu_s), format_share(*host.others_cpu_s / room_s));
    if (!host.top_other.empty()) claim += ", most of it " + clean_text(host.top_other, 60);
    if (host.run_delay_s) {
      claim += fmt::format("; the run's threads waited {} for a CPU",
                           format_duration(*host.run_delay_s));
    }
    out.push_back(
        finding("other-programs-took-cpu", Severity::warning, claim + ".", {host.evidence}));
  }
}

void clocks_held(const FindingInput& input, Findings& out) {
  const Throttling& held = *input.throttling;
  const double steps_s = input.stretch.to_s - input.stretch.from_s;
  if (!held.counted || steps_s <= 0 || held.held_s < ledger_rule("clocks-held").limit * steps_s) {
    return;
  }
  out.push_back(
      finding("clocks-held", Severity::warning,
              fmt::format("Clocks of GPU {} were held down for {} of {} ({}).", held.gpu,
                          format_duration(held.held_s), format_duration(steps_s), held.cause),
              {held.evidence}));
}

void rank_straggles(const FindingInput& input, Findings& out) {
  if (!input.straggler) return;
  const Straggler& one = *input.straggler;
  if (!(one.steps_s > 0) || one.waited_s < ledger_rule("rank-straggles").limit * one.steps_s)
    return;
  out.push_back(
      finding("rank-straggles", Severity::warning,
              fmt::format("The other ranks waited {} of {} for rank {}{}{}.",
                          format_duration(one.waited_s), format_duration(one.steps_s), one.rank,
                          one.with.empty() ? "" : ", which had more of ", one.with),
              {one.evidence}));
}

void disk_nearly_full(const FindingInput& input, Findings& out) {
  constexpr double kLeastShare = 0.05;
  for (const auto& view : input.file_systems) {
    const double wanted = ledger_rule("disk-nearly-full").limit * input.largest_checkpoint_bytes;
    const bool short_of_saves = wanted > 0 && view.free_bytes < wanted;
    if (!short_of_saves && view.free_bytes >= kLeastShare * view.total_bytes) continue;
    out.push_back(finding(
        "disk-nearly-full", short_of_saves ? Severity::critical : Severity::warning,
        fmt::format("{} has {} of {} left{}.", clean_text(view.mount, 120),
                    format_bytes(view.free_bytes), format_bytes(view.total_bytes),
                    short_of_saves ? fmt::format("; one checkpoint takes {}",
                                                 format_bytes(input.largest_checkpoint_bytes))
                                   : ""),
        {view.evidence}));
  }
}

void checkpoint_torn(const FindingInput& input, Findings& out) {
  const TornCheckpoints& torn = input.torn;
  if (torn.count == 0) return;
  std::string claim =
      fmt::format("{} {} torn", torn.count, torn.count == 1 ? "checkpoint is" : "checkpoints are");
  if (!torn.name.empty()) {
    claim += fmt::format("{}: {}", torn.count == 1 ? "" : ", the last of them",
                         clean_text(torn.name, 120));
  }
  if (!torn.why.empty()) claim += fmt::format(" ({})", clean_text(torn.why, 120));
  if (torn.last) claim += ". It is the newest one: a restart would go back to the one before";
  out.push_back(finding("checkpoint-torn", torn.last ? Severity::critical : Severity::warning,
                        claim + ".", {torn.evidence}));
}

void clock_jumped(const FindingInput& input, Findings& out) {
  for (const auto& host : input.hosts) {
    if (!host.jump_s || std::fabs(*host.jump_s) < ledger_rule("clock-jumped").limit) continue;
    out.push_back(finding(
        "clock-jumped", Severity::info,
        fmt::format("The wall clock of {} jumped {} {} at {}.", host.host,
                    format_duration(std::fabs(*host.jump_s)), *host.jump_s > 0 ? "forward" : "back",
                    format_duration(host.jump_at_s.value_or(0))),
        {host.jump_evidence}));
  }
}

void step_stalled(const FindingInput& input, Findings& out) {
  if (input.split == nullptr || input.split->stalls.empty()) return;
  const auto& stalls = input.split->stalls;
  double sum_s = 0;
  for (const auto& stall : stalls) sum_s += stall.seconds;
  const auto worst =
      std::max_element(stalls.begin(), stalls.end(),
                       [](const Stall& a, const Stall& b) { return a.seconds < b.seconds; });
  Evidence evidence{"", "steps.csv", std::nullopt, std::nullopt, ""};
  if (worst->row > 0) evidence.first_row = evidence.last_row = worst->row;
  const double wall_s = input.run->wall_s;
  out.push_back(finding(
      "step-stalled", sum_s >= 0.05 * wall_s ? Severity::warning : Severity::info,
      fmt::format("{} {} stood still for {} in all with no event beside {}; the longest {} at {}.",
                  stalls.size(), stalls.size() == 1 ? "step" : "steps", format_duration(sum_s),
                  stalls.size() == 1 ? "it" : "them", format_duration(worst->seconds),
                  format_duration(worst->at_s)),
      {evidence}));
}

void run_hung(const FindingInput& input, Findings& out) {
  if (input.hangs.empty()) return;
  const Hang& last = input.hangs.back();
  double sum_s = 0;
  std::vector<Evidence> evidence;
  for (const Hang& hang : input.hangs) {
    sum_s += seconds_of(hang, *input.run);
    evidence.push_back(Evidence{"", "hangs.jsonl", hang.line, hang.line,
                                fmt::format("found after {}", format_duration(hang.found_s))});
  }
  std::string claim = input.hangs.size() == 1
                          ? fmt::format("It made no progress for {} from {} on",
                                        format_duration(sum_s), format_duration(last.t_s))
                          : fmt::format("It made no progress for {} in all, {} times; the last",
                                        format_duration(sum_s), input.hangs.size());
  if (const std::string words = last.look.verdict.claim(); !words.empty())
    claim += ": " + clean_text(words, 600);
  const bool went_on = last.state == HangState::over;
  Finding found = finding("run-hung",
                          !went_on                            ? Severity::critical
                          : sum_s >= 0.05 * input.run->wall_s ? Severity::warning
                                                              : Severity::info,
                          claim + ".", std::move(evidence));
  if (!last.look.verdict.advice.empty())
    found.next_step = clean_text(last.look.verdict.advice, 600);
  out.push_back(std::move(found));
}

}  // namespace

std::vector<Finding> ledger_findings(const FindingInput& input) {
  Findings out;
  ranks_missing(input, out);
  log_lossy(input, out);
  recorder_died(input, out);
  output_buffered(input, out);
  other_programs(input, out);
  clocks_held(input, out);
  rank_straggles(input, out);
  disk_nearly_full(input, out);
  checkpoint_torn(input, out);
  clock_jumped(input, out);
  no_steps(input, out);
  step_stalled(input, out);
  run_hung(input, out);
  std::stable_sort(out.begin(), out.end(), [](const Finding& a, const Finding& b) {
    return static_cast<int>(a.severity) > static_cast<int>(b.severity);
  });
  return out;
}

}  // namespace rigwise
