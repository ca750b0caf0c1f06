// What the readers of stores share. Private to src/logs/stores*.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "rigwise/logs_stores.h"

namespace rigwise::stores {

inline constexpr std::size_t kMostEntries = 2'000'000, kMostValues = 512, kMostSettings = 2000;

/// One value as the store holds it.
struct Point {
  std::optional<double> unix_s = {};
  std::optional<std::int64_t> step = {};
  std::string name = {};
  double value = 0;
};

/// Joins points to entries. Points come in the order in which they were written.
class Grouper {
 public:
  explicit Grouper(MetricStore& store) : store_(store) {}
  void add(Point point);
  /// Many values that the store itself keeps together.
  void add(MetricEntry entry);

 private:
  MetricStore& store_;
  std::string family_;
  bool open_ = false;
};

/// Settings out of a JSON object, nested names joined by '.'; lists of plain values by ','.
void add_settings(const Json& json, const std::string& prefix, MetricStore& store, int depth = 0);
/// A value of JSON as a setting's text; empty where it is no plain value.
std::string setting_text(const Json& value);

/// Names of the machine's own figures, which trackers keep beside the metrics: no training metric.
bool is_system_name(std::string_view name);

/// The trainer's own count of steps, which beats the tracker's count of calls.
bool is_step_name(std::string_view name);

/// Keeps a reading of the machine; what was read at the same instant is joined. Within bounds.
void add_system(double unix_s, std::string name, double value, MetricStore& store);

inline constexpr std::size_t kMostJsonBytes = std::size_t{64} << 20;

// ------------------------------------------------------------------------------------- protobuf

/// Walks the fields of one protobuf message (wire format of
/// protobuf.dev/programming-guides/encoding).
class ProtoFields {
 public:
  explicit ProtoFields(std::string_view bytes) : rest_(bytes) {}
  /// The next field; false at the end or where the bytes are no message (malformed() says which).
  bool next();
  [[nodiscard]] std::uint32_t number() const { return number_; }
  [[nodiscard]] int wire() const { return wire_; }  // 0 varint, 1 64 bit, 2 bytes, 5 32 bit
  [[nodiscard]] std::uint64_t integer() const { return value_; }   // of wire types 0, 1 and 5
  [[nodiscard]] std::string_view bytes() const { return bytes_; }  // of wire type 2
  [[nodiscard]] double real() const;                               // of a double or float field
  [[nodiscard]] bool malformed() const { return malformed_; }

 private:
  std::string_view rest_, bytes_;
  std::uint32_t number_ = 0;
  int wire_ = 0;
  std::uint64_t value_ = 0;
  bool malformed_ = false;
};

/// The shortest decimal that reads back as this float: 1e-04, not 9.999999747378752e-05.
double shortest(float value);

/// A varint at the start of `bytes`, taken off it.
std::optional<std::uint64_t> take_varint(std::string_view& bytes);
std::uint64_t little_endian(std::string_view bytes, std::size_t count);

}  // namespace rigwise::stores
