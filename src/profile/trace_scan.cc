#include "profile/trace_scan.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "profile/trace_text.h"

namespace rigwise {

using namespace trace_text;

namespace {

constexpr std::size_t kMostEntryBytes = std::size_t{1} << 20;
constexpr std::size_t kBadTextBytes = 80;
constexpr std::int64_t kMostNs = std::int64_t{1} << 60;  // 36 years

/// FNV-1a, made negative: no process has such a number.
std::int64_t word_id(std::string_view word) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char byte : word) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ULL;
  return -1 - static_cast<std::int64_t>(hash >> 2);
}

bool us_of_text(std::string_view text, std::int64_t& out_ns) {
  double us = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), us);
  if (error != std::errc{} || rest != text.data() + text.size()) return false;
  if (!(std::abs(us) < static_cast<double>(kMostNs) / 1e3)) return false;
  out_ns = static_cast<std::int64_t>(std::llround(us * 1e3));
  return true;
}

/// Which events' args are worth a look.
bool wants_args(const TraceEvent& event) {
  if (event.category.empty() || event.name.empty()) return true;  // not known yet
  switch (event.category.front()) {
    case 'k':  // kernel
    case 'K':
    case 'g':  // gpu_memcpy, gpu_memset
    case 'M':  // Memcpy, Memset of old versions
    case 'R':  // Runtime of old versions
    case 'h':  // hip_runtime
    case 'x':  // xpu_runtime, xpu_driver
      return true;
    case 'c':
      return event.category.starts_with("cuda") || event.category == "concurrent_kernel";
    case 'u':
      return event.name.starts_with("gloo:") || event.name.starts_with("nccl:");
    default:
      return false;
  }
}

/// The members of an object whose '{' is behind `at`; `read_value` takes the value of each key.
template <class ReadValue>
Got read_members(const char*& at, const char* end, ReadValue read_value) {
  for (;;) {
    skip_space(at, end);
    if (at == end) return Got::more;
    if (*at == ',') {
      ++at;
      continue;
    }
    if (*at == '}') {
      ++at;
      return Got::ok;
    }
    std::string_view key;
    Got got = read_string(at, end, key);
    if (got != Got::ok) return got;
    skip_space(at, end);
    if (at == end) return Got::more;
    if (*at != ':') return Got::bad;
    ++at;
    skip_space(at, end);
    if (at == end) return Got::more;
    got = read_value(key);
    if (got != Got::ok) return got;
  }
}

Got read_text(const char*& at, const char* end, std::string_view& out) {
  return *at == '"' ? read_string(at, end, out) : skip_value(at, end);
}

Got read_args(const char*& at, const char* end, TraceEvent& event) {
  if (at == end) return Got::more;
  if (*at != '{') return skip_value(at, end);
  ++at;
  return read_members(at, end, [&](std::string_view key) {
    if (key == "correlation") return read_integer(at, end, event.correlation);
    if (key == "stream") return read_integer(at, end, event.stream);
    if (key == "device") return read_integer(at, end, event.device);
    if (key == "In msg nelems") return read_integer(at, end, event.elements);
    if (key == "Seq") return read_integer(at, end, event.sequence);
    if (key == "Collective name") return read_text(at, end, event.collective);
    if (key == "Process Group Name") return read_text(at, end, event.group);
    return skip_value(at, end);
  });
}

Got read_phase(const char*& at, const char* end, char& out) {
  std::string_view phase;
  const Got got = *at == '"' ? read_string(at, end, phase) : skip_value(at, end);
  if (got == Got::ok && phase.size() == 1) out = phase[0];
  return got;
}

/// The value of one member of an event.
Got read_field(std::string_view key, const char*& at, const char* end, TraceEvent& event) {
  switch (key.size()) {
    case 2:
      if (key == "ph") return read_phase(at, end, event.phase);
      if (key == "ts") return read_us(at, end, event.begin_ns, event.has_begin);
      break;
    case 3:
      if (key == "cat") return read_text(at, end, event.category);
      if (key == "pid") return read_id(at, end, event.pid);
      if (key == "tid") return read_id(at, end, event.tid);
      if (key == "dur") return read_us(at, end, event.dur_ns, event.has_dur);
      break;
    case 4:
      if (key == "name") return read_text(at, end, event.name);
      if (key == "args" && wants_args(event)) return read_args(at, end, event);
      break;
    default:
      break;
  }
  return skip_value(at, end);
}

Got read_event(const char*& at, const char* end, TraceEvent& event) {
  ++at;
  return read_members(at, end,
                      [&](std::string_view key) { return read_field(key, at, end, event); });
}

/// Where the event behind a broken one begins: `{ "ph"`, which is how Kineto begins each.
const char* find_next_event(const char* at, const char* end) {
  const std::string_view text(at, static_cast<std::size_t>(end - at));
  for (std::size_t from = 1; (from = text.find("\"ph\"", from)) != std::string_view::npos; ++from) {
    std::size_t before = from;
    while (before > 1 && is_space(text[before - 1])) --before;
    if (before > 1 && text[before - 1] == '{') return at + before - 1;
  }
  return nullptr;
}

}  // namespace

Got trace_text::read_us(const char*& at, const char* end, std::int64_t& out_ns, bool& fits) {
  fits = false;
  if (at == end) return Got::more;
  const char* mark = at;
  const bool negative = *mark == '-';
  if (negative) ++mark;
  std::int64_t value = 0;
  int digits = 0, decimals = 0;
  while (mark != end && *mark >= '0' && *mark <= '9' && digits < 15) {
    value = value * 10 + (*mark++ - '0');
    ++digits;
  }
  if (mark != end && *mark == '.') {
    ++mark;
    for (; mark != end && *mark >= '0' && *mark <= '9'; ++mark) {
      if (decimals < 3) {
        value = value * 10 + (*mark - '0');
        ++decimals;
      }
    }
  }
  if (mark == end) return Got::more;
  if (digits > 0 && (*mark == ',' || *mark == '}' || is_space(*mark))) {
    for (; decimals < 3; ++decimals) value *= 10;
    out_ns = negative ? -value : value;
    fits = value < kMostNs;
    at = mark;
    return Got::ok;
  }
  if (*at == '{' || *at == '[') return skip_value(at, end);
  std::string_view text;
  const Got got = *at == '"' ? read_string(at, end, text) : read_word(at, end, text);
  if (got == Got::ok) fits = us_of_text(text, out_ns);
  return got;
}

Got trace_text::read_id(const char*& at, const char* end, std::int64_t& out) {
  if (at == end) return Got::more;
  if (*at != '"') return read_integer(at, end, out);
  std::string_view word;
  const Got got = read_string(at, end, word);
  if (got == Got::ok) {
    const auto number = to_integer(word);
    out = number ? *number : word_id(word);
  }
  return got;
}

bool TraceScanner::push(std::string_view bytes) {
  counts_.bytes += bytes.size();
  if (state_ == State::done) return false;
  if (kept_.empty()) {
    hand_offset_ = counts_.bytes - bytes.size();
    const char* rest = run(bytes.data(), bytes.data() + bytes.size());
    kept_.assign(rest, bytes.data() + bytes.size());
  } else {
    kept_.append(bytes);
    if (kept_.size() < retry_at_) return true;
    hand_offset_ = counts_.bytes - kept_.size();
    const char* rest = run(kept_.data(), kept_.data() + kept_.size());
    kept_.erase(0, static_cast<std::size_t>(rest - kept_.data()));
  }
  // a byte at a time must not cost the square of an event's size
  retry_at_ = kept_.size() + kept_.size() / 8 + 1;
  if (state_ == State::done) kept_.clear();
  return state_ != State::done;
}

void TraceScanner::finish() {
  if (state_ == State::done || kept_.empty()) return;
  hand_offset_ = counts_.bytes - kept_.size();
  run(kept_.data(), kept_.data() + kept_.size());
  kept_.clear();
}

const char* TraceScanner::run(const char* at, const char* end) {
  hand_ = at;
  while (at != end && state_ != State::done) {
    if (!step(at, end)) break;
  }
  return at;
}

/// False where more bytes are needed.
bool TraceScanner::step(const char*& at, const char* end) {
  if (state_ == State::skip) return pass_over(at, end);
  while (at != end && (is_space(*at) || *at == ',')) ++at;
  if (at == end) return false;
  switch (state_) {
    case State::start:
      return start(at, end);
    case State::members:
      return member(at, end);
    default:
      return entry(at, end);
  }
}

bool TraceScanner::start(const char*& at, const char* end) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  const std::string_view head(at, std::min<std::size_t>(3, static_cast<std::size_t>(end - at)));
  if (head.size() < 3 && kMark.starts_with(head)) return false;
  if (head == kMark) {
    at += 3;
    return true;
  }
  if (*at == '{' || *at == '[') {
    bare_ = *at == '[';
    state_ = bare_ ? State::events : State::members;
    counts_.started = true;
    ++at;
    return true;
  }
  bad(at, end);
  state_ = State::done;
  return true;
}

bool TraceScanner::member(const char*& at, const char* end) {
  if (*at == '}') {
    ++at;
    counts_.whole = true;
    state_ = State::done;
    return true;
  }
  const char* mark = at;
  std::string_view key;
  Got got = read_string(mark, end, key);
  if (got == Got::ok) {
    skip_space(mark, end);
    got = mark == end ? Got::more : *mark == ':' ? Got::ok : Got::bad;
  }
  if (got == Got::ok) {
    ++mark;
    skip_space(mark, end);
    if (mark == end) return false;
    if (key == "traceEvents" && *mark == '[') {
      at = mark + 1;
      state_ = State::events;
      return true;
    }
    const char* value = mark;
    got = skip_value(mark, end);
    if (got == Got::ok) {
      sink_.member(key, std::string_view(value, static_cast<std::size_t>(mark - value)));
      at = mark;
      return true;
    }
    if (got == Got::more && static_cast<std::size_t>(end - at) > kMostEntryBytes) {
      at = value;
      skip_from(State::members);
      return true;
    }
  } else if (got == Got::more && static_cast<std::size_t>(end - at) > kMostEntryBytes) {
    skip_from(State::members);  // a key of more than that
    return true;
  }
  if (got == Got::more) return false;
  // A word that is no JSON: go on behind it; the events are worth more than what it stood for.
  bad(at, end);
  ++at;
  while (at != end && *at != ',' && *at != '"' && *at != '}') ++at;
  return true;
}

bool TraceScanner::entry(const char*& at, const char* end) {
  if (*at == ']') {
    ++at;
    state_ = bare_ ? State::done : State::members;
    counts_.whole = bare_;
    return true;
  }
  const char* mark = at;
  TraceEvent event;
  Got got = *at == '{' ? read_event(mark, end, event) : Got::bad;
  if (got == Got::ok) {
    ++counts_.events;
    at = mark;
    sink_.event(event);
    return true;
  }
  if (got == Got::bad) {
    const char* after = at;
    const Got closes = *at == '{' ? skip_nested(after, end) : skip_value(after, end);
    const char* next = find_next_event(at, closes == Got::ok ? after : end);
    if (next != nullptr) {
      after = next;
    } else if (closes != Got::ok) {
      got = Got::more;  // neither its end nor another event in sight yet
    }
    if (got == Got::bad) {
      ++counts_.events;
      ++counts_.malformed;
      bad(at, end);
      at = after;
      return true;
    }
  }
  if (static_cast<std::size_t>(end - at) <= kMostEntryBytes) return false;
  ++counts_.events;
  ++counts_.oversized;
  skip_from(State::events);
  return true;
}

void TraceScanner::skip_from(State then) {
  after_skip_ = then;
  state_ = State::skip;
  depth_ = 0;
  in_string_ = escaped_ = begun_ = false;
}

/// A value of any size, byte by byte.
bool TraceScanner::pass_over(const char*& at, const char* end) {
  for (; at != end; ++at) {
    const char byte = *at;
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (byte == '\\') {
        escaped_ = true;
      } else if (byte == '"') {
        in_string_ = false;
        if (depth_ == 0) {
          ++at;
          state_ = after_skip_;
          return true;
        }
      }
      continue;
    }
    if (depth_ == 0 && begun_ && (byte == ',' || byte == '}' || byte == ']')) {
      state_ = after_skip_;  // a word's end
      return true;
    }
    begun_ = true;
    if (byte == '"') {
      in_string_ = true;
    } else if (byte == '{' || byte == '[') {
      ++depth_;
    } else if (byte == '}' || byte == ']') {
      if (--depth_ <= 0) {
        ++at;
        state_ = after_skip_;
        return true;
      }
    }
  }
  return false;
}

void TraceScanner::bad(const char* at, const char* end) {
  if (counts_.first_bad_byte) return;
  counts_.first_bad_byte = hand_offset_ + static_cast<std::uint64_t>(at - hand_);
  const auto size = std::min<std::size_t>(kBadTextBytes, static_cast<std::size_t>(end - at));
  counts_.first_bad_text = clean_text(std::string_view(at, size), kBadTextBytes);
}

}  // namespace rigwise
