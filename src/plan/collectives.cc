#include <algorithm>
#include <cmath>

#include "rigwise/plan.h"

namespace rigwise {

namespace {

/// Below it NCCL takes a protocol of low latency and half the bandwidth (LL), so that a point there
/// does not show the latency that larger messages meet: the middle is slower than both ends say.
constexpr double kLowLatencyBytes = 65536;

/// T = α + β·S + k·√(α·β·S): latency, bandwidth, and the filling of the pipeline of chunks, which
/// grows with the ring's length. Two measured points give α and β.
struct Law {
  double alpha = 0, beta = 0, k = 0;
  double at(double bytes) const {
    return alpha + beta * bytes + k * std::sqrt(alpha * beta * bytes);
  }
};

double beta_for(double alpha, double k, double bytes, double time) {
  // √(β·S) solves x² + k·√α·x + α − T = 0
  const double half = k * std::sqrt(alpha) / 2;
  const double x = -half + std::sqrt(half * half + time - alpha);
  return x * x / bytes;
}

Law law_through(const CollectivePoint& small, const CollectivePoint& large, double k) {
  double low = 0, high = small.time_s;
  Law law{0, 0, k};
  for (int i = 0; i < 100; ++i) {
    law.alpha = (low + high) / 2;
    law.beta = beta_for(law.alpha, k, large.bytes, large.time_s);
    (law.at(small.bytes) > small.time_s ? high : low) = law.alpha;
  }
  return law;
}

}  // namespace

Result<Interval> allreduce_time(double bytes, std::int64_t ranks, const CollectivePoint& small,
                                const CollectivePoint& large) {
  const auto good = [](const CollectivePoint& p) {
    return p.bytes > 0 && p.time_s > 0 && std::isfinite(p.bytes) && std::isfinite(p.time_s);
  };
  if (ranks < 2) return Error{Errc::usage, "all-reduce: fewer than two ranks", ""};
  if (!good(small) || !good(large) || !(small.bytes < large.bytes) ||
      !(small.time_s < large.time_s) || !(bytes > 0)) {
    return Error{Errc::usage,
                 "all-reduce: two measured messages are needed, the larger one taking longer",
                 "rigwise-engine link --ranks 2 --sizes 1MiB,256MiB --json"};
  }
  const double steps = static_cast<double>(ranks - 2);
  const Law plain = law_through(small, large, 0);
  const bool low_latency = small.bytes < kLowLatencyBytes;
  const Law law = law_through(small, large, low_latency ? 0.8 : std::min(0.3, 0.05 * steps));
  const double value = law.at(bytes);
  // between its two points no size is further off than the two laws differ, twice over, or 8 %
  const double share =
      std::clamp(std::log(bytes / small.bytes) / std::log(large.bytes / small.bytes), 0.0, 1.0);
  const double half =
      value * 0.08 * 4 * share * (1 - share) + std::abs(value - plain.at(bytes)) + 0.005 * value;
  return Interval{value, std::max(value - half, 0.2 * value), value + half};
}

}  // namespace rigwise
