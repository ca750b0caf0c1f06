// Python stacks of real interpreters, of every version that is found here, and of memory that lies.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "base/subprocess.h"
#include "rigwise/stacks.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

struct Interpreter {
  std::string path, kind;  // kind: "static" or "shared", for the test's name
};

// Every CPython under the usual places by its minor version; one of a minor version and kind.
const std::map<int, std::vector<Interpreter>>& interpreters() {
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
        const auto said = run_process({real, "-c",
                                       "import sys, sysconfig as s; v = s.get_config_var; "
                                       "print(sys.version_info[1], 'shared' if "
                                       "v('Py_ENABLE_SHARED') else 'static') if "
                                       "sys.implementation.name == 'cpython' and not "
                                       "v('Py_GIL_DISABLED') else 0"},
                                      {.limit = 20s});
        if (!said || said->exit_status != 0) continue;
        const int minor = std::atoi(said->out.c_str());
        const std::string kind =
            said->out.find("static") != std::string::npos ? "static" : "shared";
        auto& same = found[minor];
        if (std::none_of(same.begin(), same.end(),
                         [&kind](const Interpreter& one) { return one.kind == kind; }))
          same.push_back({.path = real, .kind = kind});
      }
    }
    return found;
  }();
  return all;
}

// A Python program that runs beside the test until the test ends it.
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

// "main:12" a frame, outermost first; names without their class.
std::vector<std::string> words_of(PythonProcess& process, const std::vector<PythonFrame>& frames) {
  std::vector<std::string> out;
  for (auto it = frames.rbegin(); it != frames.rend(); ++it) {
    std::string name = it->code->function;
    if (const std::size_t dot = name.rfind('.'); dot != std::string::npos) name.erase(0, dot + 1);
    out.push_back(name + ":" + std::to_string(process.line_of(*it)));
  }
  return out;
}

constexpr const char* kNested = R"(import threading, time

class Loader:
    def __iter__(self):
        for i in range(3):
            yield self.fetch(i)

    def fetch(self, i):
        return [self.item(x)
                for x in range(2)]

    def item(self, x):
        print("ready", flush=True)
        time.sleep(
            600)

def beside():
    while True:
        time.sleep(0.001)

def main(depth):
    if depth:
        main(depth - 1)
    else:
        for batch in Loader():
            pass

threading.Thread(target=beside, daemon=True).start()
main(2)
)";

class PythonVersion : public testing::TestWithParam<int> {
 protected:
  // The interpreters of this version; an empty list skips the test.
  std::vector<Interpreter> here() {
    const auto it = interpreters().find(GetParam());
    return it == interpreters().end() ? std::vector<Interpreter>{} : it->second;
  }
};

#define RW_HERE(name)       \
  const auto name = here(); \
  if (name.empty()) GTEST_SKIP() << "no CPython 3." << GetParam() << " is found here"

TEST_P(PythonVersion, TellsFramesFunctionsAndLinesOfTheMainThread) {
  RW_HERE(found);
  for (const Interpreter& one : found) {
    SCOPED_TRACE(one.path + " " + one.kind);
    Script script(one.path, kNested, "schlüssel_数_🜂.py");
    ASSERT_EQ(script.line(), "ready");
    auto process = PythonProcess::attach(script.pid());
    ASSERT_TRUE(process.ok()) << process.error().message;
    EXPECT_EQ(process->version(), "3." + std::to_string(GetParam()));
    std::vector<std::string> expected{"<module>:29", "main:23", "main:23",      "main:25",
                                      "__iter__:6",  "fetch:9", "<listcomp>:9", "item:14"};
    if (GetParam() >= 12) expected.erase(expected.begin() + 6);  // PEP 709: no frame of its own
    std::vector<PythonFrame> frames;
    StackRead read = StackRead::torn;
    for (int i = 0; i < 50; ++i) {  // it may still be on its way into sleep()
      read = process->sample(frames);
      if (read == StackRead::whole && words_of(*process, frames) == expected) break;
      std::this_thread::sleep_for(10ms);
    }
    ASSERT_EQ(read, StackRead::whole);
    EXPECT_EQ(words_of(*process, frames), expected);
    for (const PythonFrame& frame : frames) EXPECT_EQ(frame.code->file, script.path());
    EXPECT_EQ(frames[0].code->function, GetParam() >= 11 ? "Loader.item" : "item");
    script.end();
    EXPECT_EQ(process->sample(frames), StackRead::gone);
  }
}

// Two pairs that call as fast as they can: a stack that mixes them never was.
TEST_P(PythonVersion, NeverMixesTwoStacks) {
  RW_HERE(found);
  for (const Interpreter& one : found) {
    SCOPED_TRACE(one.path + " " + one.kind);
    Script script(one.path, R"(
def inner_a(n): return sum([n, n, n])
def outer_a(n): return inner_a(n) + inner_a(n + 1)
def inner_b(n):
    x = y = z = n
    return max(x, y, z)
def outer_b(n): return inner_b(n) + inner_b(n + 1)
def main():
    while True:
        outer_a(1)
        outer_b(2)
print("ready", flush=True)
main()
)");
    ASSERT_EQ(script.line(), "ready");
    auto process = PythonProcess::attach(script.pid());
    ASSERT_TRUE(process.ok()) << process.error().message;
    std::vector<PythonFrame> frames;
    int whole = 0, torn = 0, mixed = 0;
    for (int i = 0; i < 4000; ++i) {
      const StackRead read = process->sample(frames);
      ASSERT_NE(read, StackRead::gone);
      if (read == StackRead::torn) ++torn;
      if (read != StackRead::whole) continue;
      ++whole;
      std::vector<std::string> names;
      for (auto it = frames.rbegin(); it != frames.rend(); ++it)
        names.push_back(it->code->function);
      const std::vector<std::string> way{"<module>", "main"};
      bool fits =
          names.size() <= 4 &&
          std::equal(names.begin(), names.begin() + std::min<std::ptrdiff_t>(std::ssize(names), 2),
                     way.begin());
      if (fits && names.size() > 2) fits = names[2].starts_with("outer_");
      if (fits && names.size() > 3) fits = names[3] == "inner_" + names[2].substr(6);
      mixed += fits ? 0 : 1;
    }
    EXPECT_EQ(mixed, 0);
    EXPECT_GT(whole, 3000) << torn << " torn";
  }
}

INSTANTIATE_TEST_SUITE_P(Minor, PythonVersion, testing::Values(9, 10, 11, 12, 13, 14),
                         [](const auto& one) { return "CPython3_" + std::to_string(one.param); });

TEST(PythonProcess, SaysWhyThereIsNone) {
  const auto none = PythonProcess::attach(0);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, Errc::not_found);
  const auto self = PythonProcess::attach(getpid());
  ASSERT_FALSE(self.ok());
  EXPECT_EQ(self.error().code, Errc::unavailable);
  EXPECT_NE(self.error().message.find("no CPython"), std::string::npos) << self.error().message;
}

}  // namespace
}  // namespace rigwise
