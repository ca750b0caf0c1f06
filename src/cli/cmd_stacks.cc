// stacks: where every process of a live run is now, in Python frames, without stopping any.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "record/hang_verdict.h"
#include "record/look.h"
#include "report/hang.h"
#include "rigwise/hang.h"
#include "rigwise/run.h"
#include "rigwise/units.h"
#include "run/hang_json.h"

namespace rigwise::cli {
namespace {

struct Recorded {  // the last span that the recorder wrote
  double t_end_s = 0;
  std::string work, frames;  // frames: outermost first, joined by ';'
};

struct Process {
  ProcessLook look;
  std::optional<Recorded> recorded;
};

// The latest row of each process that the recorder last saw, ranks first.
Result<std::vector<ProcSample>> processes_of(const Run& run) {
  std::map<int, ProcSample> latest;
  double last_s = 0;
  RW_CHECK(visit_proc(run, run.info.host,
                      {"t_s", "pid", "ppid", "role", "rank", "comm", "main_state"},
                      [&](const ProcSample& row, std::int64_t) {
                        last_s = std::max(last_s, row.t_s);
                        latest[row.pid] = row;
                        return true;
                      }));
  std::vector<ProcSample> out;
  for (auto& [pid, row] : latest)
    if (row.t_s >= last_s - 2 * run.info.interval_s && row.role != "other")
      out.push_back(std::move(row));
  const auto order = [](const ProcSample& one) {
    const int kind = one.role == "rank" ? 0 : one.role == "loader" ? 1 : 2;
    return std::tuple(kind, one.rank.value_or(-1), one.pid);
  };
  std::sort(out.begin(), out.end(),
            [&order](const ProcSample& a, const ProcSample& b) { return order(a) < order(b); });
  return out;
}

// What the recorder, who may read where a stranger may not, saw last.
void add_recorded(const Run& run, std::vector<Process>& processes) {
  const auto spans = read_stacks(run, run.info.host);
  const auto stacks = read_stack_frames(run, run.info.host);
  if (!spans || !stacks) return;
  for (Process& process : processes) {
    if (process.look.read != "unavailable") continue;
    for (auto span = spans->rows.rbegin(); span != spans->rows.rend(); ++span) {
      if (span->pid != process.look.pid) continue;
      Recorded recorded{.t_end_s = span->t_end_s, .work = clean_text(span->work)};
      for (const StackFrames& stack : stacks->rows)
        if (stack.stack == span->stack) recorded.frames = clean_text(stack.frames, 1 << 16);
      process.recorded = std::move(recorded);
      break;
    }
  }
}

// Without the folder of an installation, which says nothing and is long.
std::string_view short_file(std::string_view file) {
  for (const std::string_view folder : {"/site-packages/", "/dist-packages/"})
    if (const std::size_t at = file.rfind(folder); at != std::string_view::npos)
      return file.substr(at + folder.size());
  return file;
}

std::string_view state_word(const std::string& state) {
  if (state == "R") return "running";
  if (state == "S") return "waiting";
  if (state == "D") return "waiting for the disk or a device";
  if (state == "T" || state == "t") return "stopped";
  return state == "Z" ? "ended" : "in no state that is known";
}

std::string title_of(const ProcessLook& process) {
  std::string who = process.role;
  if (process.rank)
    who = process.role == "rank" ? fmt::format("rank {}", *process.rank)
                                 : fmt::format("{} of rank {}", who, *process.rank);
  std::string out = fmt::format("{}: pid {} ({})", who, process.pid, clean_text(process.comm));
  if (process.read != "gone") out += fmt::format(", {}", state_word(process.state));
  if (!process.waits_on.empty()) out += " on " + process.waits_on;
  if (!process.python.empty()) out += ", CPython " + process.python;
  return out;
}

/// Its other threads and its connections, a line each, where there are any.
std::string kernel_of(const ProcessLook& look) {
  constexpr std::size_t kMostKinds = 4;
  std::string out;
  int count = 0;
  std::vector<std::string> kinds;
  for (const ThreadGroup& group : look.threads) {
    count += group.count;
    if (kinds.size() == kMostKinds) continue;
    kinds.push_back(fmt::format("{}{} {}{}",
                                group.count > 1 ? std::to_string(group.count) + " " : "",
                                clean_text(group.comm), state_word(group.state),
                                group.wchan.empty() ? "" : " in " + clean_text(group.wchan)));
  }
  if (count > 1) {
    out += fmt::format("  {} threads: {}{}\n", count, join(kinds, ", "),
                       look.threads.size() > kMostKinds ? ", …" : "");
  }
  if (look.connections.value_or(0) == 0) return out;
  out += "  " + counted(*look.connections, "TCP connection", "TCP connections");
  if (look.closed_by_peer.value_or(0) > 0)
    out += fmt::format(", {} closed by the other end", *look.closed_by_peer);
  if (look.unsent_bytes.value_or(0) > 0)
    out += fmt::format(", {} not sent yet", format_bytes(*look.unsent_bytes));
  if (look.unread_bytes.value_or(0) > 0)
    out += fmt::format(", {} not read yet", format_bytes(*look.unread_bytes));
  return out + "\n";
}

std::string text_of(const Process& process) {
  const ProcessLook& look = process.look;
  std::string out = title_of(look) + '\n';
  if (look.read == "gone") return out + "  it has ended\n";
  if (look.read == "no_frame") return out + "  no Python code: it starts up, or comes to its end\n";
  if (look.read == "torn") return out + "  it moved each time that it was looked at; try again\n";
  if (look.read == "unavailable") {
    out += fmt::format("  not read: {}\n", look.why);
    if (!look.hint.empty()) out += fmt::format("    {}\n", look.hint);
  }
  out += kernel_of(look);
  if (process.recorded) {
    out += fmt::format("  recorded last, {:.0f} s into the run: {}\n", process.recorded->t_end_s,
                       process.recorded->work);
    const auto frames = split(process.recorded->frames, ';');
    for (auto it = frames.rbegin(); it != frames.rend(); ++it)
      if (!it->empty()) out += fmt::format("    {}\n", *it);
  }
  std::size_t width = 0;
  std::vector<std::string> places;
  for (const LookFrame& frame : look.frames) {
    places.emplace_back(short_file(frame.file));
    if (frame.line > 0) places.back() += fmt::format(":{}", frame.line);
    width = std::max(width, std::min<std::size_t>(places.back().size(), 60));
  }
  for (std::size_t i = 0; i < places.size(); ++i)
    out += fmt::format("  {:<{}}  {}\n", places[i], width, look.frames[i].function);
  return out;
}

/// The hang that the run is in, as the recorder found it.
std::optional<Hang> open_hang(const Run& run) {
  auto hangs = read_hangs(run);
  if (!hangs || hangs->rows.empty() || hangs->rows.back().state != HangState::open)
    return std::nullopt;
  return std::move(hangs->rows.back());
}

/// Ranks that had ended when the hang was found: a look at those that live does not show them.
void add_gone(const Hang& hang, std::vector<ProcessLook>& seen) {
  for (const ProcessLook& process : hang.look.processes) {
    const bool there = std::any_of(seen.begin(), seen.end(), [&](const ProcessLook& each) {
      return each.role == "rank" && each.rank == process.rank;
    });
    if (process.read == "gone" && process.role == "rank" && !there) seen.push_back(process);
  }
}

int count_ranks(const std::vector<ProcessLook>& seen) {
  return static_cast<int>(std::count_if(
      seen.begin(), seen.end(), [](const ProcessLook& each) { return each.role == "rank"; }));
}

/// In one line: who is where, and what that means if it stays so. Of a run with one process its
/// stack says it all.
std::string answer_of(const HangVerdict& now, const std::optional<Hang>& hang, double t_s,
                      int ranks) {
  std::string out;
  if (hang) {
    out = fmt::format("No progress for {}: {}.\n", format_duration(t_s - hang->t_s), now.claim());
    if (!now.advice.empty()) out += "Try one thing: " + now.advice + ".\n";
    return out + "\n";
  }
  if (ranks < 2 || now.where.empty()) return out;
  out = "Now: " + now.where + ".\n";
  if (!now.because.empty()) out += "If it stays so, " + now.because + ".\n";
  return out + "\n";
}

Json json_of(const Process& process) {
  Json out = rigwise::json_of(process.look);
  if (process.recorded) {
    Json recorded;
    recorded["t_end_s"] = process.recorded->t_end_s;
    recorded["work"] = process.recorded->work;
    recorded["frames"] = Json::array();
    const auto frames = split(process.recorded->frames, ';');
    for (auto it = frames.rbegin(); it != frames.rend(); ++it)
      if (!it->empty()) recorded["frames"].push_back(std::string(*it));
    out["recorded"] = std::move(recorded);
  }
  return out;
}

}  // namespace

int cmd_stacks(const StacksArgs& args) {
  const auto run = latest_run(args, args.name);
  if (!run) return fail_run(run.error());
  if (run->state != RunState::running)
    return fail({.code = Errc::unavailable,
                 .message = fmt::format("{} does not run any more", run->info.name),
                 .hint = "rigwise ledger " + run->info.name + " says where its time went"});
  std::string here(256, '\0');
  if (gethostname(here.data(), here.size() - 1) != 0) here.clear();
  here.resize(std::min(here.find('\0'), here.size()));
  if (run->info.host != here)
    return fail(
        {.code = Errc::unavailable,
         .message = fmt::format("{} runs on {}, this is {}", run->info.name, run->info.host, here),
         .hint = "look from there"});
  auto processes = processes_of(*run);
  if (!processes) return fail(processes.error());
  if (processes->empty())
    return fail({.code = Errc::unavailable,
                 .message = fmt::format("no process of {} is on record yet", run->info.name),
                 .hint = "it just started: try again in a second"});
  std::vector<Process> looks;
  std::vector<ProcessLook> seen;
  for (const ProcSample& row : *processes) seen.push_back(look_at(row, {}));
  const auto hang = open_hang(*run);
  if (hang) add_gone(*hang, seen);
  const HangVerdict verdict =
      judge_hang(seen, {.ranks_elsewhere = run->info.ranks_asked.value_or(0) > count_ranks(seen)});
  const int ranks = count_ranks(seen);
  for (ProcessLook& look : seen) looks.push_back({.look = std::move(look), .recorded = {}});
  const auto is_unread = [](const Process& one) { return one.look.read == "unavailable"; };
  if (std::any_of(looks.begin(), looks.end(), is_unread)) add_recorded(*run, looks);
  const bool some = std::any_of(looks.begin(), looks.end(), [&](const Process& one) {
    return !is_unread(one) && one.look.read != "torn";
  });
  const double t_s = monotonic_s() - run->info.start_monotonic_s;
  int printed = kOk;
  if (args.json) {
    Json document;
    document["schema"] = 1;
    document["run"] = run->info.id;
    document["host"] = run->info.host;
    document["hang"] = hang ? Json(hang->number) : Json(nullptr);
    if (hang) document["no_progress_s"] = json_number(t_s - hang->t_s);
    document["verdict"] = verdict_json(verdict);
    document["processes"] = Json::array();
    for (const Process& process : looks) document["processes"].push_back(json_of(process));
    printed = print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    const std::string answer = answer_of(verdict, hang, t_s, ranks);
    std::string text;
    for (const Process& process : looks) text += (text.empty() ? "" : "\n") + text_of(process);
    printed = print(answer + text);
  }
  return printed != kOk ? printed : some ? kOk : kPartial;
}

}  // namespace rigwise::cli
