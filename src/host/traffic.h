// Traffic: what a process's own TCP connections to other machines have carried, as the kernel
// counts it for each (sock_diag(7), INET_DIAG_INFO). Interfaces count everybody's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace rigwise {

/// Bytes received and acknowledged by the other end since it was opened, by the socket's inode.
using Traffic = std::map<std::uint64_t, double>;

/// One answer of the kernel's to a dump: adds its connections that are not to this machine itself.
/// False at the dump's end, or where it is none.
bool parse_traffic(std::string_view answer, Traffic& into);

/// Of these processes, which share a network with this one. Nothing where the kernel does not tell.
std::optional<Traffic> traffic_of(const std::vector<int>& pids);

/// What was carried since: connections that were opened since count whole, closed ones not at all.
double carried(const Traffic& before, const Traffic& now);

}  // namespace rigwise
