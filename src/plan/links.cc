// Links that were measured: three programs' output, hostile until parsed.
#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "rigwise/plan_options.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostBytes = 16 << 20;
constexpr double kLargeBytes = 4e6;  // from here on a message's rate is the link's, not its latency

/// Largest message's rate, its quartiles as the interval, and the smallest one's time as latency.
struct Readings {
  double bytes = 0, rate = 0, low = 0, high = 0, small_bytes = 1e300, small_s = 0;
  void add(double message_bytes, double time_s, double low_s, double high_s, double factor) {
    if (!(message_bytes > 0) || !(time_s > 0)) return;
    if (message_bytes < small_bytes) small_bytes = message_bytes, small_s = time_s;
    if (message_bytes > bytes) {
      bytes = message_bytes;
      rate = factor * message_bytes / time_s;
      low = factor * message_bytes / std::max(high_s, time_s);
      high = factor * message_bytes / std::max(1e-12, std::min(low_s, time_s));
    }
  }
  Result<LinkKnown> link(const std::string& name, bool hosts) const {
    if (bytes < kLargeBytes) {
      return Error{Errc::malformed, name + ": no all-reduce of 4 MB or more stands in it",
                   "rigwise-engine link --ranks 2 --sizes 8,64MiB --json > link.json"};
    }
    LinkKnown known;
    known.name = name;
    // training's messages are smaller and meet other traffic: never less than 5 % either way
    known.bytes_per_s = {rate, std::min(low, 0.95 * rate), std::max(high, 1.05 * rate)};
    known.latency_s = small_bytes < 65536 ? small_s / 2 : 3e-5;
    known.measured = true;
    known.between_hosts = hosts;
    known.source = name;
    return known;
  }
};

Result<LinkKnown> from_engine(const Json& json, const std::string& name) {
  Readings readings;
  const auto collectives = json.find("collectives");
  if (collectives != json.end() && collectives->is_array()) {
    for (const auto& collective : *collectives) {
      if (!collective.is_object() ||
          get<std::string>(collective, "operation").value_or("") != "all_reduce") {
        continue;
      }
      const double n = get<double>(collective, "ranks").value_or(2);
      const auto sizes = collective.find("sizes");
      if (n < 2 || sizes == collective.end() || !sizes->is_array()) continue;
      for (const auto& size : *sizes) {
        if (!size.is_object()) continue;
        const double time = get<double>(size, "time_s").value_or(0);
        readings.add(get<double>(size, "message_bytes").value_or(0), time,
                     get<double>(size, "time_low_s").value_or(time),
                     get<double>(size, "time_high_s").value_or(time), 2 * (n - 1) / n);
      }
    }
  }
  bool several = false;
  if (const auto hosts = json.find("hosts"); hosts != json.end() && hosts->is_array()) {
    for (const auto& host : *hosts) several = several || host != hosts->front();
  }
  return readings.link(name, several);
}

Result<LinkKnown> from_iperf3(const Json& json, const std::string& name) {
  const auto end = json.find("end");
  if (end != json.end() && end->is_object()) {
    const auto sum = end->find("sum_received");
    if (sum != end->end() && sum->is_object()) {
      const auto bits = get<double>(*sum, "bits_per_second");
      if (bits && *bits > 0) {
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
