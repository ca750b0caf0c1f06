// The CPython interpreters of this machine, and scripts that run in one beside a test.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/subprocess.h"

namespace rigwise {

namespace fs = std::filesystem;

struct Interpreter {
  std::string path, kind;  // kind: "static" or "shared", for the test's name
};

// Every CPython under the usual places by its minor version; one of a minor version and kind.
inline const std::map<int, std::vector<Interpreter>>& interpreters() {
  static const auto all = [] {
    std::vector<fs::path> places;
    if (const char* path = std::getenv("PATH")) {
      std::string rest = path;
      for (std::size_t at; !rest.empty(); rest = at == std::string::npos ? "" : rest.substr(at + 1))
        places.emplace_back(rest.substr(0, at = rest.find(':')));
    }
    const auto add_versions = [&places](const fs::path& folder) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(folder, error))
        places.push_back(entry.path() / "bin");
    };
    places.insert(places.end(), {"/usr/bin", "/usr/local/bin", "/opt/conda/bin"});
    if (const char* home = std::getenv("HOME")) {
      add_versions(fs::path(home) / ".pyenv/versions");
      add_versions(fs::path(home) / ".local/share/uv/python");
    }
    std::map<int, std::vector<Interpreter>> found;
    std::set<std::string> seen;
    for (const fs::path& place : places) {
      for (const char* name : {"python3", "python3.9", "python3.10", "python3.11", "python3.12",
                               "python3.13", "python3.14"}) {
        std::error_code error;
        const fs::path real = fs::canonical(place / name, error);
        if (error || !seen.insert(real).second) continue;
        const auto said = run_process({real, "-ISc",
                                       "import sys, sysconfig as s; v = s.get_config_var; "
                                       "print(sys.version_info[1], 'shared' if "
                                       "v('Py_ENABLE_SHARED') else 'static', sys.executable, "
                                       "end='') if sys.implementation.name == 'cpython' and "
                                       "not v('Py_GIL_DISABLED') else sys.exit(1)"},
                                      {.limit = std::chrono::seconds(20)});
        if (!said || said->exit_status != 0) continue;
        // "11 shared /usr/bin/python3.11": what stands on the path may be a script that starts it
        const int minor = std::atoi(said->out.c_str());
        const std::size_t at = said->out.find(' ');
        if (at == std::string::npos || said->out.size() < at + 9) continue;
        const std::string kind = said->out.substr(at + 1, 6), program = said->out.substr(at + 8);
        auto& same = found[minor];
        if (std::none_of(same.begin(), same.end(),
                         [&kind](const Interpreter& one) { return one.kind == kind; }))
          same.push_back({.path = program, .kind = kind});
      }
    }
    return found;
  }();
  return all;
}

// A Python program that runs beside the test until the test ends it. Named "-c" it has no file.
class Script {
 public:
  Script(const std::string& python, const std::string& text, const std::string& name = "script.py")
      : folder_(fs::temp_directory_path() /
                ("rigwise_python_" + std::to_string(getpid()) + "_" + std::to_string(++count_))) {
    fs::create_directories(folder_);
    path_ = folder_ / name;
    std::ofstream(path_) << text;
    std::array<int, 2> pipe_fds{};
    if (pipe(pipe_fds.data()) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(pipe_fds[1], 1);
      close(pipe_fds[0]);
      if (name == "-c") execl(python.c_str(), python.c_str(), "-c", text.c_str(), nullptr);
      execl(python.c_str(), python.c_str(), path_.c_str(), nullptr);
      _exit(127);
    }
    close(pipe_fds[1]);
    out_ = pipe_fds[0];
  }
  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;
  ~Script() {
    end();
    close(out_);
    std::error_code error;
    fs::remove_all(folder_, error);
  }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  // The next line that it prints.
  std::string line() {
    std::string out;
    for (char c = 0;;) {
      pollfd ask{.fd = out_, .events = POLLIN, .revents = 0};
      if (poll(&ask, 1, 30000) <= 0 || read(out_, &c, 1) != 1 || c == '\n') return out;
      out += c;
    }
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::string path() const { return path_; }

 private:
  static inline int count_ = 0;
  fs::path folder_, path_;
  pid_t pid_ = -1;
  int out_ = -1;
};

}  // namespace rigwise
