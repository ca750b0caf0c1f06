#include "engine/comm/sockets.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/text.h"

namespace rigwise::engine {

namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;
using Interfaces = std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)>;

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string text_of(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> out = {};
  if (address->sa_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, out.data(),
                out.size());
  } else if (address->sa_family == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, out.data(),
                out.size());
  }
  return out.data();
}

int port_in(const sockaddr_storage& address) {
  return address.ss_family == AF_INET6
             ? ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port)
             : ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

Interfaces interfaces() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) list = nullptr;
  return {list, ::freeifaddrs};
}

Error port_error(int port) {
  if (errno == EADDRINUSE) {
    return Error{
        Errc::unavailable, fmt::format("port {} is in use by another program", port),
        fmt::format("choose another with MASTER_PORT, or see who has it: ss -ltnp 'sport = {}'",
                    port)};
  }
  if (errno == EACCES) {
    return Error{Errc::unavailable, fmt::format("port {} needs more rights than we have", port),
                 "choose one above 1023 with MASTER_PORT"};
  }
  return Error{Errc::io, fmt::format("port {}: {}", port, std::strerror(errno))};
}

/// Binds and listens; the socket is closed where that fails.
Result<int> listening(int fd, const sockaddr* address, socklen_t length, int port) {
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd, address, length) == 0 && ::listen(fd, 128) == 0) return fd;
  const Error error = port_error(port);
  ::close(fd);
  return error;
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name = {};
  ::gethostname(name.data(), name.size() - 1);
  return clean_text(name.data(), 255);
}

Result<int> listen_on(const std::string& host, int port) {
  const auto number = htons(static_cast<std::uint16_t>(port));
  if (!is_loopback(host)) {
    const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {  // IPv6 with IPv4 on top
      const int off = 0;
      ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
      sockaddr_in6 any = {};
      any.sin6_family = AF_INET6;
      any.sin6_port = number;
      return listening(fd, reinterpret_cast<const sockaddr*>(&any), sizeof(any), port);
    }
  }
  const bool six = host == "::1";
  const int fd = ::socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return port_error(port);
  if (six) {
    sockaddr_in6 address = {};
    address.sin6_family = AF_INET6;
    address.sin6_port = number;
    address.sin6_addr = in6addr_loopback;
    return listening(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address), port);
  }
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = number;
  address.sin_addr.s_addr = htonl(is_loopback(host) ? INADDR_LOOPBACK : INADDR_ANY);
  return listening(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address), port);
}

Result<int> port_of(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return Error{Errc::io, fmt::format("getsockname: {}", std::strerror(errno))};
  }
  return port_in(address);
}

void end_connections(int except_port) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    const auto fd = to_integer(entry.path().filename().string());
    sockaddr_storage own = {}, peer = {};
    socklen_t own_length = sizeof(own), peer_length = sizeof(peer);
    if (!fd ||
        ::getpeername(static_cast<int>(*fd), reinterpret_cast<sockaddr*>(&peer), &peer_length) !=
            0 ||
        ::getsockname(static_cast<int>(*fd), reinterpret_cast<sockaddr*>(&own), &own_length) != 0 ||
        (peer.ss_family != AF_INET && peer.ss_family != AF_INET6) || port_in(own) == except_port ||
        port_in(peer) == except_port) {
      continue;
    }
    ::shutdown(static_cast<int>(*fd), SHUT_RDWR);
  }
}

Result<std::string> address_towards(const std::string& host) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), "9", &hints, &list);
  if (failed != 0) {
    return Error{
        Errc::unavailable,
        fmt::format("host '{}' is not known: {}", clean_text(host, 80), ::gai_strerror(failed)),
        "set MASTER_ADDR to a name or address of rank 0's host that every host can resolve"};
  }
  const Addresses addresses(list, ::freeaddrinfo);
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    const int fd = ::socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    sockaddr_storage own = {};
    socklen_t length = sizeof(own);
    // connecting a datagram socket only asks the routing table
    const bool routed = ::connect(fd, at->ai_addr, at->ai_addrlen) == 0 &&
                        ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0;
    ::close(fd);
    if (routed) return text_of(reinterpret_cast<const sockaddr*>(&own));
  }
  return Error{Errc::unavailable, fmt::format("no route to host '{}'", clean_text(host, 80)),
               "ip route get ADDRESS shows what this host knows"};
}

Result<std::string> interface_of(const std::string& address) {
  const Interfaces list = interfaces();
  for (const ifaddrs* at = list.get(); at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr != nullptr && text_of(at->ifa_addr) == address)
      return std::string(at->ifa_name);
  }
  return Error{Errc::unavailable, fmt::format("no interface has the address {}", address),
               "--interface NAME: " + interface_names()};
}

std::string interface_names() {
  const Interfaces list = interfaces();
  std::vector<std::string> names;
  for (const ifaddrs* at = list.get(); at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0) continue;
    if (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6) continue;
    if (std::find(names.begin(), names.end(), at->ifa_name) == names.end()) {
      names.emplace_back(at->ifa_name);
    }
  }
  return join(names, ", ");
}

}  // namespace rigwise::engine
