#include "host/peers.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <set>

#include "base/files.h"
#include "base/text.h"

namespace rigwise {

namespace {
constexpr std::uint64_t kMaxTableBytes = std::uint64_t{8} << 20;
constexpr std::size_t kMaxSockets = 4096;  // of one process
constexpr int kMaxDescriptors = 16384;

std::string plain_address(std::string_view address) {
  constexpr std::string_view kMapped = "0000000000000000FFFF0000";
  if (address.starts_with(kMapped)) address.remove_prefix(kMapped.size());
  return std::string(address);
}

/// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …
struct TcpLine {
  std::string_view local, remote, state, queues;
  std::uint64_t inode = 0;
};

template <class Visit>
void each_tcp_line(std::string_view text, const Visit& visit) {
  for (const auto line : split(text, '\n')) {
    std::vector<std::string_view> words;
    for (const auto word : split(line, ' ')) {
      if (!word.empty()) words.push_back(word);
    }
    constexpr std::size_t kLocal = 1, kRemote = 2, kState = 3, kQueues = 4, kInode = 9;
    if (words.size() <= kInode) continue;
    const auto inode = to_integer(words[kInode]);
    if (!inode || *inode <= 0) continue;
    visit(TcpLine{words[kLocal], words[kRemote], words[kState], words[kQueues],
                  static_cast<std::uint64_t>(*inode)});
  }
}

std::optional<std::uint64_t> hex_of(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "0100007F:1F90" → "127.0.0.1:8080". The kernel prints 32-bit words as the machine holds them.
std::string readable_address(std::string_view address) {
  const auto colon = address.find(':');
  if (colon == std::string_view::npos) return {};
  const auto port = hex_of(address.substr(colon + 1));
  const std::string_view host = address.substr(0, colon);
  std::array<char, INET6_ADDRSTRLEN> text = {};
  std::array<std::uint32_t, 4> words = {};
  if (!port || (host.size() != 8 && host.size() != 32)) return {};
  for (std::size_t i = 0; i < host.size() / 8; ++i) {
    const auto word = hex_of(host.substr(8 * i, 8));
    if (!word) return {};
    words[i] = static_cast<std::uint32_t>(*word);
  }
  const bool six = host.size() == 32;
  if (::inet_ntop(six ? AF_INET6 : AF_INET, words.data(), text.data(), text.size()) == nullptr)
    return {};
  const std::string name = six ? "[" + std::string(text.data()) + "]" : std::string(text.data());
  return name + ":" + std::to_string(*port);
}
}  // namespace

void parse_tcp(std::string_view text, TcpEnds& into) {
  each_tcp_line(text, [&](const TcpLine& line) {
    if (line.state == "01")
      into[line.inode] = {plain_address(line.local), plain_address(line.remote)};
  });
}

std::map<std::uint64_t, TcpSocket> parse_tcp_sockets(std::string_view text) {
  std::map<std::uint64_t, TcpSocket> sockets;
  each_tcp_line(text, [&](const TcpLine& line) {
    constexpr std::string_view kEstablished = "01", kCloseWait = "08";
    if (line.state != kEstablished && line.state != kCloseWait) return;
    TcpSocket socket;
    socket.local = readable_address(plain_address(line.local));
    socket.remote = readable_address(plain_address(line.remote));
    socket.peer_closed = line.state == kCloseWait;
    const auto colon = line.queues.find(':');
    if (colon != std::string_view::npos) {
      socket.unsent_bytes = static_cast<double>(hex_of(line.queues.substr(0, colon)).value_or(0));
      socket.unread_bytes = static_cast<double>(hex_of(line.queues.substr(colon + 1)).value_or(0));
    }
    sockets.emplace(line.inode, std::move(socket));
  });
  return sockets;
}

OpenFiles open_files_of(const std::string& proc, int pid) {
  OpenFiles files;
  const std::string folder = proc + "/" + std::to_string(pid) + "/fd";
  DIR* open = ::opendir(folder.c_str());
  if (open == nullptr) return files;
  files.readable = true;
  for (int i = 0; i < kMaxDescriptors && files.sockets.size() < kMaxSockets; ++i) {
    const dirent* entry = ::readdir(open);
    if (entry == nullptr) break;
    std::array<char, 64> target = {};
    const ssize_t size =
        ::readlink((folder + "/" + entry->d_name).c_str(), target.data(), target.size());
    constexpr std::string_view kSocket = "socket:[";
    const std::string_view text(target.data(), static_cast<std::size_t>(size > 0 ? size : 0));
    // NVIDIA's nvidia0, nvidiactl and nvidia-uvm, which nobody else opens; AMD's kfd
    if (text.starts_with("/dev/nvidia") || text == "/dev/kfd") files.gpu = true;
    if (!text.starts_with(kSocket)) continue;
    std::uint64_t inode = 0;
    const char* begin = text.data() + kSocket.size();
    if (std::from_chars(begin, text.data() + text.size(), inode).ec == std::errc()) {
      files.sockets.push_back(inode);
    }
  }
  ::closedir(open);
  return files;
}

std::map<std::uint64_t, TcpSocket> tcp_sockets_of(const std::string& proc, int pid,
                                                  const std::vector<std::uint64_t>& sockets) {
  std::map<std::uint64_t, TcpSocket> own;
  if (sockets.empty()) return own;
  for (const auto* table : {"/net/tcp", "/net/tcp6"}) {
    const auto text = read_file(proc + "/" + std::to_string(pid) + table, kMaxTableBytes);
    if (!text) continue;
    auto all = parse_tcp_sockets(*text);
    for (const auto inode : sockets) {
      if (auto found = all.extract(inode)) own.insert(std::move(found));
    }
  }
  return own;
}

Meeting meeting_at(int port, const std::map<std::uint64_t, TcpSocket>& own) {
  const std::string ending = ":" + std::to_string(port);
  std::set<std::pair<std::string_view, std::string_view>> ends;
  for (const auto& [inode, socket] : own) ends.emplace(socket.local, socket.remote);
  Meeting meeting = Meeting::not_met;
  for (const auto& [local, remote] : ends) {
    if (ends.count({remote, local}) != 0) continue;  // with itself: a store in the same process
    if (local.ends_with(ending) || remote.ends_with(ending)) return Meeting::met;
    meeting = Meeting::not_known;
  }
  return meeting;
}

Meeting meeting_of(const std::string& proc, int pid) {
  const auto text = read_file(proc + "/" + std::to_string(pid) + "/environ", kMaxTableBytes);
  if (!text) return Meeting::not_known;
  for (const auto entry : split(*text, '\0')) {
    constexpr std::string_view kPort = "MASTER_PORT=";
    if (!entry.starts_with(kPort)) continue;
    const auto port = to_integer(entry.substr(kPort.size()));
    constexpr int kLastPort = 65535;
    if (!port || *port < 1 || *port > kLastPort) return Meeting::not_known;
    const OpenFiles files = open_files_of(proc, pid);
    if (!files.readable) return Meeting::not_known;
    return meeting_at(static_cast<int>(*port), tcp_sockets_of(proc, pid, files.sockets));
  }
  return Meeting::not_known;
}

std::vector<bool> joined_peers(const std::vector<std::vector<std::uint64_t>>& sockets,
                               const TcpEnds& ends) {
  constexpr std::size_t kShared = static_cast<std::size_t>(-1);
  std::map<std::uint64_t, std::size_t> holder;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    for (const auto inode : sockets[i]) {
      const auto [place, fresh] = holder.try_emplace(inode, i);
      if (!fresh && place->second != i) place->second = kShared;
    }
  }
  std::map<std::pair<std::string_view, std::string_view>, std::size_t> by_ends;
  for (const auto& [inode, who] : holder) {
    const auto end = ends.find(inode);
    if (who == kShared || end == ends.end()) continue;
    by_ends[{end->second.first, end->second.second}] = who;
  }
  std::vector<bool> joined(sockets.size(), false);
  for (const auto& [end, who] : by_ends) {
    const auto other = by_ends.find({end.second, end.first});
    if (other != by_ends.end() && other->second != who) joined[who] = true;
  }
  return joined;
}

std::vector<bool> joined_peers(const std::string& proc, const std::vector<int>& family) {
  std::vector<std::vector<std::uint64_t>> sockets;
  std::size_t with_sockets = 0;
  for (const int pid : family) {
    sockets.push_back(open_files_of(proc, pid).sockets);
    if (!sockets.back().empty()) ++with_sockets;
  }
  TcpEnds ends;
  if (with_sockets >= 2) {
    for (const auto* table : {"/net/tcp", "/net/tcp6"}) {
      const auto text =
          read_file(proc + "/" + std::to_string(family.front()) + table, kMaxTableBytes);
      if (text) parse_tcp(*text, ends);
    }
  }
  return joined_peers(sockets, ends);
}

}  // namespace rigwise
