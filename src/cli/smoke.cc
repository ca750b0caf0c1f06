#include "cli/smoke.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <map>
#include <thread>

#include "base/clock.h"
#include "base/files.h"
#include "base/secrets.h"
#include "base/text.h"
#include "cli/engine.h"
#include "cli/failed_run.h"
#include "host/proc_text.h"
#include "record/launch.h"
#include "rigwise/run.h"

extern char** environ;

namespace rigwise::cli {

namespace fs = std::filesystem;

namespace {

constexpr double kGrace_s = 20;
constexpr std::string_view kName = "smoke";

void nap() {
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
}

/// Starts `rigwise run` in a group of its own, its output in its log alone.
Result<pid_t> start(std::vector<std::string> words) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int stream : {0, 1, 2})
    posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_RDWR, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int failed =
      ::posix_spawn(&pid, words[0].c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) return Error{Errc::io, "cannot start: " + errno_text(failed)};
  return pid;
}

/// A process, told from a later one of the same number by when it started.
struct Member {
  pid_t pid = 0, parent = 0;
  std::uint64_t start_ticks = 0;
};

std::optional<Member> member_of(pid_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  const auto stat = text ? parse_pid_stat(*text, 100) : std::nullopt;
  return stat ? std::optional(Member{pid, stat->ppid, stat->start_ticks}) : std::nullopt;
}

/// This process, its children, theirs and so on, deepest last.
std::vector<Member> tree_of(pid_t top) {
  std::map<pid_t, std::vector<Member>> children;
  std::error_code error;
  std::vector<Member> tree;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const auto pid = to_integer(entry.path().filename().string());
    const auto member = pid ? member_of(static_cast<pid_t>(*pid)) : std::nullopt;
    if (!member) continue;
    children[member->parent].push_back(*member);
    if (member->pid == top) tree.push_back(*member);
  }
  for (std::size_t i = 0; i < tree.size() && tree.size() < 4096; ++i) {
    for (const Member& child : children[tree[i].pid]) tree.push_back(child);
  }
  return tree;
}

volatile std::sig_atomic_t interrupted = 0;

/// While it lives, a signal that would end us is remembered, so that the test is ended first.
class Patience {
 public:
  Patience() {
    interrupted = 0;
    struct sigaction action = {};
    action.sa_handler = [](int signal) { interrupted = signal; };
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &action, &before_[i]);
  }
  ~Patience() {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &before_[i], nullptr);
    if (interrupted != 0) ::raise(interrupted);
  }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

 private:
  static constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, 3> before_ = {};
};

struct Progress {
  std::optional<int> steps;
  std::optional<double> loss;
};

/// Steps made, by the numbers that the log states, else its entries.
Progress progress_of(const Run& run, int asked) {
  Progress out;
  const auto table = read_steps(run);
  if (!table) return out;
  std::int64_t entries = 0;
  std::vector<std::int64_t> stated;
  for (const StepRecord& row : table->rows) {
    if (row.kind != RecordKind::train && row.kind != RecordKind::progress) continue;
    if (row.kind == RecordKind::train) ++entries;
    for (const auto& step : {row.step, row.bar_step}) {
      if (step) stated.push_back(*step);
    }
    if (row.loss) out.loss = row.loss;
  }
  const std::int64_t made = steps_made(std::move(stated), asked);
  const std::int64_t steps = made > 0 ? made : entries;
  if (steps > 0) out.steps = static_cast<int>(std::min<std::int64_t>(steps, 1 << 30));
  return out;
}

/// The run that this test made: the newest of its name that started since. Once found, only its
/// own folder is opened again.
class OwnRun {
 public:
  OwnRun(fs::path runs, double since_unix_s) : runs_(std::move(runs)), since_(since_unix_s) {}

  std::optional<Run> look() {
    if (!dir_.empty()) {
      auto run = open_run(dir_);
      return run ? std::optional<Run>(std::move(*run)) : std::nullopt;
    }
    auto found = find_runs(runs_, std::string(kName));
    if (!found || found->empty() || found->back().info.start_unix_s < since_ - 1)
      return std::nullopt;
    dir_ = found->back().dir;
    return std::move(found->back());
  }

 private:
  fs::path runs_, dir_;
  double since_;
};

/// Asks the front to end, then ends what is left.
int end(pid_t front) {
  int status = 0;
  std::vector<Member> tree = tree_of(front);
  ::kill(front, SIGTERM);
  const double deadline = monotonic_s() + kGrace_s;
  while (monotonic_s() < deadline) {
    if (::waitpid(front, &status, WNOHANG) != 0) return status;
    nap();
  }
  for (const Member& member : tree_of(front)) tree.push_back(member);
  // from the command up: the keeper still closes the run's log
  std::reverse(tree.begin(), tree.end());
  for (const Member& member : tree) {
    // those listed before its grace may have ended, and their numbers be somebody else's
    const auto now = member_of(member.pid);
    if (member.pid != front && now && now->start_ticks == member.start_ticks)
      ::kill(member.pid, SIGKILL);
  }
  const double last = monotonic_s() + 5;
  while (monotonic_s() < last) {
    if (::waitpid(front, &status, WNOHANG) != 0) return status;
    nap();
  }
  ::kill(front, SIGKILL);
  ::waitpid(front, &status, 0);
  return status;
}

void conclude(const fs::path& runs, OwnRun& own, bool by_itself, SmokeResult& result) {
  const auto run = own.look();
  if (!run) {
    result.trouble = "no run was recorded in " + clean_text(runs.string(), 300);
    return;
  }
  result.run = run->info.id;
  result.dir = run->dir.string();
  result.wall_s = run->wall_s;
  result.ranks_asked = run->info.ranks_asked;
  result.ranks_trained = run->info.ranks_trained;
  const Progress progress = progress_of(*run, result.steps_asked);
  result.steps_seen = progress.steps;
  result.last_loss = progress.loss;
  if (!by_itself) return;
  if (run->info.ending) {
    result.exit_status = run->info.ending->exit_status;
    if (run->info.ending->signal) result.exit_status = 128 + *run->info.ending->signal;
  }
  if (result.exit_status.value_or(0) == 0) return;
  constexpr std::uint64_t kMostBytes = 16 << 20;
  const auto failure = failure_of_run(*run, Signatures::built_in(), kMostBytes);
  if (failure && failure->first_meaningful)
    result.trouble = mask_secrets(clean_text(trim(failure->first_meaningful->text), 400));
}

}  // namespace

Result<std::vector<std::string>> command_words(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  bool open = false, shell = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == '\'') {
      if (c == '\'')
        quote = 0;
      else
        word += c;
    } else if (c == '\\' && i + 1 < text.size()) {
      const char next = text[++i];
      // within double quotes a backslash stands for itself before an ordinary character
      if (quote == '"' && std::string_view("\\\"$`").find(next) == std::string_view::npos)
        word += c;
      word += next;
      open = true;
    } else if (c == '$' || c == '`') {
      shell = true;
      break;
    } else if (quote == '"') {
      if (c == '"')
        quote = 0;
      else
        word += c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      open = true;
    } else if (std::string_view("|&;<>()*?[#~\n").find(c) != std::string_view::npos) {
      shell = true;
      break;
    } else if (c == ' ' || c == '\t') {
      if (open) words.push_back(std::exchange(word, {}));
      open = false;
    } else {
      word += c;
      open = true;
    }
  }
  if (!shell && quote != 0)
    return Error{Errc::usage, "the command has an open quote: " + clean_text(text, 200), ""};
  if (open) words.push_back(word);
  // NAME=value in front is the shell's as well
  if (!words.empty() && words[0].find('=') != std::string::npos) shell = true;
  if (shell) return std::vector<std::string>{"sh", "-c", text};
  if (words.empty()) return Error{Errc::usage, "an empty command", "--smoke \"python train.py\""};
  return words;
}

std::string program_of(const std::vector<std::string>& command) {
  return command.empty() ? std::string() : name_of_command(command);
}

SmokeResult smoke_test(const fs::path& runs, const std::vector<std::string>& command, int steps,
                       double limit_s) {
  SmokeResult result;
  result.command = command;
  result.program = program_of(command);
  std::error_code error;
  result.cwd = fs::current_path(error).string();
  result.steps_asked = steps;
  std::vector<std::string> words = {
      own_program().string(), "run",     "--name", std::string(kName), "--runs",
      runs.string(),          "--quiet", "--"};
  words.insert(words.end(), command.begin(), command.end());
  const Patience patience;
  const double since = unix_s(), deadline = monotonic_s() + limit_s;
  const auto front = start(std::move(words));
  result.unix_s = since;
  if (!front) {
    result.trouble = front.error().message;
    return result;
  }
  OwnRun own(runs, since);
  bool by_itself = false;
  int status = 0;
  for (;;) {
    nap();
    if (::waitpid(*front, &status, WNOHANG) != 0) {
      by_itself = true;
      break;
    }
    const auto run = own.look();
    if (run && progress_of(*run, steps).steps.value_or(0) >= steps) break;
    if (monotonic_s() < deadline && interrupted == 0) continue;
    result.late = true;
    break;
  }
  if (!by_itself) status = end(*front);
  conclude(runs, own, by_itself, result);
  if (by_itself && !result.exit_status && WIFEXITED(status))
    result.exit_status = WEXITSTATUS(status);
  result.unix_s = unix_s();
  return result;
}

}  // namespace rigwise::cli
