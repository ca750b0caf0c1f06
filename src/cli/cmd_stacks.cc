// stacks: where every process of a live run is now, in Python frames, without stopping any.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "rigwise/run.h"
#include "rigwise/stacks.h"

namespace rigwise::cli {
namespace {

using namespace std::chrono_literals;

constexpr int kTries = 20;  // a process may move, or start, while it is read
constexpr auto kBetweenTries = 5ms;

struct Place {  // one frame
  std::string file, function;
  int line = 0;  // 0: not known
};

struct Recorded {  // the last span that the recorder wrote
  double t_end_s = 0;
  std::string work, frames;  // frames: outermost first, joined by ';'
};

struct Process {
  ProcSample row;
  std::string version;
  std::string read;           // "whole", "no_frame", "torn", "gone", "unavailable"
  std::string why, hint;      // of "unavailable"
  std::vector<Place> frames;  // innermost first
  std::optional<Recorded> recorded;
};

// The latest row of each process that the recorder last saw, ranks first.
Result<std::vector<Process>> processes_of(const Run& run) {
  std::map<int, ProcSample> latest;
  double last_s = 0;
  RW_CHECK(visit_proc(run, run.info.host,
                      {"t_s", "pid", "ppid", "role", "rank", "comm", "main_state"},
                      [&](const ProcSample& row, std::int64_t) {
                        last_s = std::max(last_s, row.t_s);
                        latest[row.pid] = row;
                        return true;
                      }));
  std::vector<Process> out;
  for (auto& [pid, row] : latest)
    if (row.t_s >= last_s - 2 * run.info.interval_s && row.role != "other")
      out.push_back({.row = std::move(row)});
  const auto order = [](const Process& one) {
    const int kind = one.row.role == "rank" ? 0 : one.row.role == "loader" ? 1 : 2;
    return std::tuple(kind, one.row.rank.value_or(-1), one.row.pid);
  };
  std::sort(out.begin(), out.end(),
            [&order](const Process& a, const Process& b) { return order(a) < order(b); });
  return out;
}

// The state letter of its main thread now, or nothing where another program has its pid by now.
std::string state_now(const ProcSample& row) {
  const auto stat = read_file(fmt::format("/proc/{}/stat", row.pid), 4096);
  if (!stat) return "";
  const std::size_t open = stat->find('('), close = stat->rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 2 >= stat->size())
    return "";
  return stat->substr(open + 1, close - open - 1) == row.comm ? stat->substr(close + 2, 1) : "";
}

void look(Process& process) {
  const std::string state = state_now(process.row);
  if (state.empty()) {
    process.read = "gone";
    return;
  }
  process.row.main_state = state;
  auto python = PythonProcess::attach(process.row.pid);
  if (!python) {
    const bool gone = python.error().code == Errc::not_found;
    process.read = gone ? "gone" : "unavailable";
    if (!gone) {
      process.why = python.error().message;
      process.hint = python.error().hint;
    }
    return;
  }
  process.version = python->version();
  std::vector<PythonFrame> frames;
  StackRead read = StackRead::torn;
  for (int i = 0; i < kTries; ++i) {
    read = python->sample(frames);
    if (read == StackRead::whole || read == StackRead::gone) break;
    std::this_thread::sleep_for(kBetweenTries);
  }
  switch (read) {
    case StackRead::whole:
      process.read = "whole";
      break;
    case StackRead::no_frame:
      process.read = "no_frame";
      break;
    case StackRead::torn:
      process.read = "torn";
      break;
    case StackRead::gone:
      process.read = "gone";
      break;
  }
  for (const PythonFrame& frame : frames)
    process.frames.push_back({.file = clean_text(frame.code->file),
                              .function = clean_text(frame.code->function),
                              .line = python->line_of(frame)});
}

// What the recorder, who may read where a stranger may not, saw last.
void add_recorded(const Run& run, std::vector<Process>& processes) {
  const auto spans = read_stacks(run, run.info.host);
  const auto stacks = read_stack_frames(run, run.info.host);
  if (!spans || !stacks) return;
  for (Process& process : processes) {
    if (process.read != "unavailable") continue;
    for (auto span = spans->rows.rbegin(); span != spans->rows.rend(); ++span) {
      if (span->pid != process.row.pid) continue;
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

std::string title_of(const Process& process) {
  std::string who = process.row.role;
  if (process.row.rank)
    who = process.row.role == "rank" ? fmt::format("rank {}", *process.row.rank)
                                     : fmt::format("{} of rank {}", who, *process.row.rank);
  std::string out =
      fmt::format("{}: pid {} ({})", who, process.row.pid, clean_text(process.row.comm));
  if (process.read != "gone") out += fmt::format(", {}", state_word(process.row.main_state));
  if (!process.version.empty()) out += ", CPython " + process.version;
  return out;
}

std::string text_of(const Process& process) {
  std::string out = title_of(process) + '\n';
  if (process.read == "gone") return out + "  it has ended\n";
  if (process.read == "no_frame")
    return out + "  no Python code: it starts up, or comes to its end\n";
  if (process.read == "torn")
    return out +
           fmt::format("  it moved each of {} times that it was looked at; try again\n", kTries);
  if (process.read == "unavailable") {
    out += fmt::format("  not read: {}\n", process.why);
    if (!process.hint.empty()) out += fmt::format("    {}\n", process.hint);
  }
  if (process.recorded) {
    out += fmt::format("  recorded last, {:.0f} s into the run: {}\n", process.recorded->t_end_s,
                       process.recorded->work);
    const auto frames = split(process.recorded->frames, ';');
    for (auto it = frames.rbegin(); it != frames.rend(); ++it)
      if (!it->empty()) out += fmt::format("    {}\n", *it);
  }
  std::size_t width = 0;
  std::vector<std::string> places;
  for (const Place& place : process.frames) {
    places.emplace_back(short_file(place.file));
    if (place.line > 0) places.back() += fmt::format(":{}", place.line);
    width = std::max(width, std::min<std::size_t>(places.back().size(), 60));
  }
  for (std::size_t i = 0; i < places.size(); ++i)
    out += fmt::format("  {:<{}}  {}\n", places[i], width, process.frames[i].function);
  return out;
}

Json json_of(const Process& process) {
  Json out;
  out["pid"] = process.row.pid;
  out["role"] = process.row.role;
  put(out, "rank", process.row.rank);
  out["comm"] = clean_text(process.row.comm);
  if (process.read != "gone") out["state"] = process.row.main_state;
  if (!process.version.empty()) out["python"] = process.version;
  out["read"] = process.read;
  if (!process.why.empty()) out["why"] = process.why;
  out["frames"] = Json::array();
  for (const Place& place : process.frames) {
    Json frame;
    frame["file"] = place.file;
    if (place.line > 0) frame["line"] = place.line;
    frame["function"] = place.function;
    out["frames"].push_back(std::move(frame));
  }
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
  for (Process& process : *processes) look(process);
  if (std::any_of(processes->begin(), processes->end(),
                  [](const Process& one) { return one.read == "unavailable"; }))
    add_recorded(*run, *processes);
  const bool some = std::any_of(processes->begin(), processes->end(), [](const Process& one) {
    return one.read != "unavailable" && one.read != "torn";
  });
  int printed = kOk;
  if (args.json) {
    Json document;
    document["schema"] = 1;
    document["run"] = run->info.id;
    document["host"] = run->info.host;
    document["processes"] = Json::array();
    for (const Process& process : *processes) document["processes"].push_back(json_of(process));
    printed = print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    std::string text;
    for (const Process& process : *processes) text += (text.empty() ? "" : "\n") + text_of(process);
    printed = print(text);
  }
  return printed != kOk ? printed : some ? kOk : kPartial;
}

}  // namespace rigwise::cli
