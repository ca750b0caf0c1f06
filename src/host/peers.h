// Peers: which processes of a family talk to each other over TCP. Ranks of one training do, whoever
// started them (the store, Gloo's mesh, NCCL's bootstrap); data-loader workers, which have the same
// command line, never do: they have pipes, and sockets inherited from their parent.
//
// A connection counts where both of its ends are held by one process of the family each, so that
// inherited ones (held by several) and those to other programs (one end is elsewhere) do not.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rigwise {

/// Ends of established connections by socket inode: local and remote address as the kernel prints
/// them, IPv4 inside IPv6 as plain IPv4. From the text of /proc/net/tcp and tcp6.
using TcpEnds = std::map<std::uint64_t, std::pair<std::string, std::string>>;
void parse_tcp(std::string_view text, TcpEnds& into);

/// One TCP connection of a process, as /proc/net/tcp shows it.
struct TcpSocket {
  std::string local = {};    // "10.0.0.2:41022"
  std::string remote = {};   // "10.0.0.1:29500", "[::1]:4711"
  bool peer_closed = false;  // the other end said that it sends no more (CLOSE_WAIT)
  double unsent_bytes = 0;   // in the send queue: not yet acknowledged
  double unread_bytes = 0;   // received, and the process has not read them
};

/// The connections (established, or closed by the other end) among these sockets, by inode.
std::map<std::uint64_t, TcpSocket> parse_tcp_sockets(std::string_view text);

/// What a process has open.
struct OpenFiles {
  bool readable = false;
  std::vector<std::uint64_t> sockets = {};  // inodes
  bool gpu = false;                         // a device of a GPU
};
OpenFiles open_files_of(const std::string& proc, int pid);
/// Those of these sockets that are TCP connections, from the process's own network tables.
std::map<std::uint64_t, TcpSocket> tcp_sockets_of(const std::string& proc, int pid,
                                                  const std::vector<std::uint64_t>& sockets);

/// Whether a rank is connected with other processes where all ranks meet: at its MASTER_PORT, at
/// either end. `not_met`: the port is known and it has no connection with any other process.
enum class Meeting { not_known, not_met, met };
Meeting meeting_at(int port, const std::map<std::uint64_t, TcpSocket>& own);
/// The same for a living process, by `proc`/PID/environ and its sockets.
Meeting meeting_of(const std::string& proc, int pid);

/// One answer a process. `sockets`: inodes of the sockets that each holds.
std::vector<bool> joined_peers(const std::vector<std::vector<std::uint64_t>>& sockets,
                               const TcpEnds& ends);

/// The same for living processes, from `proc`/PID/fd and the first one's network tables.
std::vector<bool> joined_peers(const std::string& proc, const std::vector<int>& family);

}  // namespace rigwise
