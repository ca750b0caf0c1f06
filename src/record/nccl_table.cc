#include "record/nccl_table.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <vector>

#include "base/clock.h"
#include "base/text.h"
#include "record/process.h"
#include "rigwise/nccl.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

namespace fs = std::filesystem;

constexpr rlim_t kMostMemory = rlim_t{1} << 30;
constexpr std::size_t kMostFiles = 64;
constexpr int kUnread = 3;  // exit status: some files told nothing

NcclSeconds row_of(const NcclRank& file, const NcclRankSeconds& seconds, double start_s) {
  NcclSeconds row;
  row.t_s = file.windows.front().start_s - start_s;
  row.t_end_s = file.windows.back().end_s - start_s;
  row.host = file.host;
  row.pid = file.pid;
  row.rank = seconds.rank;
  row.observed_s = seconds.observed_s;
  row.communication_s = seconds.communication_s;
  row.waiting_s = seconds.waiting_s;
  row.late_s = seconds.late_s;
  row.matched = seconds.matched;
  row.last = seconds.last;
  return row;
}

int read_all(RunWriter& writer, const std::vector<fs::path>& paths) {
  std::vector<NcclRank> files;
  bool unread = false;
  for (const fs::path& path : paths) {
    auto file = read_nccl(path);
    if (file && !file->windows.empty()) {
      files.push_back(std::move(*file));
    } else {
      unread = true;
    }
  }
  for (const NcclRankSeconds& seconds : summarise_nccl(files).ranks) {
    if (seconds.file >= files.size()) continue;
    const NcclRank& file = files[seconds.file];
    NcclSeconds row = row_of(file, seconds, writer.info().start_monotonic_s);
    row.file = fs::relative(file.file, writer.dir()).string();
    writer.append(row);
  }
  return unread ? kUnread : 0;
}

}  // namespace

std::string write_nccl_table(RunWriter& writer, double limit_s) {
  std::vector<fs::path> paths = nccl_files(writer.dir());
  if (paths.empty()) return {};
  const bool many = paths.size() > kMostFiles;
  if (many) paths.resize(kMostFiles);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return "what NCCL did: no process could be started to read it";
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    set_process_title("rigwise: nccl");
    ::setpriority(PRIO_PROCESS, 0, 19);
    const rlimit memory = {kMostMemory, kMostMemory};
    ::setrlimit(RLIMIT_AS, &memory);
    try {
      ::_exit(read_all(writer, paths));
    } catch (...) {
      ::_exit(1);
    }
  }
  const double deadline_s = monotonic_s() + limit_s;
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(child, &status, WNOHANG)) == 0 && monotonic_s() < deadline_s) {
    const timespec pause = {0, 5'000'000};
    ::nanosleep(&pause, nullptr);
  }
  if (ended == 0) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return "what NCCL did was not read within " + format_duration(limit_s);
  }
  if (ended < 0 || !WIFEXITED(status) || WEXITSTATUS(status) == 1)
    return "what NCCL did could not be read";
  if (WEXITSTATUS(status) == kUnread) return "not all files of the NCCL plug-in could be read";
  if (many) return "more processes than 64 used NCCL: the others' files were not read";
  return {};
}

}  // namespace rigwise
