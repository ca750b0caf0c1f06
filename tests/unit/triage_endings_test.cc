// How processes ended, as launchers, shells and schedulers say it. Lines after the forms of real
// ones.
#include <gtest/gtest.h>

#include <csignal>

#include "rigwise/triage.h"
#include "triage/endings.h"

namespace rigwise {
namespace {

using triage_parts::ending_in;
using triage_parts::ending_words;

TEST(TriageEndings, CodesAndSignalsOfAnyLauncher) {
  EXPECT_EQ(ending_in("failed (exitcode: -9) local_rank: 1 (pid: 4799) of binary: python"),
            -SIGKILL);
  EXPECT_EQ(ending_in("  exitcode  : -11 (pid: 16953)"), -SIGSEGV);
  EXPECT_EQ(ending_in("      Exit Code:    137"), -SIGKILL);
  EXPECT_EQ(ending_in("Process 0 exit with status code 134."), -SIGABRT);
  EXPECT_EQ(ending_in("['python', 'main.py', '--local_rank=0'] exits with return code = -7"),
            -SIGBUS);
  EXPECT_EQ(
      ending_in("mpirun noticed that process rank 1 with PID 0 on node vm exited on signal 11 "
                "(Segmentation fault)."),
      -SIGSEGV);
  EXPECT_EQ(ending_in("Command '['python']' died with <Signals.SIGILL: 4>."), -SIGILL);
  EXPECT_EQ(ending_in("traceback : Signal 6 (SIGABRT) received by PID 9"), -SIGABRT);
  EXPECT_EQ(ending_in("srun: error: c002: task 0: Killed"), -SIGKILL);
  EXPECT_EQ(ending_in("run.sh: line 3:  4711 Killed                  python train.py"), -SIGKILL);
  EXPECT_EQ(ending_in("bash: line 1:  3635 Aborted                 (core dumped) python a.py"),
            -SIGABRT);
  EXPECT_EQ(ending_in("terminate called after throwing an instance of 'std::logic_error'"),
            -SIGABRT);
  EXPECT_EQ(ending_in("trainer-1 exited with code 137"), -SIGKILL);
  EXPECT_EQ(ending_in("train.service: Main process exited, code=killed, status=9/KILL"), -SIGKILL);
  EXPECT_EQ(ending_in("train.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED"),
            3);
  EXPECT_EQ(ending_in("srun: error: a: task 1: Exited with exit code 7"), 7);
}

TEST(TriageEndings, NoCodeIsNone) {
  EXPECT_FALSE(ending_in("> \"Segmentation fault (core dumped)\" means a bad pointer"));
  EXPECT_EQ(ending_in("exit code 0"), 0);
  EXPECT_EQ(ending_in("the exit code of a worker"), std::nullopt);
  EXPECT_EQ(ending_in("signal handler installed"), std::nullopt);
  EXPECT_EQ(ending_in("Killed two birds"), std::nullopt);
  EXPECT_EQ(ending_in("exit code 99999999999999999999"), std::nullopt);
  EXPECT_EQ(ending_in(""), std::nullopt);
  EXPECT_EQ(ending_in("exit code 255"), 255);  // no signal has that number
}

TEST(TriageEndings, InTheWordsOfTheTable) {
  EXPECT_EQ(ending_words(-SIGKILL), "ended by signal SIGKILL");
  EXPECT_EQ(ending_words(3), "exit status 3");
  EXPECT_TRUE(Signatures::built_in().match(ending_words(-SIGBUS)));
}

}  // namespace
}  // namespace rigwise
