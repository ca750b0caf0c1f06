#include "profile/trace_spans.h"

#include <algorithm>

namespace rigwise {

Spans settled(Spans spans) {
  std::erase_if(spans, [](const Span& span) { return span.end_ns <= span.begin_ns; });
  if (!std::is_sorted(spans.begin(), spans.end(),
                      [](const Span& a, const Span& b) { return a.begin_ns < b.begin_ns; })) {
    std::sort(spans.begin(), spans.end(),
              [](const Span& a, const Span& b) { return a.begin_ns < b.begin_ns; });
  }
  std::size_t kept = 0;
  for (const Span& span : spans) {
    if (kept > 0 && span.begin_ns <= spans[kept - 1].end_ns) {
      spans[kept - 1].end_ns = std::max(spans[kept - 1].end_ns, span.end_ns);
    } else {
      spans[kept++] = span;
    }
  }
  spans.resize(kept);
  return spans;
}

const Spans& SpanList::settle() {
  spans_ = settled(std::move(spans_));
  return spans_;
}

Spans unite(const Spans& a, const Spans& b) {
  Spans out(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), out.begin(),
             [](const Span& x, const Span& y) { return x.begin_ns < y.begin_ns; });
  return settled(std::move(out));
}

Spans subtract(const Spans& a, const Spans& b) {
  Spans out;
  std::size_t next = 0;
  for (Span rest : a) {
    while (next < b.size() && b[next].end_ns <= rest.begin_ns) ++next;
    for (std::size_t i = next; i < b.size() && b[i].begin_ns < rest.end_ns; ++i) {
      if (b[i].begin_ns > rest.begin_ns) out.push_back({rest.begin_ns, b[i].begin_ns});
      rest.begin_ns = std::max(rest.begin_ns, std::min(rest.end_ns, b[i].end_ns));
    }
    if (rest.begin_ns < rest.end_ns) out.push_back(rest);
  }
  return out;
}

Spans intersect(const Spans& a, const Spans& b) {
  Spans out;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const std::int64_t begin = std::max(a[i].begin_ns, b[j].begin_ns);
    const std::int64_t end = std::min(a[i].end_ns, b[j].end_ns);
    if (begin < end) out.push_back({begin, end});
    if (a[i].end_ns < b[j].end_ns) {
      ++i;
    } else {
      ++j;
    }
  }
  return out;
}

Spans complement(const Spans& a, std::int64_t begin_ns, std::int64_t end_ns) {
  if (begin_ns >= end_ns) return {};
  return subtract({{begin_ns, end_ns}}, a);
}

namespace {
/// The first span that ends behind `at_ns`.
Spans::const_iterator first_behind(const Spans& a, std::int64_t at_ns) {
  return std::upper_bound(a.begin(), a.end(), at_ns,
                          [](std::int64_t at, const Span& span) { return at < span.end_ns; });
}
}  // namespace

std::int64_t covered_ns(const Spans& a, std::int64_t begin_ns, std::int64_t end_ns) {
  std::int64_t sum = 0;
  for (auto it = first_behind(a, begin_ns); it != a.end() && it->begin_ns < end_ns; ++it) {
    sum += std::min(it->end_ns, end_ns) - std::max(it->begin_ns, begin_ns);
  }
  return sum;
}

bool contains(const Spans& a, std::int64_t at_ns) {
  const auto it = first_behind(a, at_ns);
  return it != a.end() && it->begin_ns <= at_ns;
}

}  // namespace rigwise
