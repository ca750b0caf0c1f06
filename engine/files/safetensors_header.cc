// The header of a safetensors file, read without a tree: it may hold 100 MB of hostile JSON.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include "base/text.h"
#include "engine/files/safetensors.h"

namespace rigwise::engine {

namespace {

struct DtypeFacts {
  std::string_view name;
  std::uint64_t bits;
};
constexpr std::array<DtypeFacts, 22> kDtypes = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};

/// Takes the parser's events and holds them to {"__metadata__": {s: s}, NAME: {dtype, shape,
/// data_offsets}}. Members of a tensor that the format does not name are passed over, as the
/// reference reader does.
class HeaderEvents {
 public:
  SafetensorsHeader header;
  std::string wrong = {};  // what broke a rule, when parsing stopped for one

  bool null() {
    if (place_ == Place::top && is_metadata_) return true;
    return scalar("null");
  }
  bool boolean(bool) { return scalar("true or false"); }
  bool number_integer(std::int64_t) { return scalar("a negative number"); }
  bool number_float(double, const std::string&) { return scalar("a number that is no integer"); }
  bool binary(std::vector<std::uint8_t>&) { return scalar("bytes"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == Place::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return fail("a size that no program can hold");
      if (entry_.shape.size() >= kMostDims) return fail("more than 64 dimensions");
      entry_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_ >= 2) return fail("data_offsets must be [begin, end]");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    return scalar("a number");
  }

  bool string(std::string& value) {
    if (place_ == Place::metadata) {
      header.metadata.insert_or_assign(key_, std::move(value));
      return true;
    }
    if (place_ == Place::tensor && key_ == "dtype") {
      const auto dtype = dtype_of(value);
      if (!dtype) return fail("unknown dtype '" + clean_text(value, 40) + "'");
      entry_.dtype = *dtype;
      return true;
    }
    return scalar("a text");
  }

  bool start_object(std::size_t) {
    switch (place_) {
      case Place::before:
        place_ = Place::top;
        return true;
      case Place::top:
        if (is_metadata_) {
          place_ = Place::metadata;
        } else {
          place_ = Place::tensor;
          seen_.fill(false);
          offsets_ = 0;
        }
        return true;
      case Place::tensor:
        return open_unknown();
      case Place::unknown:
        return deepen();
      default:
        return fail("an object where none belongs");
    }
  }

  bool key(std::string& name) {
    switch (place_) {
      case Place::top:
        if (!names_.insert(name).second)
          return fail("two tensors are named '" + clean_text(name, 200) + "'");
        is_metadata_ = name == "__metadata__";
        if (!is_metadata_) {
          entry_ = {};
          entry_.name = std::move(name);
        }
        return true;
      case Place::metadata:
        key_ = std::move(name);
        if (header.metadata.contains(key_))
          return fail("metadata named twice: '" + clean_text(key_, 200) + "'");
        return true;
      case Place::tensor:
        key_ = std::move(name);
        for (std::size_t i = 0; i < kMembers.size(); ++i) {
          if (key_ != kMembers[i]) continue;
          if (seen_[i]) return fail(key_ + " twice");
          seen_[i] = true;
        }
        return true;
      default:
        return true;  // inside what is passed over
    }
  }

  bool end_object() {
    switch (place_) {
      case Place::metadata:
        place_ = Place::top;
        return true;
      case Place::tensor:
        for (std::size_t i = 0; i < kMembers.size(); ++i) {
          if (!seen_[i]) return fail("has no " + std::string(kMembers[i]));
        }
        if (offsets_ != 2) return fail("data_offsets must be [begin, end]");
        header.entries.push_back(std::move(entry_));
        entry_ = {};
        place_ = Place::top;
        return true;
      case Place::unknown:
        return rise();
      default:
        return true;
    }
  }

  bool start_array(std::size_t) {
    if (place_ == Place::unknown) return deepen();
    if (place_ != Place::tensor) return fail("a list where none belongs");
    if (key_ == "shape") {
      place_ = Place::shape;
    } else if (key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      return open_unknown();
    }
    return true;
  }

  bool end_array() {
    if (place_ == Place::unknown) return rise();
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::json::exception&) {
    wrong = "byte " + std::to_string(byte) + " of the header: not valid JSON";
    return false;
  }

 private:
  enum class Place { before, top, metadata, tensor, shape, offsets, unknown };
  static constexpr std::array<std::string_view, 3> kMembers = {"dtype", "shape", "data_offsets"};

  [[nodiscard]] bool is_member() const {
    return std::find(kMembers.begin(), kMembers.end(), key_) != kMembers.end();
  }
  bool scalar(const char* what) {
    if (place_ == Place::unknown || (place_ == Place::tensor && !is_member())) return true;
    std::string where = "the header";
    if (place_ == Place::top) where = is_metadata_ ? "__metadata__" : "the description";
    if (place_ == Place::metadata) where = "__metadata__ '" + clean_text(key_, 80) + "'";
    if (place_ == Place::tensor || place_ == Place::shape || place_ == Place::offsets) where = key_;
    return fail(where + " cannot be " + what);
  }
  bool open_unknown() {
    if (is_member()) return fail(key_ + " is not of its kind");
    place_ = Place::unknown;
    depth_ = 1;
    return true;
  }
  bool deepen() { return ++depth_ <= 64 || fail("nested too deep"); }
  bool rise() {
    if (--depth_ == 0) place_ = Place::tensor;
    return true;
  }
  bool fail(const std::string& what) {
    const bool inside = place_ == Place::tensor || place_ == Place::shape ||
                        place_ == Place::offsets || (place_ == Place::top && !entry_.name.empty());
    wrong = inside ? "tensor '" + clean_text(entry_.name, 200) + "': " + what : what;
    return false;
  }

  Place place_ = Place::before;
  bool is_metadata_ = false;
  std::string key_;
  SafetensorsHeader::Entry entry_;
  std::array<bool, 3> seen_ = {};
  int offsets_ = 0, depth_ = 0;
  std::unordered_set<std::string> names_;
};

Error malformed(std::string message) {
  return {Errc::malformed, std::move(message)};
}

/// dtype × shape = bytes, and the tensors lie side by side from the first byte to the last.
Status check_layout(std::vector<SafetensorsHeader::Entry>& entries, std::uint64_t data_bytes) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t at = 0;
  for (const auto& entry : entries) {
    const std::string name = "tensor '" + clean_text(entry.name, 200) + "'";
    const std::string range =
        "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
    if (entry.end < entry.begin) return malformed(name + ": data_offsets " + range + " end first");
    if (entry.end > data_bytes) {
      return malformed(name + ": data_offsets " + range + " lie past the end of the file (" +
                       std::to_string(data_bytes) + " bytes of data)");
    }
    if (entry.begin != at) {
      return malformed(name + ": data_offsets " + range +
                       (entry.begin < at ? " overlap" : " leave a hole after") +
                       " the tensor before, which ends at " + std::to_string(at));
    }
    auto bytes = tensor_bytes(entry.dtype, entry.shape);
    if (!bytes) return std::move(bytes).error().at(name);
    if (*bytes != entry.end - entry.begin) {
      return malformed(name + ": " + std::string(dtype_name(entry.dtype)) + " " +
                       shape_text(entry.shape) + " takes " + std::to_string(*bytes) +
                       " bytes, but data_offsets give it " +
                       std::to_string(entry.end - entry.begin));
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    return malformed(std::to_string(data_bytes - at) + " bytes at the end belong to no tensor");
  }
  return Ok{};
}

}  // namespace

std::string_view dtype_name(Dtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].name;
}

std::uint64_t dtype_bits(Dtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].bits;
}

std::optional<Dtype> dtype_of(std::string_view name) {
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "[";
  for (const auto size : shape) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(size);
  }
  return out + "]";
}

Result<std::uint64_t> tensor_bytes(Dtype dtype, const std::vector<std::int64_t>& shape) {
  std::uint64_t bits = dtype_bits(dtype);
  bool empty = false, too_large = false;
  for (const auto size : shape) {
    if (size < 0) return malformed("shape " + shape_text(shape) + " has a negative size");
    const auto wide = static_cast<std::uint64_t>(size);
    if (wide == 0) {
      empty = true;
    } else if (bits > std::numeric_limits<std::uint64_t>::max() / wide) {
      too_large = true;
    } else {
      bits *= wide;
    }
  }
  if (empty) return std::uint64_t{0};
  if (too_large) return malformed("shape " + shape_text(shape) + " is larger than any file");
  if (bits % 8 != 0)
    return malformed("shape " + shape_text(shape) + " ends in the middle of a byte");
  return bits / 8;
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json,
                                                   std::uint64_t data_bytes) {
  if (json.size() > kMostHeaderBytes)
    return malformed("the header is larger than 100 MB: not a safetensors file");
  if (json.empty() || json.front() != '{')
    return malformed("the header does not begin with '{': not a safetensors file");
  HeaderEvents events;
  try {
    if (!nlohmann::json::sax_parse(json, &events)) return malformed(std::move(events.wrong));
  } catch (const std::exception&) {
    return malformed("a number in the header is out of range");
  }
  RW_CHECK(check_layout(events.header.entries, data_bytes));
  return std::move(events.header);
}

}  // namespace rigwise::engine
