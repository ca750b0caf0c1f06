// What a change moved: the rows of two sets of ledgers, and which of their differences are more
// than what such runs differ by anyway.
#include "rigwise/change.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "rigwise/stats.h"

namespace rigwise {

namespace {

constexpr double kLevel = 0.95;
constexpr double kSdsOfInterval = 1.96;  // how the rows' own intervals were made

// How much two runs of the same thing differ, where nobody has seen it: compare's figure for a step
// time, and a little of everything else for rows that are small.
constexpr double kSpreadOfRow = 0.02;
constexpr double kSpreadOfWall = 0.005;
constexpr double kSpreadWeightRuns = 1;  // the figure counts as so many runs beside those seen

using Side = std::vector<Ledger>;

/// One run's figure, and the variance that its own interval stands for.
struct Reading {
  double value = 0, variance = 0;
};
using Readings = std::vector<Reading>;

std::optional<Reading> reading_of(const Ledger& ledger, LedgerClass cls) {
  const LedgerRow* row = row_of(ledger.rows, cls);
  if (row == nullptr || !row->seconds || !std::isfinite(*row->seconds)) return {};
  const double value = *row->seconds;
  const double half =
      std::max({0.0, value - row->low_s.value_or(value), row->high_s.value_or(value) - value});
  return Reading{value, std::pow(half / kSdsOfInterval, 2)};
}

/// The row in every run of a side, with `added` classes' seconds in it; empty where a run does not
/// know one of them and it is not `added`.
std::optional<Readings> readings_of(const Side& side, LedgerClass cls,
                                    const std::vector<LedgerClass>& added = {}) {
  Readings out;
  for (const Ledger& ledger : side) {
    auto reading = reading_of(ledger, cls);
    if (!reading) return {};
    for (const LedgerClass other : added) {
      const auto more = reading_of(ledger, other);
      if (!more) continue;  // its seconds are in this row already
      reading->value += more->value;
      reading->variance += more->variance;
    }
    out.push_back(*reading);
  }
  return out;
}

Readings walls_of(const Side& side) {
  Readings out;
  for (const Ledger& ledger : side) out.push_back({ledger.wall_s, 0});
  return out;
}

double mean_of(const Readings& readings) {
  double sum = 0;
  for (const Reading& reading : readings) sum += reading.value;
  return sum / static_cast<double>(readings.size());
}

struct MeanVariance {
  double variance = 0, df = 0;
};

MeanVariance variance_of_mean(const Readings& readings, double spread) {
  const auto n = static_cast<double>(readings.size());
  std::vector<double> values;
  double own = 0;  // of the runs' intervals
  for (const Reading& reading : readings) {
    values.push_back(reading.value);
    own += reading.variance;
  }
  own /= n * n;
  const auto seen = stats::moments(values).variance();
  if (!seen) return {spread * spread + own, std::numeric_limits<double>::infinity()};
  const double df = n - 1 + kSpreadWeightRuns;
  const double widened = (kSpreadWeightRuns * spread * spread + (n - 1) * *seen) / df;
  return {std::max(widened / n, own), df};
}

/// `wall` is what the runs took, in the unit of the readings.
Change change_between(const std::optional<Readings>& a, const std::optional<Readings>& b,
                      double wall) {
  Change change;
  if (a) change.a = mean_of(*a);
  if (b) change.b = mean_of(*b);
  if (!a || !b) return change;
  const auto spread = [&](double mean) {
    return std::max(kSpreadOfRow * std::fabs(mean), kSpreadOfWall * wall);
  };
  const MeanVariance va = variance_of_mean(*a, spread(*change.a));
  const MeanVariance vb = variance_of_mean(*b, spread(*change.b));
  const double difference = *change.b - *change.a;
  const auto estimate = stats::welch(difference, va.variance, va.df, vb.variance, vb.df);
  const double half = estimate.half_width(kLevel);
  change.difference = difference;
  change.low = difference - half;
  change.high = difference + half;
  change.moved = std::fabs(difference) > half;
  return change;
}

bool grows_with_steps(LedgerClass cls) {
  return cls != LedgerClass::startup && cls != LedgerClass::teardown &&
         cls != LedgerClass::unexplained;
}

/// Seconds that lie in the steps' own time where they are not told apart.
bool lies_in_compute(LedgerClass cls) {
  return cls == LedgerClass::input || cls == LedgerClass::throttle || cls == LedgerClass::sync ||
         cls == LedgerClass::host || cls == LedgerClass::memory;
}

LedgerSide side_of(const Side& side) {
  LedgerSide out;
  double sum = 0;
  bool all = true;
  for (const Ledger& ledger : side) {
    out.runs.push_back(ledger.run);
    all = all && ledger.steps && *ledger.steps > 0;
    sum += static_cast<double>(ledger.steps.value_or(0));
  }
  if (all) out.steps = sum / static_cast<double>(side.size());
  return out;
}

std::optional<Readings> a_step(std::optional<Readings> readings, const Side& side) {
  if (!readings) return {};
  for (std::size_t i = 0; i < readings->size(); ++i) {
    const auto steps = static_cast<double>(*side[i].steps);
    (*readings)[i].value /= steps;
    (*readings)[i].variance /= steps * steps;
  }
  return readings;
}

/// Do the runs differ in steps, and are they all known?
bool differs_in_steps(const Side& a, const Side& b, const LedgerChange& change) {
  if (!change.a.steps || !change.b.steps) return false;
  const auto other = [&](const Ledger& ledger) { return ledger.steps != a[0].steps; };
  return std::any_of(a.begin(), a.end(), other) || std::any_of(b.begin(), b.end(), other);
}

class Comparing {
 public:
  Comparing(const Side& a, const Side& b) : a_(a), b_(b) {}

  LedgerChange run() {
    change_.a = side_of(a_);
    change_.b = side_of(b_);
    per_step_ = differs_in_steps(a_, b_, change_);
    change_.spread_assumed = a_.size() < 2 || b_.size() < 2;
    change_.wall = between(walls_of(a_), walls_of(b_));
    sort_classes();
    for (const LedgerClass cls : shown_) add_row(cls);
    return std::move(change_);
  }

 private:
  Change between(const std::optional<Readings>& a, const std::optional<Readings>& b) const {
    return change_between(a, b, std::max(mean_of(walls_of(a_)), mean_of(walls_of(b_))));
  }
  Change between_a_step(const std::optional<Readings>& a, const std::optional<Readings>& b) const {
    return change_between(
        a_step(a, a_), a_step(b, b_),
        std::max(mean_of(*a_step(walls_of(a_), a_)), mean_of(*a_step(walls_of(b_), b_))));
  }

  /// Which classes have a row of their own: a class that one side told apart and the other left in
  /// compute would show as a loss of one row and a gain of the other.
  void sort_classes() {
    const bool compute_known = readings_of(a_, LedgerClass::compute).has_value() &&
                               readings_of(b_, LedgerClass::compute).has_value();
    for (const LedgerClass cls : kLedgerClasses) {
      const auto knows = [cls](const Ledger& ledger) {
        return reading_of(ledger, cls).has_value();
      };
      const auto known =
          std::count_if(a_.begin(), a_.end(), knows) + std::count_if(b_.begin(), b_.end(), knows);
      if (known == 0) {
        change_.not_measured.push_back(cls);
      } else if (known < std::ssize(a_) + std::ssize(b_) && lies_in_compute(cls) && compute_known) {
        change_.in_compute.push_back(cls);
      } else {
        shown_.push_back(cls);
      }
    }
  }

  void add_row(LedgerClass cls) {
    const auto added =
        cls == LedgerClass::compute ? change_.in_compute : std::vector<LedgerClass>();
    const auto a = readings_of(a_, cls, added), b = readings_of(b_, cls, added);
    LedgerChangeRow row;
    row.cls = cls;
    row.seconds = between(a, b);
    row.moved = row.seconds.moved;
    if (per_step_ && grows_with_steps(cls)) {
      row.per_step = between_a_step(a, b);
      row.moved = row.per_step->moved;
    }
    change_.rows.push_back(std::move(row));
  }

  const Side& a_;
  const Side& b_;
  LedgerChange change_;
  std::vector<LedgerClass> shown_;
  bool per_step_ = false;
};

}  // namespace

Result<LedgerChange> change_of(const std::vector<Ledger>& a, const std::vector<Ledger>& b) {
  if (a.empty() || b.empty()) {
    return Error{Errc::usage, "a change has runs on both sides",
                 "rigwise ledger single -- two-gpu"};
  }
  for (const Ledger& ledger : a) {
    for (const Ledger& other : b) {
      if (ledger.run != other.run || ledger.run.empty()) continue;
      return Error{Errc::usage, fmt::format("run {} is on both sides", ledger.run),
                   "name each run on one side of --; its id tells it from others of its name"};
    }
  }
  return Comparing(a, b).run();
}

}  // namespace rigwise
