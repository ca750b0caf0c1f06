#include "record/hang_verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <tuple>

#include "base/text.h"
#include "record/hang_watch.h"

namespace rigwise {

namespace {

/// Kinds of place, the heaviest suspect first; what comes from `others` on is no suspect.
enum class Kind {
  stopped,
  ended,
  disk,
  terminal,
  input,
  checkpoint,
  lock,
  elsewhere,
  others,   // waits for other ranks
  unknown,  // could not be looked into
};

struct Place {
  Kind kind = Kind::unknown;
  std::string call = {};   // "all_reduce", "DataLoader.__next__", "Dataset.__getitem__"
  std::string where = {};  // "train.py:41": the user's own line that leads there
  std::string on = {};     // the file or peer that it waits for
  bool on_gpu = false;     // for what is queued on its GPU: the line that handed it over is past
};

bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool is_user_code(std::string_view file) {
  return !file.empty() && file.front() != '<' && !holds(file, "/site-packages/") &&
         !holds(file, "/dist-packages/") && !holds(file, "/lib/python3") &&
         !holds(file, "/lib64/python3");
}

std::string short_function(std::string_view function) {
  for (const std::string_view noise :
       {"<locals>.", "_BaseDataLoaderIter.", "_SingleProcessDataLoaderIter.",
        "_MultiProcessingDataLoaderIter."}) {
    if (const auto at = function.rfind(noise); at != std::string_view::npos)
      function.remove_prefix(at + noise.size());
  }
  return std::string(function);
}

std::string line_of(const LookFrame& frame) {
  std::string name = std::filesystem::path(frame.file).filename().string();
  if (frame.line > 0) name += ":" + std::to_string(frame.line);
  return name;
}

const LookFrame* innermost(const ProcessLook& process, const auto& wanted) {
  for (const LookFrame& frame : process.frames)
    if (wanted(frame)) return &frame;
  return nullptr;
}
const LookFrame* outermost(const ProcessLook& process, const auto& wanted) {
  const LookFrame* found = nullptr;
  for (const LookFrame& frame : process.frames)
    if (wanted(frame)) found = &frame;
  return found;
}
const LookFrame* user_frame(const ProcessLook& process) {
  return innermost(process, [](const LookFrame& frame) { return is_user_code(frame.file); });
}

bool in_file(const LookFrame& frame, std::string_view end) {
  return frame.file.ends_with(end);
}

/// The public function of torch.distributed (or accelerate) that the rank waits in.
std::string collective_of(const ProcessLook& process) {
  const auto* frame = outermost(process, [](const LookFrame& each) {
    return holds(each.file, "torch/distributed/") && !in_file(each, "c10d_logger.py") &&
           !holds(each.file, "/elastic/") && !in_file(each, "distributed/run.py");
  });
  if (frame == nullptr) {
    frame = innermost(process, [](const LookFrame& each) {
      return in_file(each, "nn/parallel/distributed.py") || holds(each.file, "accelerate/");
    });
  }
  return frame == nullptr ? "a collective" : short_function(frame->function);
}

/// The rank waits for its data: by which name of the loader.
std::string loader_of(const ProcessLook& process) {
  const auto* torch = outermost(process, [](const LookFrame& frame) {
    return in_file(frame, "torch/utils/data/dataloader.py");
  });
  if (torch != nullptr) {
    std::string name = short_function(torch->function);
    return holds(name, ".") ? name : "DataLoader." + name;
  }
  const auto* frame = user_frame(process);
  return frame == nullptr ? "its data loader" : short_function(frame->function);
}

/// A debugger or a shell is in what the user's own line called: a program that was started from one
/// (`python -m pdb`, ipython) has it on the outside.
bool in_debugger(const ProcessLook& process) {
  for (const LookFrame& frame : process.frames) {
    if (is_user_code(frame.file)) return false;
    if (in_file(frame, "/pdb.py") || in_file(frame, "/cmd.py") || in_file(frame, "/code.py") ||
        holds(frame.file, "/ipdb/") || holds(frame.file, "/IPython/terminal/"))
      return true;
  }
  return false;
}

bool asks_somebody(const ProcessLook& process) {
  if (process.state != "R" && in_debugger(process)) return true;
  const bool reads = process.syscall == "read" || process.syscall == "select";
  // a pipe or a file on its input is no terminal
  const bool terminal = process.waits_on.empty() || process.waits_on.starts_with("/dev/");
  return reads && process.waits_fd == 0 && terminal;
}

bool is_lock(const ProcessLook& process) {
  if (process.syscall != "futex" && !process.wchan.starts_with("futex")) return false;
  return process.state == "S";
}

/// Hands a GPU its work, and spins since the queue is full: what it waits for is on the device, a
/// collective as a rule. Its own line says nothing then.
bool feeds_full_queue(const ProcessLook& process) {
  return process.spins_on_gpu ||
         (process.holds_gpu && process.state == "R" && is_device_work(process.work));
}

/// A loader's worker by itself: a forked one carries the frames of the rank that made it below its
/// own, and everything that it does is the making of batches.
ProcessLook as_worker(const ProcessLook& loader) {
  ProcessLook own = loader;
  const auto begin = std::find_if(own.frames.begin(), own.frames.end(), [](const LookFrame& frame) {
    return in_file(frame, "torch/utils/data/_utils/worker.py");
  });
  own.frames.erase(begin, own.frames.end());
  own.work.clear();
  return own;
}

Place place_of(const ProcessLook& process) {
  Place place;
  const auto* user = user_frame(process);
  if (user != nullptr) place.where = line_of(*user);
  if (!process.frames.empty())
    place.call = short_function((user != nullptr ? *user : process.frames.front()).function);
  place.on = process.waits_on;
  if (process.read == "gone" || process.state.empty() || process.state == "Z") {
    place.kind = Kind::ended;
  } else if (process.state == "T" || process.state == "t") {
    place.kind = Kind::stopped;
  } else if (process.state == "D") {
    place.kind = Kind::disk;
  } else if (asks_somebody(process)) {
    place.kind = Kind::terminal;
  } else if (process.work == "sync" || process.work == "rendezvous") {
    place.kind = Kind::others;
    place.call = collective_of(process);
  } else if (process.work == "backward" && process.state == "S") {
    place.kind = Kind::others;  // reduces gradients: C++, without a frame
    place.call = "backward";
  } else if (process.work == "device") {
    place.kind = Kind::others;  // a device that runs a collective, as far as can be told
    place.call =
        process.frames.empty() ? "the device" : short_function(process.frames.front().function);
    place.on_gpu = process.holds_gpu;
  } else if (feeds_full_queue(process)) {
    place.kind = Kind::others;
    place.call = "the GPU's queue";
    place.where.clear();  // full wherever it happened to be
    place.on_gpu = true;
  } else if (process.work == "input") {
    place.kind = Kind::input;
    place.call = loader_of(process);
  } else if (process.work == "checkpoint") {
    place.kind = Kind::checkpoint;
  } else if (process.frames.empty()) {
    place.kind =
        process.read == "whole" || process.read == "no_frame" ? Kind::elsewhere : Kind::unknown;
  } else {
    place.kind = is_lock(process) ? Kind::lock : Kind::elsewhere;
  }
  return place;
}

/// "sits in X on Y (train.py:41)"; `many`: of several ranks.
std::string words_of(const Place& place, const ProcessLook& process, bool many) {
  const std::string sits = many ? "sit" : "sits", waits = many ? "wait" : "waits";
  const std::string at = place.where.empty() ? "" : " (" + place.where + ")";
  const std::string call = place.call.empty() ? "code without a name" : place.call;
  const bool file = place.on.starts_with("/") || place.on.starts_with("TCP ");
  const std::string on = file ? " on " + place.on : std::string();
  switch (place.kind) {
    case Kind::stopped:
      return fmt::format("{} stopped (state {}) in {}{}", many ? "are" : "is", process.state, call,
                         at);
    case Kind::ended:
      return many ? "have ended" : "has ended";
    case Kind::disk:
      return fmt::format("{} for a disk or device{}{} in {}{}", waits,
                         process.wchan.empty() ? "" : " (" + process.wchan + ")", on, call, at);
    case Kind::terminal:
      return fmt::format("{} for an answer at the terminal in {}{}", waits, call, at);
    case Kind::input:
      return fmt::format("{} in {}{}{}", sits, call, on, at);
    case Kind::checkpoint:
      return fmt::format("{} in {}, saving{}{}", sits, call, on, at);
    case Kind::lock:
      return fmt::format("{} for a lock or another thread in {}{}", waits, call, at);
    case Kind::elsewhere:
      if (process.frames.empty()) break;
      return fmt::format("{} in {}{}{}", sits, call, on, at);
    case Kind::others:
      return fmt::format("{} in {}{}", waits, call, at);
    case Kind::unknown:
      break;
  }
  if (process.read == "no_frame") return many ? "run no Python code" : "runs no Python code";
  if (!process.syscall.empty())
    return fmt::format("{} in the kernel's {}{}", waits, process.syscall, on);
  if (!process.wchan.empty()) return fmt::format("{} in the kernel's {}", waits, process.wchan);
  return many ? "cannot be looked into" : "cannot be looked into";
}

struct Seen {
  const ProcessLook* process = nullptr;
  Place place = {};
};

/// "rank 1", "ranks 0 and 2", "ranks 0 to 3"; a rank without a number by its pid.
std::string names_of(const std::vector<const Seen*>& members) {
  std::vector<int> ranks;
  std::vector<std::string> words;
  for (const Seen* member : members) {
    const ProcessLook& process = *member->process;
    if (process.rank && process.role == "rank") {
      ranks.push_back(*process.rank);
    } else {
      words.push_back(
          fmt::format("{} (pid {})", process.comm.empty() ? "process" : process.comm, process.pid));
    }
  }
  std::sort(ranks.begin(), ranks.end());
  if (ranks.size() > 2 && ranks.back() - ranks.front() == static_cast<int>(ranks.size()) - 1) {
    words.insert(words.begin(), fmt::format("ranks {} to {}", ranks.front(), ranks.back()));
  } else if (!ranks.empty()) {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
      text += std::to_string(ranks[i]);
    }
    words.insert(words.begin(), text);
  }
  return join(words, " and ");
}

/// The worker of this rank that does not deliver: not one that waits for work itself.
const ProcessLook* stuck_loader(const ProcessLook& rank, const std::vector<ProcessLook>& all) {
  const ProcessLook* found = nullptr;
  for (const ProcessLook& process : all) {
    if (process.role != "loader" || process.ppid != rank.pid) continue;
    const bool idle = innermost(process,
                                [](const LookFrame& frame) {
                                  return in_file(frame, "multiprocessing/queues.py") &&
                                         frame.function.ends_with("get");
                                }) != nullptr &&
                      process.state == "S";
    if (!idle && (found == nullptr || process.state == "T")) found = &process;
  }
  return found;
}

HangCause cause_of(Kind kind) {
  switch (kind) {
    case Kind::stopped:
      return HangCause::stopped;
    case Kind::ended:
      return HangCause::ended;
    case Kind::disk:
      return HangCause::disk;
    case Kind::terminal:
      return HangCause::terminal;
    case Kind::input:
      return HangCause::input;
    case Kind::checkpoint:
      return HangCause::checkpoint;
    case Kind::lock:
      return HangCause::lock;
    case Kind::elsewhere:
      return HangCause::elsewhere;
    case Kind::others:
    case Kind::unknown:
      break;
  }
  return HangCause::unknown;
}

struct CauseWords {
  HangCause cause;
  std::string_view what;  // behind the rank's name
  std::string_view advice;
};
constexpr std::array kWords = {
    CauseWords{HangCause::stopped, ", stopped",
               "find out who stopped it (a debugger, kill -STOP, a job that was put aside); "
               "kill -CONT {pid} lets it go on"},
    CauseWords{
        HangCause::ended, ", gone",
        "look at that rank's own last lines and at the kernel's log (dmesg): the others were "
        "not told that it is gone"},
    CauseWords{HangCause::disk, "'s disk or device",
               "look at the kernel's log (dmesg) and at the mount or device that it waits for"},
    CauseWords{HangCause::terminal, "'s question at the terminal",
               "take breakpoint() or input() out of the training code"},
    CauseWords{HangCause::input, "'s input",
               "read that file or mount by hand, and give the reader a timeout"},
    CauseWords{
        HangCause::checkpoint, "'s checkpoint",
        "write to that folder by hand: is its disk alive, and does every rank save where all "
        "must"},
    CauseWords{HangCause::lock, "'s lock",
               "start workers with multiprocessing_context='spawn': a lock that is held while a "
               "process forks stays locked in the child"},
    CauseWords{HangCause::elsewhere, "'s own code",
               "look at that line: does every rank come to the same collectives"},
};

const CauseWords& words_of(HangCause cause) {
  const auto* found = std::find_if(kWords.begin(), kWords.end(),
                                   [&](const CauseWords& each) { return each.cause == cause; });
  return found == kWords.end() ? kWords.back() : *found;
}

std::string advice_of(HangCause cause, const ProcessLook& process) {
  std::string advice(words_of(cause).advice);
  if (const auto at = advice.find("{pid}"); at != std::string::npos)
    advice.replace(at, 5, std::to_string(process.pid));
  return advice;
}

using Groups = std::vector<std::vector<const Seen*>>;

/// Those that are at one place together; suspects first.
Groups grouped(const std::vector<Seen>& seen) {
  std::map<std::tuple<int, std::string, std::string, std::string>, std::vector<const Seen*>>
      by_place;
  for (const Seen& each : seen) {
    by_place[{static_cast<int>(each.place.kind), each.place.call, each.place.where, each.place.on}]
        .push_back(&each);
  }
  Groups groups;
  for (auto& [key, members] : by_place) groups.push_back(std::move(members));
  return groups;
}

std::string sentence_of(const Groups& groups) {
  constexpr std::size_t kMostGroups = 6;
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < std::min(groups.size(), kMostGroups); ++i) {
    const Seen& first = *groups[i].front();
    parts.push_back(names_of(groups[i]) + " " +
                    words_of(first.place, *first.process, groups[i].size() > 1));
  }
  if (groups.size() > kMostGroups)
    parts.push_back(counted(static_cast<std::int64_t>(groups.size() - kMostGroups), "more place",
                            "more places"));
  return join(parts, ", ");
}

void name_suspects(const Groups& groups, Kind heaviest, HangVerdict& verdict) {
  std::vector<const Seen*> suspects;
  for (const auto& group : groups) {
    if (group.front()->place.kind == heaviest)
      suspects.insert(suspects.end(), group.begin(), group.end());
  }
  verdict.cause = cause_of(heaviest);
  for (const Seen* each : suspects) {
    if (each->process->role == "rank" && each->process->rank)
      verdict.ranks.push_back(*each->process->rank);
  }
  std::sort(verdict.ranks.begin(), verdict.ranks.end());
  const CauseWords& words = words_of(verdict.cause);
  const bool plural_owner = suspects.size() > 1 && words.what.starts_with("'s");
  verdict.because =
      "the cause is " + names_of(suspects) +
      (plural_owner ? "'" + std::string(words.what.substr(2)) : std::string(words.what));
  verdict.advice = advice_of(verdict.cause, *suspects.front()->process);
}

/// Nobody stands still but those that wait: what can be said is for whom.
void say_at_work(const Groups& groups, Kind heaviest, HangVerdict& verdict) {
  std::vector<const Seen*> busy;
  for (const auto& group : groups) {
    if (group.front()->place.kind == heaviest) busy.insert(busy.end(), group.begin(), group.end());
  }
  verdict.at_work = true;
  verdict.because =
      fmt::format("the others wait for {}, which {} at work: long work, or a loop without end",
                  names_of(busy), busy.size() > 1 ? "are" : "is");
  verdict.advice =
      "look at that line; if the work is meant to take so long, share it among the ranks, or raise "
      "the process group's timeout (init_process_group(timeout=…))";
}

/// Between two ranks: the others are right not to be in it.
bool is_point_to_point(std::string_view call) {
  return holds(call, "send") || holds(call, "recv");
}

/// All wait for each other: do they wait in the same call?
void compare_calls(const std::vector<Seen>& seen, const HangScene& scene, HangVerdict& verdict) {
  const auto differs = [&](const auto& member) {
    return std::any_of(seen.begin(), seen.end(), [&](const Seen& each) {
      return each.place.*member != seen.front().place.*member;
    });
  };
  const bool closed = std::any_of(seen.begin(), seen.end(), [](const Seen& each) {
    return each.process->closed_by_peer.value_or(0) > 0;
  });
  const bool on_gpu =
      std::any_of(seen.begin(), seen.end(), [](const Seen& each) { return each.place.on_gpu; });
  const bool pairs = std::any_of(seen.begin(), seen.end(), [](const Seen& each) {
    return is_point_to_point(each.place.call);
  });
  const bool differ = differs(&Place::call) || differs(&Place::where);
  if (!on_gpu && !pairs && !scene.ranks_elsewhere && differ) {
    verdict.cause = HangCause::mismatch;
    verdict.because = "they are not in the same collective, so none of them can end";
    verdict.advice =
        "make every rank call the same collectives in the same order: look for a branch on the "
        "rank, or for loaders of unequal length";
    return;
  }
  verdict.cause = HangCause::collective;
  verdict.because =
      closed ? "a peer has closed its connection: a rank that is gone, here or on another host"
      : seen.size() > 1 && on_gpu
          ? "whose doing it is, is not shown: they wait for what was handed to their GPUs before"
      : seen.size() > 1 && differ
          ? "whose doing it is, is not shown: each may wait for a rank that is not seen here"
      : seen.size() > 1 ? "whose doing it is, is not shown: all are in the same call"
                        : "it waits for ranks that are not of this host, or were never started";
  verdict.advice =
      seen.size() > 1
          ? "look at the ranks of other hosts (rigwise stacks there), then at the link between them"
          : "look at the other ranks: rigwise stacks on their hosts";
}

}  // namespace

std::string place_in_words(const ProcessLook& process) {
  return words_of(place_of(process), process, false);
}

HangVerdict judge_hang(const std::vector<ProcessLook>& processes, const HangScene& scene) {
  HangVerdict verdict;
  std::vector<Seen> seen;
  const bool any_rank = std::any_of(processes.begin(), processes.end(),
                                    [](const ProcessLook& each) { return each.role == "rank"; });
  for (const ProcessLook& process : processes) {
    if (any_rank ? process.role != "rank" : process.role == "loader") continue;
    // A launcher only waits for what it launched.
    if (!any_rank && process.role == "launcher" && processes.size() > 1) continue;
    seen.push_back({&process, place_of(process)});
  }
  // A rank may come to its end before the others: it is missed only where somebody waits for it.
  const auto is_kind = [](Kind kind) {
    return [kind](const Seen& each) { return each.place.kind == kind; };
  };
  if (std::none_of(seen.begin(), seen.end(), is_kind(Kind::others)) &&
      !std::all_of(seen.begin(), seen.end(), is_kind(Kind::ended)))
    std::erase_if(seen, is_kind(Kind::ended));
  if (seen.empty()) return verdict;
  const Groups groups = grouped(seen);
  verdict.where = sentence_of(groups);
  const Kind heaviest = groups.front().front()->place.kind;  // the map's order
  if (heaviest == Kind::unknown) return verdict;
  if (!any_rank && (heaviest == Kind::elsewhere || heaviest == Kind::lock)) return verdict;
  const bool none_apart = heaviest == Kind::others;
  if (none_apart) {
    if (groups.back().front()->place.kind != Kind::unknown) compare_calls(seen, scene, verdict);
    return verdict;
  }
  name_suspects(groups, heaviest, verdict);
  if (scene.at_work) say_at_work(groups, heaviest, verdict);
  if (heaviest != Kind::input) return verdict;
  for (const Seen& each : seen) {
    if (each.place.kind != Kind::input) continue;
    const ProcessLook* loader = stuck_loader(*each.process, processes);
    if (loader == nullptr) continue;
    const ProcessLook own = as_worker(*loader);
    const Place place = place_of(own);
    verdict.where += fmt::format("; its worker (pid {}) {}", own.pid, words_of(place, own, false));
    if (place.kind == Kind::lock) verdict.advice = advice_of(HangCause::lock, *loader);
    if (place.kind == Kind::stopped) verdict.advice = advice_of(HangCause::stopped, *loader);
    break;
  }
  return verdict;
}

}  // namespace rigwise
