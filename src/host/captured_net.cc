// Links: ping (Linux iputils, busybox, macOS, Windows) and iperf3 (text and JSON, TCP and UDP).
#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr double kMs = 1e-3, kPercent = 0.01;

std::string_view behind(std::string_view line, std::string_view mark) {
  const auto at = line.find(mark);
  return at == std::string_view::npos ? std::string_view() : line.substr(at + mark.size());
}

// ------------------------------------------------------------------------------------------- ping

/// "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.168 ms", Windows' "Reply from …: time<1ms"
std::optional<double> echo_ms(std::string_view line) {
  const bool reply = line.find(" bytes from ") != std::string_view::npos ||
                     line.find("Reply from ") != std::string_view::npos;
  if (!reply) return std::nullopt;
  auto time = behind(line, "time=");
  if (time.empty()) time = behind(line, "time<");
  return number_of(time);
}

/// "4 packets transmitted, 3 received, 25% packet loss": the number before each word.
bool ping_counts(const Line& line, std::string_view text, std::string_view target, Sink& sink) {
  struct Count {
    std::string_view words, quantity, unit;
    double scale;
  };
  constexpr std::array kCounts = {Count{"transmitted", "packets_sent", "count", 1},
                                  Count{"received", "packets_received", "count", 1},
                                  Count{"packet loss", "packet_loss_frac", "1", kPercent},
                                  Count{"errors", "packet_errors", "count", 1},
                                  Count{"duplicates", "packet_duplicates", "count", 1}};
  bool any = false;
  for (const auto part : split(text, ',')) {
    for (const auto& count : kCounts) {
      if (part.find(count.words) == std::string_view::npos) continue;
      const auto number =
          number_of(part[part.find_first_not_of(" +")] == '+' ? behind(part, "+") : part);
      if (!number) continue;
      any = sink.observe(line, target, count.quantity, *number * count.scale, count.unit) || any;
    }
  }
  return any;
}

/// "rtt min/avg/max/mdev = 0.037/0.071/0.168/0.056 ms", macOS' "round-trip min/avg/max/stddev = …"
bool ping_times(const Line& line, std::string_view text, std::string_view target, Sink& sink) {
  const auto equals = text.find(" = ");
  if (equals == std::string_view::npos) return false;
  const auto head = trim(text.substr(0, equals));
  const auto names = split(head.substr(head.rfind(' ') + 1), '/');
  const auto values = split(trim(text.substr(equals + 3)), '/');
  if (names.size() > values.size() || names.size() < 3) return false;
  const auto last = words_of(values.back());
  const double scale = last.size() > 1 && last[1].starts_with("s")    ? 1
                       : last.size() > 1 && last[1].starts_with("us") ? 1e-6
                                                                      : kMs;
  bool any = false;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto value = number_of(values[i]);
    const std::string name = lower(names[i]);
    if (!value || name.size() > 8) continue;
    const std::string quantity = "rtt_" + (name == "stddev" ? "mdev" : clean_text(name, 16)) + "_s";
    any = sink.observe(line, target, quantity, *value * scale, "s") || any;
  }
  return any;
}

void read_ping(const Section& section, Sink& sink) {
  std::string target;
  bool summary = true;
  for (const auto& line : section.lines) {
    auto text = trim(line.text);
    if (text.empty()) continue;
    std::optional<double> unix_s;
    if (text.front() == '[') {  // -D: [1795538823.019973]
      std::size_t length = 0;
      unix_s = sink.instant(text.substr(1), &length);
      if (unix_s) text = trim(text.substr(std::min(length + 2, text.size())));
    }
    if (text.starts_with("PING ") || text.starts_with("Pinging ")) {
      const auto words = words_of(text);
      target = words.size() > 1 ? clean_text(words[1].substr(0, words[1].find(':')), 256)
                                : std::string();
      summary = false;
      sink.used();
    } else if (const auto ms = echo_ms(text)) {
      if (target.empty()) {
        const auto from = words_of(behind(text, "from "));
        target = from.empty()
                     ? "?"
                     : clean_text(from[0].substr(0, from[0].find_last_not_of(':') + 1), 256);
        summary = false;
      }
      sink.observe(line, target, "rtt_s", *ms * kMs, "s", unix_s);
      sink.used();
    } else if (text.find("packets transmitted") != std::string_view::npos) {
      summary = true;
      ping_counts(line, text, target, sink) ? sink.used() : sink.bad(line);
    } else if (text.find("min/avg/max") != std::string_view::npos) {
      ping_times(line, text, target, sink) ? sink.used() : sink.bad(line);
    } else if (text.starts_with("---") || text.find("imestamp") != std::string_view::npos) {
      sink.passed();
    } else if (text.find("nreachable") != std::string_view::npos ||
               text.find("timed out") != std::string_view::npos ||
               text.find("no answer") != std::string_view::npos ||
               text.find("timeout") != std::string_view::npos) {
      sink.used();  // a lost packet: the summary counts it
    } else {
      sink.bad(line);
    }
  }
  if (!summary) sink.note("ping: no summary in it, the file ends before it");
}

// ----------------------------------------------------------------------------------------- iperf3

/// "8.77 Gbits/sec" → bytes/s; iperf3 counts rates in powers of 1000, -f M's MBytes/sec in 1024.
std::optional<double> rate_of(std::string_view number, std::string_view unit) {
  const auto value = number_of(number);
  const auto slash = unit.find('/');
  if (!value || slash == std::string_view::npos || unit.substr(slash) != "/sec")
    return std::nullopt;
  auto of = unit.substr(0, slash);
  const bool bits = of.ends_with("bits"), bytes = of.ends_with("Bytes");
  if (!bits && !bytes) return std::nullopt;
  of.remove_suffix(bits ? 4 : 5);
  constexpr std::string_view kPowers = "KMGT";
  double scale = 1;
  if (!of.empty()) {
    const auto power = kPowers.find(of.front());
    if (power == std::string_view::npos) return std::nullopt;
    scale = std::pow(bits ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  }
  return *value * scale / (bits ? 8 : 1);
}

struct Transfer {
  std::string id = {};  // "5", "SUM"
  double from_s = 0, to_s = 0, bytes_per_s = 0;
  std::optional<double> retransmits, jitter_s, lost, sent;
  bool sender = false, receiver = false;
};

/// "[  5]   0.00-3.00   sec  3.06 GBytes  8.77 Gbits/sec   42             sender"
std::optional<Transfer> transfer_of(std::string_view text) {
  const auto close = text.find(']');
  if (!text.starts_with("[") || close == std::string_view::npos || close > 12) return std::nullopt;
  Transfer row;
  row.id = clean_text(trim(text.substr(1, close - 1)), 16);
  auto rest = text.substr(close + 1);
  if (rest.starts_with("["))
    rest = rest.substr(std::min(rest.find(']'), rest.size() - 1) + 1);  // --bidir
  const auto words = words_of(rest);
  if (words.size() < 6 || words[1] != "sec") return std::nullopt;
  const auto dash = words[0].find('-');
  const auto from = number_of(words[0].substr(0, dash));
  const auto to =
      dash == std::string_view::npos ? std::nullopt : number_of(words[0].substr(dash + 1));
  const auto rate = rate_of(words[4], words[5]);
  if (!from || !to || !rate) return std::nullopt;
  row.from_s = *from;
  row.to_s = *to;
  row.bytes_per_s = *rate;
  row.sender = words.back() == "sender";
  row.receiver = words.back() == "receiver";
  if (words.size() > 6) row.retransmits = to_number(words[6]);
  for (std::size_t i = 7; i < words.size(); ++i) {  // UDP: "0.016 ms  0/153 (0%)"
    if (words[i] == "ms") {
      row.retransmits.reset();
      if (const auto ms = number_of(words[i - 1])) row.jitter_s = *ms * kMs;
    }
    const auto slash = words[i].find('/');
    if (slash == std::string_view::npos) continue;
    row.lost = number_of(words[i].substr(0, slash));
    row.sent = number_of(words[i].substr(slash + 1));
  }
  return row;
}

/// One test's rows: the sum of its streams where there is one, else its only stream.
class Test {
 public:
  explicit Test(Sink& sink) : sink_(sink) {}
  void target(std::string name) {
    flush();
    target_ = std::move(name);
  }
  void datagrams() { datagrams_ = true; }
  void add(const Line& line, Transfer row, std::optional<double> unix_s) {
    if (datagrams_ && !row.sender && !row.receiver) row.retransmits.reset();
    if (rows_.size() < 100000) rows_.push_back({line, std::move(row), unix_s});
  }
  void flush() {
    const bool summed =
        std::any_of(rows_.begin(), rows_.end(), [](const Row& r) { return r.row.id == "SUM"; });
    for (const auto& [line, row, unix_s] : rows_) {
      if (summed && row.id != "SUM") continue;
      // old versions do not name the side; their last row is the whole
      const bool last = &row == &rows_.back().row && row.from_s == 0;
      say(line, row, unix_s, last);
    }
    rows_.clear();
    datagrams_ = false;
  }

 private:
  struct Row {
    Line line;
    Transfer row;
    std::optional<double> unix_s;
  };
  void say(const Line& line, const Transfer& row, std::optional<double> unix_s, bool last) {
    const auto to = target_.empty() ? std::string("iperf3") : target_;
    const std::string_view what = row.sender     ? "sent_bytes_per_s"
                                  : row.receiver ? "received_bytes_per_s"
                                                 : "interval_bytes_per_s";
    sink_.observe(line, to, what, row.bytes_per_s, "bytes/s", unix_s);
    if (!row.sender && !row.receiver && !last) return;
    if (row.retransmits) sink_.observe(line, to, "retransmits", *row.retransmits, "count");
    if (row.sender && datagrams_) return;
    if (row.jitter_s) sink_.observe(line, to, "jitter_s", *row.jitter_s, "s");
    if (row.lost && row.sent && *row.sent > 0) {
      sink_.observe(line, to, "datagram_loss_frac", *row.lost / *row.sent, "1");
    }
  }
  Sink& sink_;
  std::string target_;
  std::vector<Row> rows_;
  bool datagrams_ = false;
};

void read_iperf3(const Section& section, Sink& sink) {
  Test test(sink);
  for (const auto& line : section.lines) {
    auto text = trim(line.text);
    if (text.empty()) continue;
    std::optional<double> unix_s;
    if (!text.starts_with("[")) {  // --timestamps
      std::size_t length = 0;
      if ((unix_s = sink.instant(text, &length))) text = trim(text.substr(length));
    }
    if (const auto host = behind(text, "Connecting to host "); !host.empty()) {
      test.target(clean_text(host.substr(0, host.find(',')), 256));
      sink.used();
    } else if (text.starts_with("Accepted connection from ")) {
      const auto from = behind(text, "from ");
      test.target(clean_text(from.substr(0, from.find(',')), 256));
      sink.used();
    } else if (text.find("error - ") != std::string_view::npos) {
      sink.note("iperf3: " + clean_text(behind(text, "error - "), 200));
      sink.used();
    } else if (text.find("Datagrams") != std::string_view::npos && text.starts_with("[ ID]")) {
      test.datagrams();
      sink.passed();
    } else if (auto row = transfer_of(text)) {
      test.add(line, std::move(*row), unix_s);
      sink.used();
    } else {
      sink.passed();
    }
  }
  test.flush();
}

void json_sum(const Json& end, const char* name, std::string_view quantity, const std::string& to,
              Sink& sink) {
  const auto sum = end.find(name);
  if (sum == end.end() || !sum->is_object()) return;
  // the side that only received states zero sent bytes: it does not know
  if (const auto bits = get<double>(*sum, "bits_per_second"); bits && *bits > 0) {
    sink.observe({}, to, quantity, *bits / 8, "bytes/s");
  }
  if (const auto again = get<double>(*sum, "retransmits")) {
    sink.observe({}, to, "retransmits", *again, "count");
  }
  if (std::string_view(name) != "sum") return;
  if (const auto jitter = get<double>(*sum, "jitter_ms")) {
    sink.observe({}, to, "jitter_s", *jitter * kMs, "s");
  }
  if (const auto lost = get<double>(*sum, "lost_percent")) {
    sink.observe({}, to, "datagram_loss_frac", *lost * kPercent, "1");
  }
}

}  // namespace

const Form kPing = {
    "ping",
    [](const Lines& lines, std::size_t at) {
      auto text = trim(lines[at].text);
      if (text.starts_with("[1") && text.find("] ") != std::string_view::npos) {
        text = text.substr(text.find("] ") + 2);
      }
      return (text.starts_with("PING ") && text.find('(') != std::string_view::npos) ||
             text.starts_with("Pinging ") ||
             (text.find(" bytes from ") != std::string_view::npos && echo_ms(text));
    },
    read_ping};

const Form kIperf3 = {"iperf3",
                      [](const Lines& lines, std::size_t at) {
                        const auto text = lines[at].text.substr(0, 256);
                        return text.find("Connecting to host ") != std::string_view::npos ||
                               text.starts_with("Server listening on ") ||
                               text.starts_with("iperf3: error - ") ||
                               text.find("[ ID] Interval") != std::string_view::npos;
                      },
                      read_iperf3};

bool read_iperf3_json(const Json& json, Sink& sink) {
  const auto start = json.find("start"), end = json.find("end");
  if (start == json.end() || end == json.end() || !start->is_object() || !end->is_object())
    return false;
  const auto version = get<std::string>(*start, "version");
  if (!version || !version->starts_with("iperf")) return false;
  std::string to = "iperf3";
  for (const char* key : {"connecting_to", "accepted_connection"}) {
    const auto peer = start->find(key);
    if (peer == start->end() || !peer->is_object()) continue;
    if (const auto host = get<std::string>(*peer, "host")) to = clean_text(*host, 256);
  }
  if (const auto system = get<std::string>(*start, "system_info")) {
    const auto words = words_of(*system);
    if (words.size() > 1) sink.into().host = clean_text(words[1], 100);
  }
  std::optional<double> began_unix_s;
  if (const auto stamp = start->find("timestamp"); stamp != start->end() && stamp->is_object()) {
    began_unix_s = get<double>(*stamp, "timesecs");
  }
  if (const auto error = get<std::string>(json, "error"))
    sink.note("iperf3: " + clean_text(*error, 200));
  if (const auto intervals = json.find("intervals");
      intervals != json.end() && intervals->is_array()) {
    for (const auto& interval : *intervals) {
      if (!interval.is_object()) continue;
      const auto sum = interval.find("sum");
      if (sum == interval.end() || !sum->is_object()) continue;
      const auto bits = get<double>(*sum, "bits_per_second");
      const auto at_s = get<double>(*sum, "end");
      if (!bits) continue;
      const auto unix_s =
          began_unix_s && at_s ? std::optional(*began_unix_s + *at_s) : std::nullopt;
      sink.observe({}, to, "interval_bytes_per_s", *bits / 8, "bytes/s", unix_s);
    }
  }
  json_sum(*end, "sum_sent", "sent_bytes_per_s", to, sink);
  json_sum(*end, "sum_received", "received_bytes_per_s", to, sink);
  if (!end->contains("sum_received")) {
    json_sum(*end, "sum", "received_bytes_per_s", to, sink);
  } else if (end->contains("sum")) {  // UDP: its jitter and losses stand there
    const auto& sum = (*end)["sum"];
    if (sum.is_object()) {
      Json lost;
      for (const char* key : {"jitter_ms", "lost_percent"}) {
        if (sum.contains(key)) lost["sum"][key] = sum[key];
      }
      if (!lost.empty()) json_sum(lost, "sum", "", to, sink);
    }
  }
  return true;
}

}  // namespace rigwise::captured
