// The datagrams of libkineto and its daemon: a head of a size and a type, then that many bytes.
#include <array>
#include <cmath>
#include <cstring>

#include "rigwise/kineto.h"

namespace rigwise {

namespace {

constexpr std::size_t kTypeBytes = 32;
constexpr std::size_t kHeadBytes = sizeof(std::uint64_t) + kTypeBytes;
constexpr std::size_t kMaxPids = 64;  // libkineto sends itself and ten ancestors
constexpr std::int32_t kActivities = 2;

template <class T>
T value_at(std::string_view bytes, std::size_t offset) {
  T value = {};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

struct ContextBody {
  std::int32_t gpu, pid;
  std::int64_t job;
};
struct RequestBody {
  std::int32_t type, count;
  std::int64_t job;
};

std::string head(std::string_view type, std::uint64_t size) {
  std::string bytes(kHeadBytes, '\0');
  std::memcpy(bytes.data(), &size, sizeof size);
  std::memcpy(bytes.data() + sizeof size, type.data(), type.size());
  return bytes;
}

Error malformed(const std::string& what) {
  return {Errc::malformed, "kineto: " + what};
}

}  // namespace

Result<KinetoMessage> parse_kineto_message(std::string_view datagram) {
  if (datagram.size() < kHeadBytes) return malformed("a datagram ends inside its head");
  const std::string_view body = datagram.substr(kHeadBytes);
  if (value_at<std::uint64_t>(datagram, 0) != body.size()) {
    return malformed("a datagram is not as long as it says");
  }
  std::string_view type = datagram.substr(sizeof(std::uint64_t), kTypeBytes);
  type = type.substr(0, type.find('\0'));
  KinetoMessage message;
  if (type == "ctxt") {
    if (body.size() != sizeof(ContextBody)) return malformed("ctxt of a wrong length");
    const auto context = value_at<ContextBody>(body, 0);
    message.kind = KinetoKind::context;
    message.job = context.job;
    message.pids.push_back(context.pid);
    return message;
  }
  if (type != "req") return malformed("a message of an unknown type");
  if (body.size() < sizeof(RequestBody)) return malformed("req ends early");
  const auto request = value_at<RequestBody>(body, 0);
  if (request.count < 0 || static_cast<std::size_t>(request.count) > kMaxPids ||
      body.size() != sizeof request + static_cast<std::size_t>(request.count) * 4) {
    return malformed("req with a wrong number of processes");
  }
  message.takes_trace = (request.type & kActivities) != 0;
  message.job = request.job;
  for (std::size_t i = 0; i < static_cast<std::size_t>(request.count); ++i) {
    message.pids.push_back(value_at<std::int32_t>(body, sizeof request + i * 4));
  }
  return message;
}

std::string kineto_answer(KinetoKind kind, std::string_view configuration) {
  if (kind == KinetoKind::context) {
    const std::int32_t count = 1;
    std::string bytes = head("ctxt", sizeof count);
    bytes.append(reinterpret_cast<const char*>(&count), sizeof count);
    return bytes;
  }
  return head("req", configuration.size()).append(configuration);
}

std::string kineto_configuration(const std::string& file, double start_unix_s, double length_s) {
  const auto ms = [](double seconds) { return std::to_string(std::llround(seconds * 1000)); };
  return "ACTIVITIES_LOG_FILE=" + file + "\nACTIVITIES_DURATION_MSECS=" + ms(length_s) +
         "\nACTIVITIES_WARMUP_PERIOD_SECS=1\nPROFILE_START_TIME=" + ms(start_unix_s) + "\n";
}

}  // namespace rigwise
