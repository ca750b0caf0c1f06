// Links that were measured: three programs' output, hostile until parsed.
#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "rigwise/plan_options.h"
#include "rigwise/plan_strategies.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostBytes = 16 << 20;
constexpr double kLargeBytes = 4e6;  // from here on a message's rate is the link's, not its latency

constexpr double kMostRatio = 100;  // of two times of the same thing; beyond it nothing is believed
constexpr std::size_t kMostPoints = 1000;
constexpr double kLeastTime_s = 1e-9, kMostTime_s = 1e5, kMostMessage = 1e14;

bool is_message(double bytes, double time_s) {
  return bytes >= 1 && bytes <= kMostMessage && time_s >= kLeastTime_s && time_s <= kMostTime_s;
}

/// Bytes that one rank sends, over the buffer's, and messages that it sends one after the other.
struct Ring {
  double share, steps;
};
Ring ring_of(Transfer operation, double ranks) {
  const double n = std::max(2.0, ranks);
  switch (operation) {
    case Transfer::all_reduce:
      return {2 * (n - 1) / n, 2 * (n - 1)};
    case Transfer::all_gather:
    case Transfer::reduce_scatter:
      return {(n - 1) / n, n - 1};
    case Transfer::one_way:
      break;
  }
  return {1, 1};
}

void add_point(std::vector<CollectivePoint>& points, double bytes, double time_s) {
  if (!is_message(bytes, time_s) || points.size() >= kMostPoints) return;
  const auto at = std::lower_bound(points.begin(), points.end(), bytes,
                                   [](const auto& p, double b) { return p.bytes < b; });
  if (at != points.end() && at->bytes == bytes) {  // the slower pair
    at->time_s = std::max(at->time_s, time_s);
  } else {
    points.insert(at, {bytes, time_s});
  }
}

double between(const std::vector<CollectivePoint>& points, double bytes) {
  if (bytes <= points.front().bytes) return points.front().time_s;
  for (std::size_t i = 1; i < points.size(); ++i) {
    const auto& a = points[i - 1];
    const auto& b = points[i];
    if (bytes <= b.bytes) {
      return a.time_s + (b.time_s - a.time_s) * (bytes - a.bytes) / (b.bytes - a.bytes);
    }
  }
  return points.back().time_s * bytes / points.back().bytes;
}

/// Largest message's rate, its quartiles as the interval, and the smallest one's time as latency.
struct Readings {
  double bytes = 0, rate = 0, low = 0, high = 0;
  std::vector<CollectivePoint> points = {};
  void add(double message_bytes, double time_s, double low_s, double high_s, double factor) {
    if (!is_message(message_bytes, time_s)) return;
    add_point(points, message_bytes, time_s);
    if (message_bytes > bytes) {
      bytes = message_bytes;
      rate = factor * message_bytes / time_s;
      low = factor * message_bytes / std::clamp(high_s, time_s, kMostTime_s);
      high = factor * message_bytes / std::clamp(low_s, kLeastTime_s, time_s);
    }
  }
  Result<LinkKnown> link(const std::string& name, bool hosts) const {
    if (bytes < kLargeBytes) {
      return Error{Errc::malformed, name + ": no all-reduce of 4 MB or more stands in it",
                   "rigwise-engine link --ranks 2 --sizes 8,64KiB,1MiB,64MiB --json > link.json"};
    }
    LinkKnown known;
    known.name = name;
    // training's messages are smaller and meet other traffic: never less than 5 % either way
    known.bytes_per_s = {rate, std::min(low, 0.95 * rate), std::max(high, 1.05 * rate)};
    known.latency_s = points.front().bytes < 65536 ? points.front().time_s / 2 : 3e-5;
    known.measured = true;
    known.between_hosts = hosts;
    known.source = name;
    return known;
  }
};

/// Of one object of the engine's report: `name`, `name`_least and `name`_most, each within
/// `least` … `most`, in order.
std::optional<Interval> extremes(const Json& json, const char* object, const std::string& name,
                                 double least, double most) {
  const auto found = json.find(object);
  if (found == json.end() || !found->is_object()) return std::nullopt;
  const auto value = get<double>(*found, name.c_str());
  const auto low = get<double>(*found, (name + "_least").c_str());
  const auto high = get<double>(*found, (name + "_most").c_str());
  // nan is in no order
  if (!value || !low || !high || !(*low >= least && *low <= *value)) return std::nullopt;
  if (!(*value <= *high && *high <= most)) return std::nullopt;
  return Interval{*value, *low, *high};
}

constexpr std::array<std::pair<std::string_view, Transfer>, 3> kHidden = {
    {{"all_reduce", Transfer::all_reduce},
     {"all_gather", Transfer::all_gather},
     {"reduce_scatter", Transfer::reduce_scatter}}};

/// Points of the sizes of one collective or pair.
void add_sizes(std::vector<CollectivePoint>& points, const Json& json) {
  const auto sizes = json.find("sizes");
  if (sizes == json.end() || !sizes->is_array()) return;
  for (const auto& size : *sizes) {
    if (!size.is_object()) continue;
    add_point(points, get<double>(size, "message_bytes").value_or(0),
              get<double>(size, "time_s").value_or(0));
  }
}

Result<LinkKnown> from_engine(const Json& json, const std::string& name) {
  Readings readings;
  LinkKnown points;
  const auto collectives = json.find("collectives");
  if (collectives != json.end() && collectives->is_array()) {
    for (const auto& collective : *collectives) {
      if (!collective.is_object()) continue;
      const auto operation = get<std::string>(collective, "operation").value_or("");
      if (operation == "all_gather") add_sizes(points.all_gather, collective);
      if (operation == "reduce_scatter") add_sizes(points.reduce_scatter, collective);
      const auto hidden = extremes(collective, "overlap", "hidden", 0, 1);
      for (const auto& [which, transfer] : kHidden) {
        if (hidden && operation == which) points.hidden_frac[transfer] = *hidden;
      }
      if (operation != "all_reduce") continue;
      const double n = get<double>(collective, "ranks").value_or(2);
      const auto sizes = collective.find("sizes");
      if (!(n >= 2) || n > 1e6 || sizes == collective.end() || !sizes->is_array()) continue;
      points.ranks = n;
      for (const auto& size : *sizes) {
        if (!size.is_object()) continue;
        const double time = get<double>(size, "time_s").value_or(0);
        readings.add(get<double>(size, "message_bytes").value_or(0), time,
                     get<double>(size, "time_low_s").value_or(time),
                     get<double>(size, "time_high_s").value_or(time), 2 * (n - 1) / n);
      }
    }
  }
  if (const auto pairs = json.find("pairs"); pairs != json.end() && pairs->is_array()) {
    for (const auto& pair : *pairs) {
      if (pair.is_object()) add_sizes(points.one_way, pair);
    }
  }
  bool several = false;
  if (const auto hosts = json.find("hosts"); hosts != json.end() && hosts->is_array()) {
    for (const auto& host : *hosts) several = several || host != hosts->front();
  }
  RW_TRY(LinkKnown known, readings.link(name, several));
  known.ranks = points.ranks;
  known.all_reduce = std::move(readings.points);
  known.all_gather = std::move(points.all_gather);
  known.reduce_scatter = std::move(points.reduce_scatter);
  known.one_way = std::move(points.one_way);
  known.hidden_frac = std::move(points.hidden_frac);
  known.together_factor = extremes(json, "together", "factor", 1, kMostRatio);
  return known;
}

Result<LinkKnown> from_iperf3(const Json& json, const std::string& name) {
  const auto end = json.find("end");
  if (end != json.end() && end->is_object()) {
    const auto sum = end->find("sum_received");
    if (sum != end->end() && sum->is_object()) {
      const auto bits = get<double>(*sum, "bits_per_second");
      if (bits && *bits >= 1 && *bits < 1e15) {
        LinkKnown known;
        known.name = name;
        const double bytes = *bits / 8;  // TCP's payload; a collective copies through the host too
        known.bytes_per_s = {0.85 * bytes, 0.6 * bytes, bytes};
        known.latency_s = 2e-4;
        known.measured = known.between_hosts = true;
        known.source = name;
        return known;
      }
    }
  }
  return Error{Errc::malformed, name + ": no end.sum_received.bits_per_second in it",
               "iperf3 -c HOST --json > link.json"};
}

/// nccl-tests: size(B) count type redop root time(us) algbw busbw #wrong …
Result<LinkKnown> from_nccl_tests(std::string_view text, const std::string& name) {
  Readings readings;
  for (const auto line : split(text, '\n')) {
    if (line.starts_with("#")) continue;
    std::vector<std::string_view> words;
    for (const auto word : split(line, ' ')) {
      if (!trim(word).empty()) words.push_back(trim(word));
    }
    if (words.size() < 8) continue;
    const auto bytes = to_number(words[0]);
    const auto time_us = to_number(words[5]);
    const auto algbw = to_number(words[6]);
    const auto busbw = to_number(words[7]);
    if (!bytes || !time_us || !algbw || !busbw || !(*algbw > 0) || !(*time_us > 0)) continue;
    const double time = *time_us * 1e-6;
    readings.add(*bytes, time, time, time, std::clamp(*busbw / *algbw, 0.1, 2.0));
  }
  return readings.link(name, false);
}

}  // namespace

Interval transfer_s(const LinkKnown& link, Transfer operation, double bytes, double ranks) {
  const Ring ring = ring_of(operation, ranks);
  const auto& points = operation == Transfer::all_reduce   ? link.all_reduce
                       : operation == Transfer::all_gather ? link.all_gather
                       : operation == Transfer::one_way    ? link.one_way
                                                           : link.reduce_scatter;
  const double seconds =
      points.empty() ? ring.steps * link.latency_s + ring.share * bytes / link.bytes_per_s.value
                     : between(points, bytes) * ring.share / ring_of(operation, link.ranks).share;
  const Interval& rate = link.bytes_per_s;
  return {seconds, seconds * rate.value / rate.high, seconds * rate.value / rate.low};
}

LinkKnown link_from(const LinkSpec& spec) {
  LinkKnown known;
  known.name = spec.name;
  known.bytes_per_s = {spec.usual_bytes_per_s, spec.low_bytes_per_s, spec.high_bytes_per_s};
  known.latency_s = spec.latency_s;
  known.between_hosts = spec.between_hosts;
  known.source = spec.source;
  return known;
}

Result<LinkKnown> read_link(std::string_view text, const std::string& name) {
  const auto start = text.find_first_not_of(" \t\r\n");
  if (start != std::string_view::npos && text[start] == '{') {
    auto json = parse_foreign_json(text, kMostBytes);
    if (!json) return std::move(json).error().at(name);
    if (json->contains("collectives")) return from_engine(*json, name);
    return from_iperf3(*json, name);
  }
  if (text.size() > kMostBytes) return Error{Errc::malformed, name + ": too large", ""};
  return from_nccl_tests(text, name);
}

Result<Addition> parse_addition(std::string_view text, const std::optional<LinkKnown>& measured) {
  Addition addition;
  addition.text = clean_text(trim(text), 120);
  const auto at = text.find('@');
  RW_TRY(addition.gpu, find_gpu(trim(text.substr(0, at))));
  if (at != std::string_view::npos) {
    const auto name = trim(text.substr(at + 1));
    if (measured && (name == "measured" || name.empty())) {
      addition.link = measured;
    } else if (name != "unknown") {
      RW_TRY(const LinkSpec spec, find_link(name));
      addition.link = link_from(spec);
      if (measured) {  // the user's own file is of that link
        addition.link = measured;
        addition.link->between_hosts = spec.between_hosts;
      }
    }
  } else if (measured) {
    addition.link = measured;
  }
  return addition;
}

}  // namespace rigwise
