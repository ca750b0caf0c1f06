#include "host/peers.h"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <charconv>

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

std::vector<std::uint64_t> sockets_of(const std::string& proc, int pid) {
  std::vector<std::uint64_t> inodes;
  const std::string folder = proc + "/" + std::to_string(pid) + "/fd";
  DIR* open = ::opendir(folder.c_str());
  if (open == nullptr) return inodes;
  for (int i = 0; i < kMaxDescriptors && inodes.size() < kMaxSockets; ++i) {
    const dirent* entry = ::readdir(open);
    if (entry == nullptr) break;
    std::array<char, 64> target = {};
    const ssize_t size =
        ::readlink((folder + "/" + entry->d_name).c_str(), target.data(), target.size());
    constexpr std::string_view kSocket = "socket:[";
    const std::string_view text(target.data(), static_cast<std::size_t>(size > 0 ? size : 0));
    if (!text.starts_with(kSocket)) continue;
    std::uint64_t inode = 0;
    const char* begin = text.data() + kSocket.size();
    if (std::from_chars(begin, text.data() + text.size(), inode).ec == std::errc()) {
      inodes.push_back(inode);
    }
  }
  ::closedir(open);
  return inodes;
}
}  // namespace

void parse_tcp(std::string_view text, TcpEnds& into) {
  for (const auto line : split(text, '\n')) {
    std::vector<std::string_view> words;
    for (const auto word : split(line, ' ')) {
      if (!word.empty()) words.push_back(word);
    }
    // sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …
    constexpr std::size_t kLocal = 1, kRemote = 2, kState = 3, kInode = 9;
    if (words.size() <= kInode || words[kState] != "01") continue;
    const auto inode = to_integer(words[kInode]);
    if (!inode || *inode <= 0) continue;
    into[static_cast<std::uint64_t>(*inode)] = {plain_address(words[kLocal]),
                                                plain_address(words[kRemote])};
  }
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
    sockets.push_back(sockets_of(proc, pid));
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
