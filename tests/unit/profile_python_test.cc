// Python stacks of real interpreters, of every version that is found here, and of memory that lies.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "rigwise/stacks.h"
#include "unit/profile_python_found.h"

namespace rigwise {
namespace {

using namespace std::chrono_literals;

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

// Two pairs that call as fast as they can: a stack that mixes them never was. Without stopping the
// process it cannot be ruled out; 0 to 3 of 4000 were seen.
TEST_P(PythonVersion, HardlyEverMixesTwoStacks) {
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
    EXPECT_LE(mixed, whole / 200);
    EXPECT_GT(whole, 3000) << torn << " torn";
  }
}

// Samples until the stack is as expected, since a program may still be on its way there.
StackRead sample_until(PythonProcess& process, std::vector<PythonFrame>& frames,
                       const std::string& innermost) {
  StackRead read = StackRead::torn;
  for (int i = 0; i < 200; ++i) {
    read = process.sample(frames);
    if (read == StackRead::whole && frames[0].code->function == innermost) break;
    std::this_thread::sleep_for(10ms);
  }
  return read;
}

TEST_P(PythonVersion, FollowsDeepStacksAndCoroutines) {
  RW_HERE(found);
  for (const Interpreter& one : found) {
    SCOPED_TRACE(one.path + " " + one.kind);
    Script script(one.path, R"(
import asyncio, functools, time
def leaf():
    print("ready", flush=True)
    time.sleep(600)
async def inner():
    a = b = c = d = e = f = 0
    deep(200)
async def outer():
    await inner()
def deep(n):
    a = b = c = d = e = f = g = h = i = j = k = n
    if n == 0:
        leaf()
    elif n % 2:
        functools.partial(deep, n - 1)()  # through C
    else:
        deep(n - 1)
asyncio.run(outer())
)");
    ASSERT_EQ(script.line(), "ready");
    auto process = PythonProcess::attach(script.pid());
    ASSERT_TRUE(process.ok()) << process.error().message;
    std::vector<PythonFrame> frames;
    ASSERT_EQ(sample_until(*process, frames, "leaf"), StackRead::whole);
    ASSERT_GT(frames.size(), 204U);
    for (std::size_t i = 1; i <= 201; ++i) EXPECT_EQ(frames[i].code->function, "deep");
    EXPECT_EQ(frames[202].code->function, "inner");
    EXPECT_EQ(frames[203].code->function, "outer");
    EXPECT_EQ(frames.back().code->function, "<module>");
  }
}

TEST_P(PythonVersion, ReadsForkedChildrenAndSeesExec) {
  RW_HERE(found);
  for (const Interpreter& one : found) {
    SCOPED_TRACE(one.path + " " + one.kind);
    Script script(one.path, R"(
import os, sys, threading, time
def beside():
    time.sleep(600)
def loader():
    print(os.getpid(), flush=True)
    while True:
        time.sleep(0.01)
        if os.path.exists(__file__ + ".go"):
            os.execv("/bin/sleep", ["sleep", "600"])
threading.Thread(target=beside, daemon=True).start()
if os.fork() == 0:
    loader()
time.sleep(600)
)");
    const pid_t child = std::atoi(script.line().c_str());
    ASSERT_GT(child, 0);
    auto process = PythonProcess::attach(child);
    ASSERT_TRUE(process.ok()) << process.error().message;
    std::vector<PythonFrame> frames;
    ASSERT_EQ(sample_until(*process, frames, "loader"), StackRead::whole);
    EXPECT_EQ(frames.size(), 2U);
    std::ofstream(script.path() + ".go") << "";
    StackRead read = StackRead::whole;
    for (int i = 0; i < 500 && read != StackRead::gone; ++i) {
      std::this_thread::sleep_for(10ms);
      read = process->sample(frames);
    }
    EXPECT_EQ(read, StackRead::gone);
    EXPECT_TRUE(frames.empty());
    const auto again = PythonProcess::attach(child);
    ASSERT_FALSE(again.ok());
    EXPECT_EQ(again.error().code, Errc::unavailable);
    kill(child, SIGKILL);
  }
}

// From its first instruction to its last: nothing but the four answers, and no invented stack.
TEST_P(PythonVersion, IsThereFromStartToEnd) {
  RW_HERE(found);
  for (const Interpreter& one : found) {
    SCOPED_TRACE(one.path + " " + one.kind);
    for (int round = 0; round < 1; ++round) {
      Script script(one.path, R"(
import json, argparse, os, time
while not os.path.exists(__file__ + ".go"):
    time.sleep(0.001)
)");
      std::vector<PythonFrame> frames;
      int whole = 0;
      for (int i = 0; i < 100000; ++i) {
        auto process = PythonProcess::attach(script.pid());
        if (!process) {
          EXPECT_TRUE(process.error().code == Errc::not_found ||
                      process.error().code == Errc::unavailable);
          if (process.error().code == Errc::not_found) break;
          continue;
        }
        StackRead read = StackRead::whole;
        while (read != StackRead::gone) {
          read = process->sample(frames);
          EXPECT_EQ(read == StackRead::whole, !frames.empty());
          if (read == StackRead::whole && whole++ == 0) std::ofstream(script.path() + ".go") << "";
          for (const PythonFrame& frame : frames) {
            EXPECT_FALSE(frame.code->function.empty());
            EXPECT_FALSE(frame.code->file.empty());
          }
        }
      }
      EXPECT_GT(whole, 0);
    }
  }
}

TEST_P(PythonVersion, NoticesCodeThatTakesAnothersPlace) {
  RW_HERE(found);
  const Interpreter& one = found.front();
  Script script(one.path, R"py(
import time
print("ready", flush=True)
n = 0
while True:
    n += 1
    name = "made_%d" % n
    space = {"time": time}
    exec(compile("def %s():\n%s    time.sleep(0.002)\n%s()" % (name, "\n" * (n % 7), name),
                 "file_%d" % n, "exec"), space)
)py");
  ASSERT_EQ(script.line(), "ready");
  auto process = PythonProcess::attach(script.pid());
  ASSERT_TRUE(process.ok()) << process.error().message;
  std::vector<PythonFrame> frames;
  int seen = 0, torn = 0;
  for (int i = 0; i < 400; ++i) {
    std::this_thread::sleep_for(1ms);
    if (process->sample(frames) != StackRead::whole) continue;
    if (!frames[0].code->function.starts_with("made_")) continue;
    ++seen;
    const std::string number = frames[0].code->function.substr(5);
    EXPECT_EQ(frames[0].code->file, "file_" + number);
    // the process runs on while it is read: where the reader is held up between two frames, they
    // may be of two instants, in no more than one sample of a hundred
    torn += frames[1].code->file != "file_" + number ? 1 : 0;
    const int line = process->line_of(frames[0]);
    EXPECT_TRUE(line == 0 || line == 2 + std::atoi(number.c_str()) % 7) << line;  // 0: left since
  }
  EXPECT_GT(seen, 40);
  EXPECT_LE(torn, 1 + seen / 100);
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

TEST(PythonProcess, SaysThatTheKernelForbidsIt) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const pid_t other = fork();
  if (other == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    const auto process = PythonProcess::attach(getppid());
    const std::string said =
        process ? "read" : process.error().message + "\n" + process.error().hint;
    _exit(write(ends[1], said.data(), said.size()) > 0 ? 0 : 3);
  }
  close(ends[1]);
  std::string said(1000, '\0');
  const ssize_t got = read(ends[0], said.data(), said.size());
  close(ends[0]);
  waitpid(other, nullptr, 0);
  ASSERT_GT(got, 0);
  EXPECT_NE(said.find("the kernel does not let rigwise read"), std::string::npos) << said;
}

}  // namespace
}  // namespace rigwise
