// Trace spans: sets of instants as sorted lists of intervals that neither touch nor overlap.
#pragma once

#include <cstdint>
#include <vector>

namespace rigwise {

struct Span {
  std::int64_t begin_ns = 0, end_ns = 0;
};

/// A list that is being gathered: in order of begin as a rule, which keeps it short, but any order
/// will do.
class SpanList {
 public:
  void add(std::int64_t begin_ns, std::int64_t end_ns) {
    if (!spans_.empty()) {
      Span& last = spans_.back();
      if (begin_ns >= last.begin_ns && begin_ns <= last.end_ns) {
        if (end_ns > last.end_ns) last.end_ns = end_ns;
        return;
      }
      if (begin_ns < last.begin_ns) sorted_ = false;
    }
    spans_.push_back({begin_ns, end_ns});
  }
  [[nodiscard]] bool empty() const { return spans_.empty(); }
  [[nodiscard]] std::size_t size() const { return spans_.size(); }
  /// As a set. Nothing may be added afterwards.
  const std::vector<Span>& settle();

 private:
  std::vector<Span> spans_;
  bool sorted_ = true;
};

using Spans = std::vector<Span>;

/// Any list → a set.
Spans settled(Spans spans);
Spans unite(const Spans& a, const Spans& b);
Spans subtract(const Spans& a, const Spans& b);
Spans intersect(const Spans& a, const Spans& b);
/// The part of [begin, end] that `a` does not cover.
Spans complement(const Spans& a, std::int64_t begin_ns, std::int64_t end_ns);
/// How much of [begin, end] `a` covers.
std::int64_t covered_ns(const Spans& a, std::int64_t begin_ns, std::int64_t end_ns);
bool contains(const Spans& a, std::int64_t at_ns);

}  // namespace rigwise
