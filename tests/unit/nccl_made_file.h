// Files of the NCCL plug-in, made by hand, record by record, so that what is in them is known.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "profile/nccl/format.h"
#include "rigwise/nccl.h"

namespace rigwise::nccl_made {

namespace file = nccl_file;

inline constexpr std::int64_t kSecond = 1'000'000'000;

template <class T>
std::string sealed(T record) {
  std::array<std::uint32_t, sizeof(T) / 4> words = {};
  std::memcpy(words.data(), &record, sizeof record);
  record.check = file::checksum(words.data() + 1, words.size() - 1);
  return {reinterpret_cast<const char*>(&record), sizeof record};
}

/// A file, record by record. Instants are seconds of the host's clock.
class File {
 public:
  explicit File(const std::string& host = "ann", int pid = 100) {
    std::memcpy(header_.magic, file::kMagic, sizeof header_.magic);
    header_.version = file::kVersion;
    header_.header_bytes = sizeof(file::Header);
    header_.record_bytes = sizeof(file::Record);
    header_.state = file::kClosed;
    header_.pid = pid;
    header_.abi = 6;
    header_.nccl_version = 22907;
    header_.flags = file::kKernels;
    header_.opened_ns = 5 * kSecond;
    header_.opened_realtime_ns = 1'800'000'005 * kSecond;
    host.copy(header_.host, sizeof header_.host - 1);
  }
  file::Header& header() { return header_; }

  File& comm(std::uint64_t hash, int rank, int ranks, const std::string& name = "dp") {
    file::CommunicatorRecord record = {};
    record.kind = file::kCommunicator;
    record.comm = static_cast<std::uint16_t>(++comms_);
    record.hash = hash;
    record.rank = rank;
    record.ranks = ranks;
    record.nodes = 1;
    name.copy(record.name, sizeof record.name - 1);
    records_ += sealed(record);
    return *this;
  }
  File& window(double start_s, double end_s) {
    file::WindowRecord record = {};
    record.kind = file::kWindow;
    record.mask = 70;
    record.start_ns = ns(start_s);
    record.end_ns = ns(end_s);
    record.start_realtime_ns = 1'800'000'000 * kSecond + ns(start_s);
    records_ += sealed(record);
    return *this;
  }
  /// On the first communicator; the GPU's timer is `ahead_ns_` ahead of the host's clock.
  File& operation(std::uint64_t sequence, double enqueued_s, double start_s, double end_s,
                  std::uint8_t function = file::kAllReduce, std::uint64_t count = 1'000'000,
                  double poll_delay_s = 5e-6) {
    file::OperationRecord record = {};
    record.kind = file::kOperation;
    record.function = function;
    record.datatype = 8;  // float32
    record.flags = file::kGpuTimes | file::kPolled;
    record.comm = 1;
    record.channels = record.channels_seen = 2;
    record.sequence = sequence;
    record.count = count;
    record.enqueued_ns = ns(enqueued_s);
    record.returned_ns = ns(enqueued_s) + 1000;
    record.gpu_start_ns = static_cast<std::uint64_t>(ns(start_s) + ahead_ns);
    record.gpu_stop_ns = static_cast<std::uint64_t>(ns(end_s) + ahead_ns);
    record.poll_start_ns = ns(start_s + poll_delay_s);
    record.poll_stop_ns = ns(end_s + poll_delay_s);
    return raw(record);
  }
  File& raw(const file::OperationRecord& record) {
    records_ += sealed(record);
    return *this;
  }
  File& bytes(const std::string& bytes) {
    records_ += bytes;
    return *this;
  }

  [[nodiscard]] std::string text() const {
    file::Header header = header_;
    std::array<std::uint32_t, sizeof header / 4> words = {};
    std::memcpy(words.data(), &header, sizeof header);
    header.check = file::checksum(words.data(), words.size() - 1);
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) + records_;
  }
  [[nodiscard]] NcclRank rank() const {
    auto rank = parse_nccl(text());
    EXPECT_TRUE(rank.ok());
    return rank.ok() ? std::move(*rank) : NcclRank{};
  }
  static std::int64_t ns(double seconds) { return static_cast<std::int64_t>(seconds * 1e9 + 0.5); }

  std::int64_t ahead_ns = 777 * kSecond;

 private:
  file::Header header_ = {};
  std::string records_;
  int comms_ = 0;
};

/// `late` comes 30 ms after the other to each of 20 all-reduces of 4 MB; the data moves for 10 ms.
inline std::array<File, 2> two_files(int late, double lateness_s = 0.030, double moving_s = 0.010) {
  std::array<File, 2> files = {File("ann", 100), File("ann", 101)};
  for (int r = 0; r < 2; ++r) {
    File& file = files[static_cast<std::size_t>(r)];
    file.ahead_ns = (r + 1) * 1000 * kSecond;  // each GPU has a timer of its own
    file.comm(0xabc, r, 2).window(10, 12);
    for (int i = 0; i < 20; ++i) {
      const double at = 10.05 + 0.09 * i;
      const double start = at + (r == late ? lateness_s : 0);
      file.operation(static_cast<std::uint64_t>(i), start - 20e-6, start,
                     at + lateness_s + moving_s);
    }
  }
  return files;
}

}  // namespace rigwise::nccl_made
