#include "record/identity.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/files.h"
#include "base/text.h"

namespace rigwise {

namespace {
std::string first_line(const char* path) {
  auto text = read_file(path, 4096);
  return text ? std::string(trim(*text)) : std::string();
}
}  // namespace

std::string host_name() {
  std::array<char, 256> raw = {};
  ::gethostname(raw.data(), raw.size() - 1);
  std::string name;
  for (const char c : std::string_view(raw.data())) {
    const bool good = is_letter(c) || is_digit(c) || c == '-' || (c == '.' && !name.empty());
    name += good ? c : '-';
  }
  return name.empty() ? "localhost" : name.substr(0, 100);
}

std::string working_directory() {
  std::error_code error;
  const auto path = std::filesystem::current_path(error);
  return error ? std::string() : path.string();
}

RunInfo identity_of(const Launch& launch, const RecordOptions& options, const Secrets& secrets) {
  RunInfo info;
  info.name = launch.name;
  info.command = secrets.mask_argv(launch.argv);
  info.cwd = secrets.mask(working_directory());
  info.host = host_name();
  info.start_unix_s = launch.start_unix_s;
  info.start_monotonic_s = launch.start_monotonic_s;
  info.boot_id = first_line("/proc/sys/kernel/random/boot_id");
  info.version = RIGWISE_VERSION;
  info.interval_s = options.interval_s;
  info.on_terminal = launch.out.terminal;
  if (options.statement) info.statement = secrets.mask(*options.statement);
  return info;
}

Ending ending_of(int wait_status, int exec_error, double wall_s) {
  Ending ending;
  ending.wall_s = wall_s;
  if (exec_error != 0) {
    ending.exit_status = exec_error == ENOENT ? 127 : 126;
    ending.reason = exec_error == ENOENT ? "not found" : "not executable";
  } else if (WIFSIGNALED(wait_status)) {
    ending.signal = WTERMSIG(wait_status);
    const char* name = ::sigabbrev_np(*ending.signal);
    ending.reason =
        "signal " + (name != nullptr ? "SIG" + std::string(name) : std::to_string(*ending.signal));
  } else {
    ending.exit_status = WEXITSTATUS(wait_status);
    ending.reason = "exited";
  }
  return ending;
}

}  // namespace rigwise
