#include <algorithm>
#include <cmath>

#include "rigwise/plan.h"

namespace rigwise {

namespace {

/// rate = a − b·e^(−w/c) through three points that bend downwards; nothing where they do not.
std::optional<double> saturating(const CapPoint& p0, const CapPoint& p1, const CapPoint& p2,
                                 double cap_w) {
  const double rise = p1.rate - p0.rate;
  if (rise <= 0) return std::nullopt;
  const double ratio = (p2.rate - p1.rate) / rise;
  const double d1 = p1.cap_w - p0.cap_w, d2 = p2.cap_w - p0.cap_w;
  if (ratio <= 0 || ratio >= (d2 - d1) / d1 * 0.999) return std::nullopt;
  // (e^(−d1/c) − e^(−d2/c)) / (1 − e^(−d1/c)) grows with c: halve the interval
  double low = d1 / 50, high = 1000 * d1;
  for (int i = 0; i < 100; ++i) {
    const double c = std::sqrt(low * high);
    const double e1 = std::exp(-d1 / c), e2 = std::exp(-d2 / c);
    ((e1 - e2) / (1 - e1) < ratio ? low : high) = c;
  }
  const double c = std::sqrt(low * high);
  const double reach = rise / (1 - std::exp(-d1 / c));
  return p0.rate + reach * (1 - std::exp(-(cap_w - p0.cap_w) / c));
}

double linear(const std::vector<CapPoint>& points, double cap_w) {
  if (cap_w <= points.front().cap_w) {
    return points.front().rate * cap_w / points.front().cap_w;  // below: no faster than the watts
  }
  for (std::size_t i = 1; i < points.size(); ++i) {
    const auto& a = points[i - 1];
    const auto& b = points[i];
    if (cap_w <= b.cap_w) {
      return a.rate + (b.rate - a.rate) * (cap_w - a.cap_w) / (b.cap_w - a.cap_w);
    }
  }
  return points.back().rate;  // above the last one nothing is promised
}

constexpr double kSaturatingShare = 0.8;

}  // namespace

Result<Interval> rate_at_cap(double cap_w, std::vector<CapPoint> points) {
  std::erase_if(points, [](const CapPoint& p) {
    return !(p.cap_w > 0) || !(p.rate > 0) || !std::isfinite(p.cap_w) || !std::isfinite(p.rate);
  });
  for (auto& point : points) {  // a limit above what the card draws does not bind
    if (point.draw_w && *point.draw_w > 0 && *point.draw_w < 0.97 * point.cap_w) {
      point.cap_w = *point.draw_w;
    }
  }
  std::sort(points.begin(), points.end(),
            [](const CapPoint& a, const CapPoint& b) { return a.cap_w < b.cap_w; });
  points.erase(std::unique(points.begin(), points.end(),
                           [](const auto& a, const auto& b) { return a.cap_w == b.cap_w; }),
               points.end());
  if (points.size() < 2 || !(cap_w > 0)) {
    return Error{Errc::unavailable, "speed at a power limit: fewer than two limits were measured",
                 "run a short piece of the work at two or three limits (nvidia-smi -pl WATTS)"};
  }
  const double at = std::min(cap_w, points.back().cap_w);
  const double straight = linear(points, at);
  double value = straight;
  if (points.size() >= 3) {
    // the three points nearest, so that longer sweeps use their own neighbourhood
    std::size_t first = 0;
    while (first + 3 < points.size() && points[first + 2].cap_w < at) ++first;
    const auto curve = saturating(points[first], points[first + 1], points[first + 2], at);
    if (curve && at >= points.front().cap_w) {
      value = kSaturatingShare * *curve + (1 - kSaturatingShare) * straight;
    }
  }
  // as wide as the two readings differ, and as far as the next point is
  double gap = 1;
  for (const auto& point : points) {
    gap = std::min(gap, std::abs(std::log(at / point.cap_w)) / 0.35);
  }
  const double half = value * (0.01 + 0.05 * gap) + 0.3 * std::abs(value - straight);
  return Interval{value, std::max(0.0, value - half), value + half};
}

}  // namespace rigwise
