#include "host/traffic.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/files.h"
#include "host/peers.h"

namespace rigwise {

namespace {

constexpr std::uint32_t kEstablished = 1;  // TCP_ESTABLISHED
constexpr int kMostAnswers = 1024;

template <class T>
std::optional<T> at(std::string_view bytes, std::size_t offset) {
  T value = {};
  if (offset > bytes.size() || bytes.size() - offset < sizeof value) return std::nullopt;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

bool to_this_machine(const inet_diag_msg& one) {
  const auto first = static_cast<std::uint32_t>(ntohl(one.id.idiag_dst[0]));
  if (one.idiag_family == AF_INET) return first >> 24 == 127;
  const auto last = static_cast<std::uint32_t>(ntohl(one.id.idiag_dst[3]));
  const auto third = static_cast<std::uint32_t>(ntohl(one.id.idiag_dst[2]));
  const bool mapped = first == 0 && one.id.idiag_dst[1] == 0 && third == 0xffff;
  const bool loopback = first == 0 && one.id.idiag_dst[1] == 0 && third == 0 && last == 1;
  return loopback || (mapped && last >> 24 == 127);
}

/// tcp_info grew over the years: an older kernel's is shorter, and then nothing is known.
std::optional<double> bytes_of(std::string_view info) {
  const auto acked = at<std::uint64_t>(info, offsetof(tcp_info, tcpi_bytes_acked));
  const auto received = at<std::uint64_t>(info, offsetof(tcp_info, tcpi_bytes_received));
  if (!acked || !received) return std::nullopt;
  return static_cast<double>(*acked) + static_cast<double>(*received);
}

bool ask(int socket, std::uint8_t family) {
  struct {
    nlmsghdr header = {};
    inet_diag_req_v2 request = {};
  } message;
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  message.request.sdiag_family = family;
  message.request.sdiag_protocol = IPPROTO_TCP;
  message.request.idiag_ext = 1 << (INET_DIAG_INFO - 1);
  message.request.idiag_states = 1U << kEstablished;
  return ::send(socket, &message, sizeof message, 0) == sizeof message;
}

}  // namespace

bool parse_traffic(std::string_view answer, Traffic& into) {
  while (const auto header = at<nlmsghdr>(answer, 0)) {
    const std::size_t size = header->nlmsg_len;
    if (size < sizeof *header || size > answer.size()) return false;
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return false;  // done, or refused
    const std::string_view body = answer.substr(sizeof *header, size - sizeof *header);
    const auto one = at<inet_diag_msg>(body, 0);
    for (std::size_t offset = sizeof *one; one && !to_this_machine(*one);) {
      const auto attribute = at<rtattr>(body, offset);
      if (!attribute || attribute->rta_len < sizeof *attribute ||
          attribute->rta_len > body.size() - offset)
        break;
      if (attribute->rta_type == INET_DIAG_INFO) {
        const auto info = body.substr(offset + RTA_LENGTH(0), attribute->rta_len - RTA_LENGTH(0));
        if (const auto bytes = bytes_of(info)) into[one->idiag_inode] = *bytes;
      }
      offset += RTA_ALIGN(attribute->rta_len);
    }
    answer.remove_prefix(std::min<std::size_t>(NLMSG_ALIGN(size), answer.size()));
  }
  return true;
}

std::optional<Traffic> traffic_of(const std::vector<int>& pids) {
  const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!socket.valid()) return std::nullopt;
  const timeval patience = {.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  Traffic all;
  for (const int family : {AF_INET, AF_INET6}) {
    if (!ask(socket.get(), static_cast<std::uint8_t>(family))) return std::nullopt;
    alignas(nlmsghdr) std::array<char, 32768> buffer;
    for (int i = 0;; ++i) {
      const ssize_t size = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (size <= 0 || i == kMostAnswers) return std::nullopt;
      if (!parse_traffic({buffer.data(), static_cast<std::size_t>(size)}, all)) break;
    }
  }
  Traffic own;
  for (const int pid : pids) {
    for (const auto inode : open_files_of("/proc", pid).sockets) {
      if (auto found = all.extract(inode)) own.insert(std::move(found));
    }
  }
  return own;
}

double carried(const Traffic& before, const Traffic& now) {
  double sum = 0;
  for (const auto& [inode, bytes] : now) {
    const auto was = before.find(inode);
    sum += std::max(0.0, bytes - (was == before.end() ? 0 : was->second));
  }
  return sum;
}

}  // namespace rigwise
