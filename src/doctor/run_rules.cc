// The rungs "storage", "smoke" and "ready".
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "doctor/rules.h"
#include "rigwise/units.h"

namespace rigwise::doctor {

namespace {

constexpr double kSlow = 100e6, kNearlyShare = 0.05, kNearlyBytes = 20e9, kInodes = 0.02,
                 kMargin = 1.1;

bool short_of(const StorageTry& one) {
  return one.need_bytes && one.free_bytes && *one.free_bytes < *one.need_bytes * kMargin;
}

/// What the user says is needed is critical where it is missing; what an earlier run lets expect is
/// a warning, since the next one may write elsewhere, or less.
void judge_need(const StorageTry& one, const StorageFacts& facts, const std::string& free,
                Judge& judge) {
  const char* code = one.need_said ? "storage-short" : "storage-tight";
  const bool room_elsewhere = std::any_of(facts.dirs.begin(), facts.dirs.end(),
                                          [](const StorageTry& dir) { return !short_of(dir); });
  if (!one.need_bytes) {
    const bool other = std::any_of(facts.dirs.begin(), facts.dirs.end(),
                                   [](const StorageTry& dir) { return dir.need_here; });
    if (other)
      judge.skip("storage-tight", one.path + ": checkpoints go to another folder");
    else
      judge.not_judged("storage-tight", facts.why_no_earlier);
  } else if (short_of(one) && !one.need_here && room_elsewhere) {
    judge.not_judged(
        code,
        fmt::format("{} has {}; whether the run writes there is not known: --dir", one.path, free));
  } else if (short_of(one)) {
    judge.fail(code,
               fmt::format("{} has {}, and the run is expected to write {}.", one.path, free,
                           format_bytes(*one.need_bytes)),
               {{.file = one.mount, .what = free}, {.what = "expected from " + one.need_from}},
               {{"path", one.path}});
  } else {
    judge.pass(code,
               fmt::format("{}: {}; {} expected", one.path, free, format_bytes(*one.need_bytes)));
  }
}

void judge_space(const StorageTry& one, const StorageFacts& facts, Judge& judge) {
  const Judge::Names names = {{"path", one.path}};
  if (!one.free_bytes || !one.total_bytes) {
    for (const char* code : {"storage-short", "storage-tight"})
      judge.not_judged(code, one.path + ": its free space cannot be asked");
    return;
  }
  const std::string free =
      format_bytes(*one.free_bytes) + " of " + format_bytes(*one.total_bytes) + " free";
  judge_need(one, facts, free, judge);
  if (*one.free_bytes < kNearlyBytes && *one.free_bytes < kNearlyShare * *one.total_bytes)
    judge.fail("storage-nearly-full", one.path + " is nearly full: " + free + ".",
               {{.file = one.mount, .what = free}}, names);
  else
    judge.pass("storage-nearly-full", one.path + ": " + free);
  if (!one.free_files || !one.total_files || *one.total_files <= 0)
    judge.not_judged("storage-inodes", one.path + ": the file system counts no inodes");
  else if (*one.free_files < kInodes * *one.total_files)
    judge.fail("storage-inodes",
               fmt::format("{} has {:.0f} of {:.0f} inodes free.", one.path, *one.free_files,
                           *one.total_files),
               {{.file = one.mount, .what = "statvfs"}}, names);
  else
    judge.pass(
        "storage-inodes",
        one.path + ": " + format_share(*one.free_files / *one.total_files) + " of inodes free");
}

void judge_kind(const StorageTry& one, Judge& judge) {
  const Judge::Names names = {{"path", one.path}};
  const std::string kind = one.fs_type.empty() ? "of unknown type" : one.fs_type;
  if (one.in_memory)
    judge.fail("storage-in-memory", one.path + " lies in memory.",
               {{.file = one.mount, .what = kind}}, names);
  else
    judge.pass("storage-in-memory", one.path + " is " + kind);
  if (one.network)
    judge.fail("storage-network", one.path + " lies on a network file system.",
               {{.file = one.mount, .what = kind}}, names);
  else
    judge.pass("storage-network", one.path + " is " + kind);
}

void judge_test(const StorageTry& one, Judge& judge) {
  const Judge::Names names = {{"path", one.path}};
  if (!one.error.empty()) {
    judge.fail("storage-unwritable", one.path + " cannot be written: " + one.error + ".",
               {{.file = one.path, .what = one.error}}, names);
    return;
  }
  if (!one.test_bytes) {
    for (const char* code : {"storage-unwritable", "storage-wrong-bytes", "storage-slow"})
      judge.not_judged(code, one.path + ": no room for a test file");
    return;
  }
  std::string size = format_bytes_binary(*one.test_bytes);
  if (one.short_test) size += " (its time was over)";
  judge.pass("storage-unwritable", one.path + ": " + size + " written, synced and read back");
  if (one.wrong)
    judge.fail("storage-wrong-bytes", one.path + " gave back other bytes than were written.",
               {{.file = one.path, .what = size + " compared"}}, names);
  else
    judge.pass("storage-wrong-bytes", one.path + ": " + size + " compared");
  if (!one.write_bytes_per_s) {
    judge.not_judged("storage-slow", one.path + ": too little was written for a rate");
  } else if (*one.write_bytes_per_s < kSlow) {
    judge.fail("storage-slow",
               fmt::format("{} takes {}/s of synced writes.", one.path,
                           format_bytes(*one.write_bytes_per_s)),
               {{.file = one.path, .what = size + " with fsync"}}, names);
  } else {
    judge.pass("storage-slow", fmt::format("{}: {}/s written with fsync, {}/s read", one.path,
                                           format_bytes(*one.write_bytes_per_s),
                                           format_bytes(one.read_bytes_per_s.value_or(0))));
  }
}

std::vector<Evidence> of_run(const SmokeResult& result, std::string what) {
  return {{.run = result.run, .what = std::move(what)}};
}

}  // namespace

void judge_storage(const DoctorFacts& facts, Judge& judge) {
  for (const auto& one : facts.storage.dirs) {
    if (!one.no_time.empty()) {
      judge.not_judged("storage-hung", one.path + ": " + one.no_time);
      continue;
    }
    if (one.hung) {
      judge.fail("storage-hung", one.path + " does not answer.",
                 {{.file = one.path, .what = one.error}}, {{"path", one.path}});
      continue;
    }
    judge.pass("storage-hung", one.path + " answers");
    if (!one.place.empty() && one.named)
      judge.fail("storage-missing",
                 fmt::format("{} is not there; {} was tested instead.", one.path, one.place),
                 {{.file = one.path, .what = "not there"}}, {{"path", one.path}});
    else
      judge.pass("storage-missing",
                 one.path + (one.place.empty() ? " is there" : " is made by the run"));
    judge_test(one, judge);
    judge_space(one, facts.storage, judge);
    judge_kind(one, judge);
  }
}

void judge_smoke(const SmokeResult& result, Judge& judge) {
  const Judge::Names names = {{"run", result.dir.empty() ? "RUN" : result.dir}};
  const int steps = result.steps_seen.value_or(0);
  const std::string done = fmt::format("{} of {} steps", steps, result.steps_asked);
  const bool reached = steps >= result.steps_asked;
  if (result.late) {
    judge.fail("smoke-late", fmt::format("The smoke test reached {} in its time.", done),
               of_run(result, result.trouble.empty() ? done : result.trouble), names);
  } else {
    judge.pass("smoke-late", "ended within its limit");
    const bool ended_badly = result.run.empty() || result.exit_status.value_or(0) != 0;
    if (ended_badly && !reached) {
      judge.fail("smoke-fails",
                 result.run.empty() ? "The smoke test did not start: " + result.trouble
                                    : fmt::format("The smoke test ended with exit {} after {}.",
                                                  result.exit_status.value_or(0), done),
                 of_run(result, result.trouble), names);
      return;
    }
    judge.pass("smoke-fails", done);
    if (steps == 0)
      judge.fail("smoke-no-steps", "The smoke test ended well and no step was seen.",
                 of_run(result, "steps.csv has no step"), names);
    else
      judge.pass("smoke-no-steps", done);
    if (steps > 0 && !reached)
      judge.fail("smoke-short", fmt::format("The smoke test ended well after {}.", done),
                 of_run(result, done), names);
    else if (steps > 0)
      judge.pass("smoke-short", done);
  }
  if (!result.last_loss)
    judge.not_judged("smoke-loss-bad", "no loss was logged");
  else if (!std::isfinite(*result.last_loss))
    judge.fail("smoke-loss-bad", "The loss is " + number_text(*result.last_loss) + ".",
               of_run(result, "steps.csv"), names);
  else
    judge.pass("smoke-loss-bad", fmt::format("loss {:.4g}", *result.last_loss));
  if (!result.ranks_asked || !result.ranks_trained)
    judge.not_judged("smoke-ranks-missing", "how many ranks trained is not known");
  else if (*result.ranks_trained < *result.ranks_asked)
    judge.fail("smoke-ranks-missing",
               fmt::format("{} of {} ranks trained.", *result.ranks_trained, *result.ranks_asked),
               of_run(result, "run.json"), names);
  else
    judge.pass("smoke-ranks-missing",
               fmt::format("{} of {} ranks", *result.ranks_trained, *result.ranks_asked));
}

void judge_ready(const Result<std::optional<SmokeResult>>& found, double now_unix_s,
                 const Judge::Names& names, Judge& judge) {
  if (!found) {
    judge.not_judged("smoke-missing", found.error().message);
    return;
  }
  const std::optional<SmokeResult>& kept = *found;
  if (!kept) {
    judge.fail("smoke-missing", "No smoke test of this command is on record.",
               {{.what = "RUNS/doctor/smoke.json"}}, names);
    return;
  }
  judge.pass("smoke-missing", "smoke test " + kept->run);
  const double age = now_unix_s - kept->unix_s;
  if (!kept->passed)
    judge.fail("smoke-stale", "The last smoke test of this command failed.",
               of_run(*kept, format_wall_clock(kept->unix_s)), names);
  else if (age > kSmokeFresh_s)
    judge.fail("smoke-stale", "The smoke test is " + format_duration(age) + " old.",
               of_run(*kept, format_wall_clock(kept->unix_s)), names);
  else
    judge.pass("smoke-stale", "passed " + format_wall_clock(kept->unix_s));
}

}  // namespace rigwise::doctor
