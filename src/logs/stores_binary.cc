// Stores that are binary: TensorBoard's event files and W&B's transaction log. Both are records of
// protobuf messages; only the fields named here are read.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/text.h"
#include "logs/stores.h"

namespace rigwise {

namespace stores {

namespace {

// ------------------------------------------------------------------------------------ TFRecord

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as TFRecord and LevelDB use it.
constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table = {};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = value;
  }
  return table;
}();

std::uint32_t masked_crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) {
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  }
  crc ^= 0xFFFFFFFFU;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

enum class Framing { whole, cut, broken };

/// The next record, taken off `rest`.
Framing take_record(std::string_view& rest, std::string_view& record) {
  if (rest.size() < 12) return Framing::cut;
  const std::uint64_t length = little_endian(rest, 8);
  const auto check = static_cast<std::uint32_t>(little_endian(rest.substr(8), 4));
  if (masked_crc32c(rest.substr(0, 8)) != check) return Framing::broken;
  if (length > rest.size() || rest.size() - 12 < length || rest.size() - 12 - length < 4)
    return Framing::cut;
  record = rest.substr(12, static_cast<std::size_t>(length));
  const auto sum = static_cast<std::uint32_t>(little_endian(rest.substr(12 + record.size()), 4));
  rest.remove_prefix(16 + record.size());
  return masked_crc32c(record) == sum ? Framing::whole : Framing::broken;
}

// ------------------------------------------------------------------------------------ TensorBoard

// tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto
constexpr std::uint32_t kEventWallTime = 1, kEventStep = 2, kEventSummary = 5;
constexpr std::uint32_t kSummaryValue = 1, kValueTag = 1, kValueSimple = 2, kValueTensor = 8;
constexpr std::uint32_t kTensorDtype = 1, kTensorContent = 4, kTensorHalf = 13, kTensorFloat = 5,
                        kTensorDouble = 6, kTensorInt = 7, kTensorString = 8, kTensorInt64 = 10;
constexpr std::uint64_t kFloat = 1, kDouble = 2, kInt32 = 3, kInt64 = 9, kBfloat16 = 14, kHalf = 19;

double half_to_double(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F;
  const double fraction = bits & 0x3FF;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

struct Tensor {
  std::optional<double> scalar = {};
  std::optional<std::string> text = {};
};

/// The first element that a *_val field holds: packed or not.
std::optional<double> first_value(const ProtoFields& field, std::uint64_t dtype) {
  const auto narrow = [&](std::uint64_t bits) {
    if (dtype == kBfloat16)
      return static_cast<double>(
          std::bit_cast<float>(static_cast<std::uint32_t>(bits & 0xFFFF) << 16));
    if (dtype == kHalf) return half_to_double(static_cast<std::uint16_t>(bits));
    return static_cast<double>(static_cast<std::int64_t>(bits));
  };
  if (field.wire() == 1 || field.wire() == 5) return field.real();
  if (field.wire() == 0) return narrow(field.integer());
  auto packed = field.bytes();
  if (field.number() == kTensorFloat) {
    if (packed.size() < 4) return std::nullopt;
    return shortest(std::bit_cast<float>(static_cast<std::uint32_t>(little_endian(packed, 4))));
  }
  if (field.number() == kTensorDouble) {
    if (packed.size() < 8) return std::nullopt;
    return std::bit_cast<double>(little_endian(packed, 8));
  }
  const auto value = take_varint(packed);
  return value ? std::optional(narrow(*value)) : std::nullopt;
}

std::optional<double> content_value(std::string_view content, std::uint64_t dtype) {
  if (dtype == kFloat && content.size() == 4)
    return shortest(std::bit_cast<float>(static_cast<std::uint32_t>(little_endian(content, 4))));
  if (dtype == kDouble && content.size() == 8)
    return std::bit_cast<double>(little_endian(content, 8));
  if (dtype == kInt32 && content.size() == 4)
    return static_cast<std::int32_t>(little_endian(content, 4));
  if (dtype == kInt64 && content.size() == 8)
    return static_cast<double>(static_cast<std::int64_t>(little_endian(content, 8)));
  if (dtype == kHalf && content.size() == 2)
    return half_to_double(static_cast<std::uint16_t>(little_endian(content, 2)));
  if (dtype == kBfloat16 && content.size() == 2)
    return static_cast<double>(
        std::bit_cast<float>(static_cast<std::uint32_t>(little_endian(content, 2)) << 16));
  return std::nullopt;  // more than one element, or of a type that is no number
}

Tensor tensor_of(std::string_view bytes) {
  Tensor tensor;
  std::uint64_t dtype = 0;
  ProtoFields field(bytes);
  while (field.next()) {
    switch (field.number()) {
      case kTensorDtype:
        dtype = field.integer();
        break;
      case kTensorContent:
        if (field.wire() == 2) tensor.scalar = content_value(field.bytes(), dtype);
        break;
      case kTensorHalf:
      case kTensorFloat:
      case kTensorDouble:
      case kTensorInt:
      case kTensorInt64:
        if (!tensor.scalar) tensor.scalar = first_value(field, dtype);
        break;
      case kTensorString:
        if (field.wire() == 2 && !tensor.text)
          tensor.text = std::string(field.bytes().substr(0, 1 << 20));
        break;
      default:
        break;
    }
  }
  return tensor;
}

/// The arguments that Hugging Face's and others' callbacks write as a text: a JSON object.
void take_text(const std::string& tag, const std::string& text, MetricStore& store) {
  if (tag.find("args") == std::string::npos && tag.find("hparams") == std::string::npos) return;
  const auto open = text.find('{');
  if (open == std::string::npos) return;
  if (const auto json = parse_foreign_json(
          std::string_view(text).substr(open, text.rfind('}') - open + 1), kMostJsonBytes)) {
    add_settings(*json, "", store);
  }
}

void take_value(std::string_view bytes, std::optional<double> unix_s,
                std::optional<std::int64_t> step, Grouper& grouper, MetricStore& store) {
  Point point = {.unix_s = unix_s, .step = step};
  std::optional<double> value;
  std::string text;
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.number() == kValueTag && field.wire() == 2)
      point.name = clean_text(field.bytes(), 200);
    if (field.number() == kValueSimple && field.wire() == 5) value = field.real();
    if (field.number() == kValueTensor && field.wire() == 2) {
      Tensor tensor = tensor_of(field.bytes());
      if (tensor.text) text = std::move(*tensor.text);
      if (tensor.scalar) value = tensor.scalar;
    }
  }
  if (!text.empty()) return take_text(point.name, text, store);
  if (!value || point.name.empty()) {
    ++store.reading.lines;
    ++store.reading.skipped;  // a histogram, an image
    return;
  }
  point.value = *value;
  grouper.add(std::move(point));
}

void take_event(std::string_view bytes, Grouper& grouper, MetricStore& store) {
  std::optional<double> unix_s;
  std::int64_t step = 0;  // proto3 leaves zero out
  std::vector<std::string_view> values;
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.number() == kEventWallTime && field.wire() == 1) {
      const double seconds = field.real();
      if (std::isfinite(seconds) && seconds > 0 && seconds < 1e11) unix_s = seconds;
    }
    if (field.number() == kEventStep && field.wire() == 0)
      step = static_cast<std::int64_t>(field.integer());
    if (field.number() != kEventSummary || field.wire() != 2) continue;
    ProtoFields summary(field.bytes());
    while (summary.next() && values.size() < kMostValues) {
      if (summary.number() == kSummaryValue && summary.wire() == 2)
        values.push_back(summary.bytes());
    }
  }
  if (field.malformed()) ++store.reading.malformed;
  if (unix_s && !store.begin_unix_s) store.begin_unix_s = unix_s;  // of the file's first event
  if (unix_s) store.end_unix_s = unix_s;
  for (const auto value : values) take_value(value, unix_s, step, grouper, store);
}

// ------------------------------------------------------------------------------------------- W&B

// wandb/proto/wandb_internal.proto
constexpr std::uint32_t kRecordHistory = 2, kRecordSummary = 3, kRecordConfig = 5, kRecordStats = 7,
                        kRecordRun = 17, kRecordExit = 18, kRecordEnvironment = 26;
constexpr std::uint32_t kItemKey = 1, kItemNestedKey = 2, kItemValue = 16;
constexpr std::uint32_t kUpdate = 1, kRunConfig = 4, kRunDisplayName = 8, kRunHost = 13,
                        kRunStart = 17;
constexpr std::uint32_t kEnvironmentPython = 2, kEnvironmentArgs = 5, kEnvironmentProgram = 6,
                        kEnvironmentGit = 9, kEnvironmentHost = 12, kEnvironmentCuda = 25;

struct Item {
  std::string key = {};
  std::string_view json = {};
};

Item item_of(std::string_view bytes) {
  Item item;
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.wire() != 2) continue;
    if (field.number() == kItemKey) item.key = clean_text(field.bytes(), 200);
    if (field.number() == kItemNestedKey) {
      if (!item.key.empty()) item.key += '/';
      item.key += clean_text(field.bytes(), 200);
    }
    if (field.number() == kItemValue) item.json = field.bytes();
  }
  return item;
}

std::optional<double> json_scalar(std::string_view text) {
  text = trim(text);
  if (text == "\"NaN\"" || text == "NaN") return NAN;
  if (text == "\"Infinity\"" || text == "Infinity") return INFINITY;
  if (text == "\"-Infinity\"" || text == "-Infinity") return -INFINITY;
  return to_number(text);
}

void take_history(std::string_view bytes, Grouper& grouper) {
  MetricEntry entry;
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.number() == 2 && field.wire() == 2) {
      ProtoFields step(field.bytes());
      while (step.next()) {
        if (step.number() == 1 && step.wire() == 0 && !entry.step)
          entry.step = static_cast<std::int64_t>(step.integer());
      }
    }
    if (field.number() != 1 || field.wire() != 2 || entry.values.size() >= kMostValues) continue;
    const Item item = item_of(field.bytes());
    const auto value = json_scalar(item.json);
    if (!value) continue;
    if (is_step_name(item.key)) {
      entry.step = static_cast<std::int64_t>(*value);
    } else if (item.key == "_timestamp") {
      if (std::isfinite(*value) && *value > 0 && *value < 1e11) entry.unix_s = *value;
    } else if (!is_system_name(item.key)) {
      entry.values.emplace_back(item.key, *value);
    }
  }
  grouper.add(std::move(entry));
}

/// A google.protobuf.Timestamp.
std::optional<double> instant_of(std::string_view bytes) {
  double seconds = 0, nanos = 0;
  ProtoFields stamp(bytes);
  while (stamp.next()) {
    if (stamp.wire() != 0) continue;
    const auto value = static_cast<double>(static_cast<std::int64_t>(stamp.integer()));
    if (stamp.number() == 1) seconds = value;
    if (stamp.number() == 2) nanos = value;
  }
  if (!(seconds > 0 && seconds < 1e11)) return std::nullopt;
  return seconds + nanos * 1e-9;
}

/// What W&B measured of the machine: StatsRecord {timestamp = 2, item = 3 {key = 1, value_json =
/// 16}}.
void take_stats(std::string_view bytes, MetricStore& store) {
  std::optional<double> at;
  std::vector<Item> items;
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.wire() != 2) continue;
    if (field.number() == 2) at = instant_of(field.bytes());
    if (field.number() == 3 && items.size() < kMostValues) items.push_back(item_of(field.bytes()));
  }
  for (auto& item : items) {
    const auto value = json_scalar(item.json);
    if (at && value) add_system(*at, std::move(item.key), *value, store);
  }
}

void take_config(std::string_view bytes, MetricStore& store) {
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.number() != kUpdate || field.wire() != 2) continue;
    const Item item = item_of(field.bytes());
    if (item.key.empty() || item.key.starts_with("_wandb") ||
        store.settings.size() >= kMostSettings)
      continue;
    const auto json = parse_foreign_json(item.json, kMostJsonBytes);
    if (!json) continue;
    if (json->is_object()) {
      add_settings(*json, item.key + '.', store);
    } else if (auto text = setting_text(*json); !text.empty()) {
      store.settings.emplace_back(item.key, std::move(text));
    }
  }
}

void take_run(std::string_view bytes, MetricStore& store) {
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.wire() != 2) continue;
    if (field.number() == kRunConfig) take_config(field.bytes(), store);
    if (field.number() == kRunDisplayName) store.name = clean_text(field.bytes(), 100);
    if (field.number() == kRunHost) store.host = clean_text(field.bytes(), 100);
    if (field.number() != kRunStart) continue;
    if (const auto at = instant_of(field.bytes())) store.begin_unix_s = at;
  }
}

void take_environment(std::string_view bytes, MetricStore& store) {
  std::string program;
  std::vector<std::string> args;
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.wire() != 2) continue;
    const std::string text = clean_text(field.bytes(), 1000);
    if (field.number() == kEnvironmentPython)
      store.versions.emplace_back("python",
                                  text.substr(text.find_first_of("0123456789") == std::string::npos
                                                  ? 0
                                                  : text.find_first_of("0123456789")));
    if (field.number() == kEnvironmentCuda) store.versions.emplace_back("cuda_of_driver", text);
    if (field.number() == kEnvironmentProgram) program = text;
    if (field.number() == kEnvironmentArgs && args.size() < 1000) args.push_back(text);
    if (field.number() == kEnvironmentHost) store.host = clean_text(text, 100);
    if (field.number() == kEnvironmentGit) {
      ProtoFields git(field.bytes());
      while (git.next()) {
        if (git.number() == 2 && git.wire() == 2) store.git_commit = clean_text(git.bytes(), 64);
      }
    }
  }
  if (program.empty() || !store.command.empty()) return;
  store.command = {"python", program};
  store.command.insert(store.command.end(), args.begin(), args.end());
}

void take_wandb_record(std::string_view bytes, Grouper& grouper, MetricStore& store) {
  ProtoFields field(bytes);
  while (field.next()) {
    if (field.wire() != 2) continue;
    switch (field.number()) {
      case kRecordHistory:
        take_history(field.bytes(), grouper);
        break;
      case kRecordStats:
        take_stats(field.bytes(), store);
        break;
      case kRecordConfig:
        take_config(field.bytes(), store);
        break;
      case kRecordRun:
        take_run(field.bytes(), store);
        break;
      case kRecordEnvironment:
        take_environment(field.bytes(), store);
        break;
      case kRecordExit: {
        ProtoFields exit(field.bytes());
        std::uint64_t code = 0;
        while (exit.next()) {
          if (exit.number() == 1 && exit.wire() == 0) code = exit.integer();
        }
        store.ended_well = code == 0;
        break;
      }
      case kRecordSummary:
      default:
        break;
    }
  }
  if (field.malformed()) ++store.reading.malformed;
}

constexpr std::size_t kBlock = 32768, kBlockHeader = 7;

}  // namespace

}  // namespace stores

bool looks_like_event_file(std::string_view head) {
  using namespace stores;
  if (head.size() < 12) return false;
  return little_endian(head, 8) < (std::uint64_t{1} << 30) &&
         masked_crc32c(head.substr(0, 8)) ==
             static_cast<std::uint32_t>(little_endian(head.substr(8), 4));
}

bool looks_like_wandb_log(std::string_view head) {
  return head.size() >= stores::kBlockHeader && head.starts_with(":W&B");
}

Result<MetricStore> read_event_file(std::string_view bytes) {
  using namespace stores;
  if (!looks_like_event_file(bytes)) {
    return Error{Errc::malformed,
                 "not a TensorBoard event file: its first record's checksum is off"};
  }
  MetricStore store = {.kind = "tensorboard"};
  Grouper grouper(store);
  std::string_view record;
  for (;;) {
    if (bytes.empty()) break;
    const Framing framing = take_record(bytes, record);
    if (framing == Framing::whole) {
      take_event(record, grouper, store);
      continue;
    }
    if (framing == Framing::broken) {
      ++store.reading.malformed;
      store.notes.emplace_back("a record's checksum is off: what follows it was not read");
    } else {
      store.notes.emplace_back("the last record is cut off");
    }
    break;
  }
  return store;
}

Result<MetricStore> read_wandb_log(std::string_view bytes) {
  using namespace stores;
  if (!looks_like_wandb_log(bytes))
    return Error{Errc::malformed, "not a W&B log: it has another header"};
  MetricStore store = {.kind = "wandb"};
  Grouper grouper(store);
  // LevelDB's log format (doc/log_format.md): blocks of 32 KiB, a record never begins in the last
  // six bytes of one; a record larger than its block comes in parts.
  constexpr char kFull = 1, kFirst = 2, kLast = 4;
  constexpr std::size_t kMostRecord = std::size_t{64} << 20;
  std::string parts;
  std::size_t at = kBlockHeader;
  bool cut = false;
  while (at < bytes.size()) {
    const std::size_t left = kBlock - at % kBlock;
    if (left < kBlockHeader) {
      at += left;
      continue;
    }
    if (bytes.size() - at < kBlockHeader) {
      cut = true;
      break;
    }
    const auto length = static_cast<std::size_t>(little_endian(bytes.substr(at + 4), 2));
    const char type = bytes[at + 6];
    if (type == 0 && length == 0) {  // room that was set aside and never written
      at += left;
      continue;
    }
    if (kBlockHeader + length > left || type < kFull || type > kLast) {
      ++store.reading.malformed;
      at += left;  // the next block begins anew
      parts.clear();
      continue;
    }
    if (bytes.size() - at - kBlockHeader < length) {
      cut = true;
      break;
    }
    const auto data = bytes.substr(at + kBlockHeader, length);
    at += kBlockHeader + length;
    if (type == kFull) {
      take_wandb_record(data, grouper, store);
      continue;
    }
    if (type == kFirst) parts.clear();
    if (parts.size() + data.size() > kMostRecord) parts.clear();
    parts += data;
    if (type == kLast) {
      take_wandb_record(parts, grouper, store);
      parts.clear();
    }
  }
  if (cut) store.notes.emplace_back("the last record is cut off");
  for (const auto& entry : store.entries) {
    if (entry.unix_s) store.end_unix_s = std::max(store.end_unix_s.value_or(0), *entry.unix_s);
  }
  std::stable_sort(store.system.begin(), store.system.end(),
                   [](const auto& a, const auto& b) { return a.unix_s < b.unix_s; });
  return store;
}

}  // namespace rigwise
