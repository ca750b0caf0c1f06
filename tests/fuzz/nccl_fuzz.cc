// The NCCL plug-in's files. What the bytes say is sealed again, so that the checks do not keep the
// fuzzer from what lies behind them; then the two halves are read as two ranks and joined.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "profile/nccl/format.h"
#include "rigwise/nccl.h"

namespace {

namespace file = rigwise::nccl_file;

void seal(char* bytes, std::size_t size, bool at_end) {
  std::vector<std::uint32_t> words(size / 4);
  std::memcpy(words.data(), bytes, size);
  const std::uint32_t check = at_end ? file::checksum(words.data(), words.size() - 1)
                                     : file::checksum(words.data() + 1, words.size() - 1);
  std::memcpy(bytes + (at_end ? size - 4 : 0), &check, sizeof check);
}

rigwise::Result<rigwise::NcclRank> read(std::string bytes) {
  if (bytes.size() >= sizeof(file::Header)) {
    file::Header header = {};
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memcpy(header.magic, file::kMagic, sizeof header.magic);
    header.version = file::kVersion;
    header.header_bytes = sizeof(file::Header);
    header.record_bytes = sizeof(file::Record);
    std::memcpy(bytes.data(), &header, sizeof header);
    seal(bytes.data(), sizeof header, true);
    for (std::size_t at = sizeof header; at + sizeof(file::Record) <= bytes.size();
         at += sizeof(file::Record)) {
      bytes[at + 4] = static_cast<char>(1 + (bytes[at + 4] & 3));
      bytes[at + 9] = 0;  // few communicators
      seal(bytes.data() + at, sizeof(file::Record), false);
    }
  }
  return rigwise::parse_nccl(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  static_cast<void>(rigwise::parse_nccl(bytes).ok());
  std::vector<rigwise::NcclRank> ranks;
  for (const auto& half : {bytes.substr(0, size / 2), bytes.substr(size / 2)}) {
    if (auto rank = read(half)) ranks.push_back(std::move(*rank));
  }
  const rigwise::NcclSummary summary = rigwise::summarise_nccl(ranks);
  for (const auto& rank : summary.ranks) {
    if (!(rank.communication_s >= 0) || !(rank.waiting_s >= 0)) std::abort();
  }
  return 0;
}
