#include "host/blocked.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <tuple>

#include "base/text.h"
#include "host/kept_file.h"
#include "host/peers.h"
#include "host/proc_text.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostThreads = 1024;
constexpr std::size_t kMostGroups = 32;
constexpr std::size_t kMostPath = 4096;

using Sockets = std::map<std::uint64_t, TcpSocket>;

enum class First { nothing, descriptor, path, second_is_path, count_of_select };

struct CallName {
  long number;
  std::string_view name;
  First first;
};

// The calls in which processes wait. Numbers are this machine's, as the processes' are.
constexpr std::array kCalls = {
    CallName{SYS_read, "read", First::descriptor},
    CallName{SYS_readv, "readv", First::descriptor},
    CallName{SYS_pread64, "pread", First::descriptor},
    CallName{SYS_preadv, "preadv", First::descriptor},
    CallName{SYS_write, "write", First::descriptor},
    CallName{SYS_writev, "writev", First::descriptor},
    CallName{SYS_pwrite64, "pwrite", First::descriptor},
    CallName{SYS_recvfrom, "recvfrom", First::descriptor},
    CallName{SYS_recvmsg, "recvmsg", First::descriptor},
    CallName{SYS_sendto, "sendto", First::descriptor},
    CallName{SYS_sendmsg, "sendmsg", First::descriptor},
    CallName{SYS_connect, "connect", First::descriptor},
    CallName{SYS_accept, "accept", First::descriptor},
    CallName{SYS_accept4, "accept", First::descriptor},
    CallName{SYS_fsync, "fsync", First::descriptor},
    CallName{SYS_fdatasync, "fdatasync", First::descriptor},
    CallName{SYS_flock, "flock", First::descriptor},
    CallName{SYS_fcntl, "fcntl", First::descriptor},
    CallName{SYS_ioctl, "ioctl", First::descriptor},
    CallName{SYS_fstat, "fstat", First::descriptor},
    CallName{SYS_getdents64, "getdents", First::descriptor},
    CallName{SYS_epoll_pwait, "epoll_wait", First::nothing},
    CallName{SYS_ppoll, "poll", First::nothing},
    CallName{SYS_pselect6, "select", First::count_of_select},
    CallName{SYS_openat, "open", First::second_is_path},
    CallName{SYS_newfstatat, "stat", First::second_is_path},
    CallName{SYS_statx, "stat", First::second_is_path},
    CallName{SYS_unlinkat, "unlink", First::second_is_path},
    CallName{SYS_futex, "futex", First::nothing},
    CallName{SYS_nanosleep, "nanosleep", First::nothing},
    CallName{SYS_clock_nanosleep, "nanosleep", First::nothing},
    CallName{SYS_wait4, "wait", First::nothing},
    CallName{SYS_waitid, "wait", First::nothing},
    CallName{SYS_rt_sigtimedwait, "sigwait", First::nothing},
    CallName{SYS_semtimedop, "semop", First::nothing},
#ifdef SYS_poll  // AArch64 has only the newer ones
    CallName{SYS_poll, "poll", First::nothing},
    CallName{SYS_select, "select", First::count_of_select},
    CallName{SYS_epoll_wait, "epoll_wait", First::nothing},
    CallName{SYS_open, "open", First::path},
    CallName{SYS_stat, "stat", First::path},
    CallName{SYS_pause, "pause", First::nothing},
#endif
};

std::optional<std::uint64_t> hex_word(std::string_view& rest) {
  rest = rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
  const std::string_view word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(word.size());
  if (!word.starts_with("0x")) return std::nullopt;
  std::uint64_t value = 0;
  const char* end = word.data() + word.size();
  const auto parsed = std::from_chars(word.data() + 2, end, value, 16);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return value;
}

std::string link_of(const std::string& path) {
  std::array<char, kMostPath> target = {};
  const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
  return size > 0 ? std::string(target.data(), static_cast<std::size_t>(size)) : std::string();
}

/// The text at an address of another process, up to its end or 4 KiB.
std::string text_at(int pid, std::uint64_t address) {
  std::string text;
  std::array<char, 256> piece = {};
  while (text.size() < kMostPath) {
    // Not over the end of a page that may be the last one.
    const std::size_t room = std::min<std::size_t>(piece.size(), 4096 - address % 4096);
    iovec local = {piece.data(), room};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of the other process
    iovec remote = {reinterpret_cast<void*>(address), room};
    const ssize_t count = ::process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (count <= 0) return text;
    const std::string_view got(piece.data(), static_cast<std::size_t>(count));
    const auto end = got.find('\0');
    text += got.substr(0, end);
    if (end != std::string_view::npos) return text;
    address += static_cast<std::uint64_t>(count);
  }
  return text;
}

/// What a descriptor is, in words: a path, "TCP 10.0.0.1:29500", "a pipe", "a socket".
std::string file_of(const std::string& folder, int fd, const Sockets& sockets) {
  const std::string target = link_of(folder + "/fd/" + std::to_string(fd));
  constexpr std::string_view kSocket = "socket:[", kPipe = "pipe:[";
  if (target.starts_with(kPipe)) return "a pipe";
  if (!target.starts_with(kSocket)) return clean_text(target, kMostPath);
  const auto inode = to_integer(
      std::string_view(target).substr(kSocket.size(), target.size() - kSocket.size() - 1));
  const auto found = inode ? sockets.find(static_cast<std::uint64_t>(*inode)) : sockets.end();
  return found == sockets.end() ? "a socket" : "TCP " + found->second.remote;
}

std::string wchan_of(const std::string& folder) {
  const auto text = read_small(folder + "/wchan");
  return !text || *text == "0" ? std::string() : clean_text(*text, 128);
}

void add_up(const Sockets& sockets, ProcessLook& process) {
  int closed = 0;
  double unsent_bytes = 0, unread_bytes = 0;
  for (const auto& [inode, socket] : sockets) {
    closed += socket.peer_closed ? 1 : 0;
    unsent_bytes += socket.unsent_bytes;
    unread_bytes += socket.unread_bytes;
  }
  process.connections = static_cast<int>(sockets.size());
  process.closed_by_peer = closed;
  process.unsent_bytes = unsent_bytes;
  process.unread_bytes = unread_bytes;
}

void look_at_threads(const std::string& folder, ProcessLook& process) {
  std::map<std::tuple<std::string, std::string, std::string>, int> groups;
  ReadBuffer buffer;
  for (const auto& tid : list_folder(folder + "/task", kMostThreads)) {
    const std::string place = folder + "/task/" + tid;
    const auto text = read_record(place + "/stat", buffer);
    const auto stat = text ? parse_pid_stat(*text, 100) : std::nullopt;
    if (!stat) continue;
    const std::string comm = clean_text(stat->comm, 64);
    ++groups[{comm, std::string(1, stat->state), wchan_of(place)}];
  }
  for (const auto& [key, count] : groups)
    process.threads.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), count});
  std::stable_sort(process.threads.begin(), process.threads.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  if (process.threads.size() > kMostGroups) process.threads.resize(kMostGroups);
}

}  // namespace

std::optional<KernelCall> parse_syscall(std::string_view text) {
  text = trim(text);
  const std::string_view word = text.substr(0, text.find(' '));
  const auto number = to_integer(word);
  if (!number || *number < 0) return std::nullopt;
  text.remove_prefix(word.size());
  const auto first = hex_word(text), second = hex_word(text);
  KernelCall call;
  call.name = "call " + std::to_string(*number);
  const auto known = std::find_if(kCalls.begin(), kCalls.end(),
                                  [&](const CallName& each) { return each.number == *number; });
  if (known == kCalls.end()) return call;
  call.name = known->name;
  constexpr std::uint64_t kMostFd = std::uint64_t{1} << 30;
  if (known->first == First::descriptor && first && *first < kMostFd)
    call.fd = static_cast<int>(*first);
  if (known->first == First::count_of_select && first == 1) call.fd = 0;  // only the first one
  if (known->first == First::path) call.path_at = first;
  if (known->first == First::second_is_path) call.path_at = second;
  return call;
}

bool look_at_kernel(const std::string& proc, ProcessLook& process) {
  const std::string folder = proc + "/" + std::to_string(process.pid);
  ReadBuffer buffer;
  const auto text = read_record(folder + "/stat", buffer);
  const auto stat = text ? parse_pid_stat(*text, 100) : std::nullopt;
  if (!stat || clean_text(stat->comm, 64) != process.comm) {
    process.state.clear();
    return false;
  }
  process.state = std::string(1, stat->state);
  process.wchan = wchan_of(folder);
  const OpenFiles files = open_files_of(proc, process.pid);
  const Sockets sockets = tcp_sockets_of(proc, process.pid, files.sockets);
  if (files.readable) add_up(sockets, process);
  process.holds_gpu = files.gpu;
  look_at_threads(folder, process);
  const auto line = read_record(folder + "/syscall", buffer);
  const auto call = line ? parse_syscall(*line) : std::nullopt;
  if (!call) return true;
  process.syscall = call->name;
  process.waits_fd = call->fd;
  if (call->fd) process.waits_on = file_of(folder, *call->fd, sockets);
  if (call->path_at) {
    std::string path = text_at(process.pid, *call->path_at);
    if (!path.empty() && path.front() != '/') path = link_of(folder + "/cwd") + "/" + path;
    process.waits_on = clean_text(path, kMostPath);
  }
  return true;
}

}  // namespace rigwise
