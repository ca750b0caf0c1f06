// What a process waits for: the texts of /proc, and processes that really wait.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/files.h"
#include "base/text.h"
#include "host/blocked.h"
#include "host/peers.h"

namespace rigwise {
namespace {

TEST(HostBlocked, ReadsASyscall) {
  const auto call =
      parse_syscall(std::to_string(SYS_read) + " 0x7 0x7f00 0x1000 0x0 0x0 0x0 0x7ffd 0x7fe4\n");
  ASSERT_TRUE(call);
  EXPECT_EQ(call->name, "read");
  EXPECT_EQ(call->fd, 7);
  EXPECT_FALSE(call->path_at);
  const auto open =
      parse_syscall(std::to_string(SYS_openat) + " 0xffffff9c 0x7f10 0x0 0x0 0x0 0x0 0x1 0x2");
  ASSERT_TRUE(open);
  EXPECT_EQ(open->path_at, 0x7f10U);
  EXPECT_EQ(parse_syscall(std::to_string(SYS_pselect6) + " 0x1 0x7f10 0x0 0x0 0x0 0x0 0x1 0x2")->fd,
            0);
  EXPECT_EQ(parse_syscall("9999 0x1")->name, "call 9999");
}

TEST(HostBlocked, NothingOfWhatIsNoCall) {
  for (const char* text : {"", "running", "running\n", "-1 0x7ffd 0x7fe4", "x", " ", "0x0 0x1"})
    EXPECT_FALSE(parse_syscall(text)) << text;
  const auto cut = parse_syscall(std::to_string(SYS_read) + " 0x");
  ASSERT_TRUE(cut);
  EXPECT_FALSE(cut->fd);
  EXPECT_FALSE(parse_syscall(std::to_string(SYS_read) + " 0xffffffffffffffff")->fd);
}

TEST(HostBlocked, SocketsAsTheKernelPrintsThem) {
  // Little-endian words: 0100007F is 127.0.0.1.
  const auto sockets = parse_tcp_sockets(
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
      "inode\n"
      "   0: 0100007F:8A2C 0100007F:1F90 01 00000010:00000020 00:00000000 00000000     0        0 "
      "111 1\n"
      "   1: 0100007F:8A2C 0100007F:1F91 08 00000000:00000000 00:00000000 00000000     0        0 "
      "112 1\n"
      "   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
      "113 1\n"
      "   3: half a line\n");
  ASSERT_EQ(sockets.size(), 2U);
  EXPECT_EQ(sockets.at(111).remote, "127.0.0.1:8080");
  EXPECT_EQ(sockets.at(111).unsent_bytes, 16);
  EXPECT_EQ(sockets.at(111).unread_bytes, 32);
  EXPECT_FALSE(sockets.at(111).peer_closed);
  EXPECT_TRUE(sockets.at(112).peer_closed);
  const auto six = parse_tcp_sockets(
      "   0: 0000000000000000FFFF00000100007F:8A2C 0000000000000000FFFF00000100007F:1F90 01 0:0 0 "
      "0 0 0 5 1\n"
      "   1: 00000000000000000000000001000000:8A2C 00000000000000000000000001000000:1F90 01 0:0 0 "
      "0 0 0 6 1\n");
  EXPECT_EQ(six.at(5).remote, "127.0.0.1:8080");
  EXPECT_EQ(six.at(6).remote, "[::1]:8080");
}

TEST(HostBlocked, AProcessThatReadsAPipe) {
  std::array<int, 2> pipe = {};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe[1]);
    char byte = 0;
    const ssize_t ignored = ::read(pipe[0], &byte, 1);
    ::_exit(static_cast<int>(ignored));
  }
  ASSERT_GT(child, 0);
  ProcessLook look;
  for (int i = 0; i < 500; ++i) {
    look = {};
    look.pid = child;
    const auto comm = read_file("/proc/" + std::to_string(child) + "/comm", 100);
    ASSERT_TRUE(comm);
    look.comm = std::string(trim(*comm));
    ASSERT_TRUE(look_at_kernel("/proc", look));
    if (look.state == "S") break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(look.state, "S");
  ASSERT_FALSE(look.threads.empty());
  EXPECT_EQ(look.connections, 0);
  if (!look.syscall.empty()) {  // a container may hide it
    EXPECT_EQ(look.syscall, "read");
    EXPECT_EQ(look.waits_fd, pipe[0]);
    EXPECT_EQ(look.waits_on, "a pipe");
  }
  look.comm = "somebody else";
  EXPECT_FALSE(look_at_kernel("/proc", look));
  EXPECT_TRUE(look.state.empty());
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

}  // namespace
}  // namespace rigwise
