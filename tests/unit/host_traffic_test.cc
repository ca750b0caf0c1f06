// Traffic: connections of this program, and answers that no kernel gives.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <random>
#include <string>

#include "base/files.h"
#include "host/traffic.h"

namespace rigwise {
namespace {

/// What this program's connections have carried once 1000 bytes went from it to itself.
std::optional<Traffic> of_a_thousand(std::uint32_t host) {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Fd near(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = host;
  socklen_t size = sizeof address;
  auto* where = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), where, size), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), where, &size), 0);
  EXPECT_EQ(::connect(near.get(), where, size), 0);
  const Fd far(::accept(listener.get(), nullptr, nullptr));
  std::string rows(1000, 'x');
  EXPECT_EQ(::send(near.get(), rows.data(), rows.size(), 0), 1000);
  EXPECT_EQ(::recv(far.get(), rows.data(), rows.size(), MSG_WAITALL), 1000);
  return traffic_of({::getpid()});
}

/// An address of this machine that is not loopback; 0: there is none.
std::uint32_t own_address() {
  ifaddrs* all = nullptr;
  std::uint32_t found = 0;
  if (::getifaddrs(&all) != 0) return 0;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    const auto host = reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr;
    if (ntohl(host) >> 24 != 127) found = host;
  }
  ::freeifaddrs(all);
  return found;
}

TEST(HostTraffic, CountsWhatConnectionsCarryButForLoopback) {
  const auto loopback = of_a_thousand(htonl(INADDR_LOOPBACK));
  if (!loopback) GTEST_SKIP() << "the kernel does not tell";
  EXPECT_TRUE(loopback->empty());
  const std::uint32_t own = own_address();
  if (own == 0) GTEST_SKIP() << "this machine has no network";
  const auto traffic = of_a_thousand(own);
  ASSERT_TRUE(traffic);
  ASSERT_EQ(traffic->size(), 2U);  // both ends are ours
  EXPECT_GE(carried({}, *traffic), 2000);
  EXPECT_LE(carried({}, *traffic), 2010);  // a SYN counts as a byte
}

TEST(HostTraffic, WhatWasCarriedSince) {
  // 2 went on, 3 is new, 1 was closed, 4's inode was given away
  EXPECT_EQ(carried({{1, 50}, {2, 100}, {4, 70}}, {{2, 130}, {3, 9}, {4, 5}}), 39);
  EXPECT_EQ(carried({}, {}), 0);
}

TEST(HostTraffic, StrangeAnswersEndIt) {
  std::mt19937_64 random(1);
  Traffic into;
  for (int i = 0; i < 20000; ++i) {
    std::string answer(random() % 200, '\0');
    for (char& c : answer)
      c = static_cast<char>(random() % 3 == 0 ? random() % 256 : random() % 32);
    parse_traffic(answer, into);  // no crash, no loop
  }
  EXPECT_FALSE(parse_traffic(std::string(16, '\0'), into));
}

}  // namespace
}  // namespace rigwise
