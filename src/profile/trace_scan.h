// Trace scan: bytes of a Chrome trace in any chunks → its events, one at a time, and the members of
// the document that say where it comes from.
//
// A scanner over the shape that Kineto writes, not a JSON parser: members may stand in any order
// and strings may hold anything, but of an event only what rigwise uses is looked at. Bytes that
// are not JSON are passed over up to the next event and counted. Memory: one event (at most 1 MiB)
// beyond the caller's chunk, whatever the size of the trace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace rigwise {

/// One entry of traceEvents, valid during the call that hands it over. Strings are as written
/// (escapes included). Instants are nanoseconds on the trace's own clock.
struct TraceEvent {
  char phase = 0;  // 'X': complete, with a duration; 0: none was written
  std::string_view category = {}, name = {};
  std::int64_t pid = 0, tid = 0;  // a word ("Spans") is a negative number of its own
  std::int64_t begin_ns = 0, dur_ns = 0;
  bool has_begin = false, has_dur = false;  // they are numbers that fit
  // of args; -1 and empty where not written
  std::int64_t correlation = -1, stream = -1, device = -1, elements = -1, sequence = -1;
  std::string_view collective = {}, group = {};
};

struct TraceScanCounts {
  std::uint64_t bytes = 0;
  std::int64_t events = 0;     // entries of traceEvents, malformed ones too
  std::int64_t malformed = 0;  // of them: no JSON, or no object
  std::int64_t oversized = 0;  // of them: larger than 1 MiB, passed over
  std::optional<std::uint64_t> first_bad_byte = {};
  std::string first_bad_text = {};
  bool started = false;  // the document begins as a trace does
  bool whole = false;    // its end was seen
};

/// Who receives what is found.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual void event(const TraceEvent& event) = 0;
  /// A member of the document beside traceEvents: key, and value as written (at most 1 MiB).
  virtual void member(std::string_view key, std::string_view value) = 0;
};

class TraceScanner {
 public:
  explicit TraceScanner(TraceSink& sink) : sink_(sink) {}

  /// The next bytes, cut anywhere. False once nothing more will be read: the document has ended, or
  /// is no trace.
  bool push(std::string_view bytes);
  /// No more bytes come.
  void finish();

  [[nodiscard]] const TraceScanCounts& counts() const { return counts_; }

 private:
  enum class State { start, members, events, skip, done };

  const char* run(const char* at, const char* end);
  bool step(const char*& at, const char* end);
  bool start(const char*& at, const char* end);
  bool member(const char*& at, const char* end);
  bool entry(const char*& at, const char* end);
  bool pass_over(const char*& at, const char* end);
  void skip_from(State then);
  void bad(const char* at, const char* end);

  TraceSink& sink_;
  State state_ = State::start;
  std::string kept_;          // what the last chunk cut
  std::size_t retry_at_ = 0;  // size of kept_ from which another look is worth it
  bool bare_ = false;         // the document is the array of events itself
  // of a value that is passed over
  State after_skip_ = State::start;
  std::int64_t depth_ = 0;
  bool in_string_ = false, escaped_ = false, begun_ = false;
  // the bytes in hand, and their place in the trace
  const char* hand_ = nullptr;
  std::uint64_t hand_offset_ = 0;
  TraceScanCounts counts_ = {};
};

}  // namespace rigwise
